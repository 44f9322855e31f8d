import re
from xml.etree import ElementTree

import numpy as np
import pytest

from pipeline.evaluation.accuracy import finding_numbers
from pipeline.evaluation.curves import MOST_POINTS, curves_of
from pipeline.results import figures
from pipeline.sections import EvaluateSection
from tests.evaluation.studies import study

CASES = study(np.random.default_rng(0), 80)
NUMBERS = finding_numbers(CASES, EvaluateSection(resamples=50))


def drawn(finding: str = "nodule") -> dict[str, str]:
    curves = curves_of(CASES)
    assert curves is not None
    return figures.of_finding(finding, NUMBERS, curves)


def test_figures_are_svg_without_fixed_colours_fonts_scripts_or_requests() -> None:
    found = drawn()
    assert len(found) == 4
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


def test_the_same_numbers_give_the_same_bytes() -> None:
    assert drawn() == drawn()


@pytest.mark.parametrize("finding", ["a & b <c>", "$x$", "x" * 80])
def test_names_are_escaped_shortened_and_never_formulas(finding: str) -> None:
    for svg in drawn(finding).values():
        ElementTree.fromstring(svg)
    assert "<c>" not in drawn(finding)["Predicted probabilities"]


def test_curves_are_thinned_and_keep_their_ends() -> None:
    curves = curves_of(study(np.random.default_rng(1), 20_000))
    assert curves is not None
    for name in ("false_positive_rate", "true_positive_rate"):
        assert len(curves[name]) <= MOST_POINTS
        assert (curves[name][0], curves[name][-1]) == (0, 1)
    assert curves["positives"].sum() + curves["negatives"].sum() == 20_000


def test_one_class_has_no_curves() -> None:
    assert curves_of(CASES.subset(CASES.y == 1)) is None
