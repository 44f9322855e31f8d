import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from pipeline.evaluation.abstention import abstention
from pipeline.evaluation.accuracy import finding_numbers
from pipeline.evaluation.curves import GRID, MOST_POINTS, curves_of
from pipeline.results import figures
from pipeline.results.drawing import Drawing, clear, page_svg, save
from pipeline.results.language import Language
from pipeline.results.robustness import robustness_drawing
from pipeline.sections import EvaluateSection
from tests.evaluation.studies import study
from tests.results.test_report import evaluation, full_report

CASES = study(np.random.default_rng(0), 80)
NUMBERS = finding_numbers(CASES, EvaluateSection(resamples=50))
NUMBERS["abstention"] = abstention(CASES, "no sets", EvaluateSection())


def drawings(finding: str = "nodule") -> list[Drawing]:
    curves = curves_of(CASES)
    assert curves is not None
    groups = {v: {"findings": {finding: {"auroc": NUMBERS["auroc"], "too_small": v == "B"}}} for v in "AB"}
    return figures.of_finding(finding, NUMBERS, curves, {"site": groups})


def drawn(finding: str = "nodule") -> dict[str, str]:
    return {d.name: page_svg(d, str) for d in drawings(finding)}


def test_figures_are_svg_without_fixed_colours_fonts_scripts_or_requests() -> None:
    found = drawn()
    assert list(found) == [
        "roc", "probabilities", "reliability", "precision_recall", "decision_curve", "referral", "subgroups",
    ]  # fmt: skip
    for svg in found.values():
        ElementTree.fromstring(svg)
        assert not re.search(r"#[0-9a-f]{6}\b(?!\))", re.sub(r"url\(#\w+\)|href=\"#\w+\"", "", svg))
        assert "DejaVu" not in svg
        assert "<script" not in svg
        assert set(re.findall(r"https?://[^\"' ]+", svg)) <= {
            "http://www.w3.org/2000/svg",
            "http://www.w3.org/1999/xlink",
        }
        assert 'role="img"' in svg


def test_figures_of_an_earlier_report_are_known_by_their_names(tmp_path: Path) -> None:
    disturbed = robustness_drawing(full_report(evaluation(), "test", Language("en")).robustness["nodule"])
    names = save({"a/../b": [*drawings(), *disturbed]}, tmp_path / "figures", str)
    assert "robustness" in names[-1]
    assert clear(tmp_path / "figures", keep=names) == 0
    assert clear(tmp_path / "figures") == 3 * len(names)
    assert not (tmp_path / "figures").exists()
    assert clear(tmp_path / "figures") == 0


def test_every_figure_is_saved_with_its_numbers(tmp_path: Path) -> None:
    names = save({"a/../b": drawings()}, tmp_path, str)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        f"{n}.{s}" for n in names for s in ("csv", "png", "svg")
    )
    assert names[0] == "01_a_.._b_roc"
    curve = pd.read_csv(tmp_path / "01_a_.._b_decision_curve.csv")
    assert curve["net_benefit"].tolist() == pytest.approx(
        [r["net_benefit"] for r in NUMBERS["decision_curve"]], abs=1e-5
    )
    first = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    save({"a/../b": drawings()}, tmp_path, str)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == first


def test_bands_lie_round_their_curve() -> None:
    curves = curves_of(CASES)
    assert curves is not None
    for x, y, band in (
        ("false_positive_rate", "true_positive_rate", "roc_band"),
        ("recall", "precision", "precision_band"),
    ):
        order = np.argsort(curves[x], kind="stable")
        at = np.interp(GRID, curves[x][order], curves[y][order])
        low, high = curves[band]
        assert ((low <= at + 0.08) & (at - 0.08 <= high)).mean() > 0.95, band
        assert 0.02 < (high - low).mean() < 0.4


def test_the_same_numbers_give_the_same_bytes() -> None:
    assert drawn() == drawn()


@pytest.mark.parametrize("finding", ["a & b <c>", "$x$", "x" * 80])
def test_names_are_escaped_shortened_and_never_formulas(finding: str) -> None:
    for svg in drawn(finding).values():
        ElementTree.fromstring(svg)
    assert "<c>" not in drawn(finding)["probabilities"]


def test_curves_are_thinned_and_keep_their_ends() -> None:
    curves = curves_of(study(np.random.default_rng(1), 20_000))
    assert curves is not None
    for name in ("false_positive_rate", "true_positive_rate"):
        assert len(curves[name]) <= MOST_POINTS
        assert (curves[name][0], curves[name][-1]) == (0, 1)
    assert curves["positives"].sum() + curves["negatives"].sum() == 20_000


def test_one_class_has_no_curves() -> None:
    assert curves_of(CASES.subset(CASES.y == 1)) is None
