"""The evaluation: a checked table of predictions and labels -> the content of evaluation.json."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import pandas as pd

from pipeline.domain import OperatingPoint, UsageError
from pipeline.evaluation.abstention import abstention, sets_of
from pipeline.evaluation.accuracy import finding_numbers
from pipeline.evaluation.cases import cases_of, labelled, numbered
from pipeline.evaluation.class_sets import class_sets
from pipeline.evaluation.differences import subgroup_tests
from pipeline.evaluation.operating_point import choose
from pipeline.evaluation.overall import overall
from pipeline.evaluation.subgroups import subgroups
from pipeline.evaluation.table import NO_SPLIT, findings_of, subgroup_columns
from pipeline.sections import EvaluateSection

Evaluation: TypeAlias = dict[str, Any]

ORDER = ("test", "oof", "all", "tune")
"""Splits by how much their numbers are worth; the first one present is the headline."""


def assess(
    table: pd.DataFrame, section: EvaluateSection, points: Mapping[str, OperatingPoint], splits: Sequence[str] = ()
) -> Evaluation:
    """The content of evaluation.json: split -> findings, counts, subgroups.

    Args:
        table: As `pipeline.evaluation.table.check_predictions` returns it.
        section: Target, level, resamples and seed.
        points: Frozen operating points by finding.
        splits: Which splits; empty takes every one that was held out (all but train).

    Raises:
        UsageError: If a split is not there, or a threshold was chosen on the test split.
    """
    on_test = sorted(f for f, point in points.items() if point.chosen_on == "test")
    if on_test:
        raise UsageError(
            f"the operating points of {', '.join(on_test)} were chosen on the test split: its numbers would flatter; "
            "choose them on the tune split"
        )
    wanted = splits or held_out(table)
    there = set(table["split"].unique())
    missing = [split for split in wanted if split not in there]
    if missing or not wanted:
        names = ", ".join(missing) or "test, tune or oof"
        raise UsageError(f"no rows of split {names}; the predictions hold: {', '.join(sorted(there))}")
    tune = table[(table["split"] == "tune") & (table["status"] == "ok")]
    return {split: _split(table[table["split"] == split], tune, section, points) for split in wanted}


def held_out(table: pd.DataFrame) -> list[str]:
    """The splits that the model was not trained on, the most telling first."""
    others = set(table["split"].unique()) - {"train", NO_SPLIT}
    return [s for s in ORDER if s in others] + sorted(others - set(ORDER))


def choose_points(table: pd.DataFrame, target: str, split: str = "tune") -> dict[str, OperatingPoint]:
    """Operating points chosen on one split of a checked table; none where it has none, or one class only."""
    tune = table[(table["split"] == split) & (table["status"] == "ok")]
    points = {
        f: choose(f, tune[f"y_{f}"].to_numpy(float), tune[f"p_{f}"].to_numpy(float), target, split)
        for f in findings_of(table.columns)
    }
    return {finding: point for finding, point in points.items() if point is not None}


def task_of(findings: Sequence[str]) -> str:
    """binary, multiclass (all findings are `<label>=<class>` of one label) or multilabel."""
    if len(findings) == 1:
        return "binary"
    labels = {finding.partition("=")[0] for finding in findings}
    return "multiclass" if len(labels) == 1 and all("=" in finding for finding in findings) else "multilabel"


def _split(
    rows: pd.DataFrame, tune: pd.DataFrame, section: EvaluateSection, points: Mapping[str, OperatingPoint]
) -> dict[str, Any]:
    findings = findings_of(rows.columns)
    scored = rows[rows["status"] == "ok"]
    known = scored[scored[[f"y_{f}" for f in findings]].notna().any(axis=1)]
    # Numbers instead of names, and a patient's rows together: with a million rows both are worth minutes.
    known = known.assign(patient=numbered(known["patient"])).sort_values("patient", kind="stable")
    cases = {f: cases_of(known, f, points, section.target) for f in findings}
    found: dict[str, Any] = {
        "findings": {finding: finding_numbers(case, section) for finding, case in cases.items()},
        "unit": section.unit,
        "n_scans": len(known),
        "n_patients": int(known["patient"].nunique()),
        "n_rejected": int((rows["status"] != "ok").sum()),
        "n_unlabelled": len(scored) - len(known),
        "subgroups": subgroups(known, cases, subgroup_columns(rows), section),
    }
    found["subgroup_tests"] = subgroup_tests(known, cases, found["subgroups"])
    for finding, case in cases.items():
        sets = sets_of(labelled(known, finding), labelled(tune, finding), finding, section.coverage)
        found["findings"][finding]["abstention"] = abstention(case, sets, section)
    if len(findings) > 1:
        found["overall"] = overall(known, findings, task_of(findings), section)
        if task_of(findings) == "multiclass":
            found["overall"]["prediction_sets"] = class_sets(known, tune, findings, section)
    return found
