"""Whatever a small table holds, its evaluation has honest numbers or reasons, and never a crash or a NaN."""

import json
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from pipeline.domain import OperatingPoint
from pipeline.evaluation.assess import assess
from pipeline.evaluation.table import check_predictions
from pipeline.results.language import Language
from pipeline.results.report import Report, render
from pipeline.sections import EvaluateSection
from tests.evaluation.studies import table

PROBABILITY = st.sampled_from(["0.0", "0.1", "0.5", "0.500001", "0.9", "1.0"])
LABEL = st.sampled_from(["0", "1", ""])
ROW = st.fixed_dictionaries({
    "y_a=1": LABEL, "p_a=1": PROBABILITY, "y_a=2": LABEL, "p_a=2": PROBABILITY,
    "split": st.sampled_from(["test", "test", "tune", "oof"]), "fold": st.sampled_from(["0", "1"]),
    "status": st.sampled_from(["ok", "ok", "ok", "rejected"]), "patient": st.sampled_from("abcdefgh"),
    "site": st.sampled_from(["A", "B", ""]),
})  # fmt: skip


def of_rows(rows: list[dict[str, str]], findings: tuple[str, ...]) -> pd.DataFrame:
    found = pd.DataFrame(rows, dtype=str).assign(scan_id=[f"s{k}" for k in range(len(rows))])
    return check_predictions(found.drop(columns=[f"{k}_{f}" for f in {"a=1", "a=2"} - {*findings} for k in "yp"]), "P")


def measures_of(node: Any) -> Iterator[dict[str, Any]]:
    """Every metric anywhere in an evaluation."""
    if isinstance(node, dict):
        if {"value", "low", "high"} <= set(node):
            yield node
        for child in node.values():
            yield from measures_of(child)


@settings(max_examples=40, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(
    rows=st.lists(ROW, min_size=1, max_size=14),
    findings=st.sampled_from([("a=1",), ("a=1", "a=2")]),
    interval=st.sampled_from(["student", "percentile", "bca"]),
    pointed=st.booleans(),
)
def test_small_tables_give_numbers_or_reasons(
    rows: list[dict[str, str]], findings: tuple[str, ...], interval: str, pointed: bool
) -> None:
    section = EvaluateSection(resamples=20, interval=interval, prevalence=0.1)
    points = {f: OperatingPoint(f, 0.5, "youden") for f in findings} if pointed else {}
    found = assess(of_rows(rows, findings), section, points)
    json.dumps(found, allow_nan=False)
    for one in measures_of(found):
        if one["value"] is None or one["low"] is None:
            assert one["low"] is None
            assert one["reason"]
        else:
            assert one["low"] - 1e-9 <= one["high"]
            assert interval != "student" or one["low"] - 1e-9 <= one["value"] <= one["high"] + 1e-9
    for split in found:
        assert "<h1>" in render(Report("small", found, split, {}, say=Language("it")))


def multiclass(order: list[str]) -> pd.DataFrame:
    rows = [{"y_a=1": str(k % 2), "p_a=1": f"{0.21 + 0.06 * k:.2f}", "y_a=2": str(1 - k % 2),
             "p_a=2": f"{0.79 - 0.06 * k:.2f}", "split": "test", "patient": f"p{k}"} for k in range(10)]  # fmt: skip
    columns = [f"{kind}_a={name}" for name in order for kind in "yp"]
    return check_predictions(pd.DataFrame(rows)[[*columns, "split", "patient"]].assign(scan_id=list("abcdefghij")), "P")


def test_the_order_of_the_classes_changes_no_number() -> None:
    one, other = (
        assess(multiclass(order), EvaluateSection(resamples=30), {})["test"] for order in (["1", "2"], ["2", "1"])
    )
    assert one["findings"] == other["findings"]
    for name in ("accuracy", "balanced_accuracy", "macro_auroc", "micro_auroc"):
        assert one["overall"][name] == other["overall"][name]
    assert other["overall"]["confusion"]["classes"] == ["a=2", "a=1"]


def test_a_group_whose_labels_are_all_missing_has_a_reason_and_an_empty_column_is_no_group() -> None:
    rows = table([0, 1, 0, 1, 0, 1], [0.1, 0.9, 0.2, 0.8, 0.3, 0.7], site=["A", "A", "A", "A", "B", "B"], ward=[""] * 6)
    rows = rows.assign(y_mass=["1", "0", "1", "0", "", ""], p_mass=["0.5", "0.4", "0.6", "0.3", "0.2", "0.1"])
    found = assess(check_predictions(rows, "P"), EvaluateSection(resamples=20), {})["test"]["subgroups"]
    assert set(found) == {"site"}
    empty = found["site"]["B"]["findings"]["mass"]
    assert (empty["n_scans"], empty["too_small"]) == (0, True)
    assert (empty["auroc"]["value"], empty["auroc"]["reason"]) == (None, "no labelled scans")


@pytest.mark.parametrize("p", ["0.5", "0.0", "1.0"])
def test_equal_probabilities_rank_nothing(p: str) -> None:
    rows = table([0, 1] * 10, [0.5] * 20).assign(p_nodule=p)
    numbers = assess(check_predictions(rows, "P"), EvaluateSection(resamples=50), {})["test"]["findings"]["nodule"]
    assert numbers["auroc"]["value"] == 0.5
    assert numbers["auroc"]["low"] < 0.3 < 0.7 < numbers["auroc"]["high"]
    assert "no finite fit" in numbers["calibration"]["slope"]["reason"]


@pytest.mark.parametrize("absent", ["1", "2"])
def test_a_class_without_scans_leaves_the_mean_recall_undefined(absent: str) -> None:
    rows = multiclass(["1", "2"])
    there = rows[rows[f"y_a={absent}"] == 0].reset_index(drop=True)
    found = assess(there, EvaluateSection(resamples=30), {})["test"]["overall"]
    assert (found["balanced_accuracy"]["value"], found["balanced_accuracy"]["reason"]) == (None, "a class has no scans")
    assert found["accuracy"]["value"] is not None
