"""Rows of the report's tables, from the dictionaries of evaluation.json."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.results.words import MEANINGS, NAMES, Measure, plain

UNIT_RANGE = frozenset({
    "auroc", "average_precision", "sensitivity", "specificity", "ppv", "npv", "accuracy", "balanced_accuracy", "f1",
    "brier", "macro_auroc", "macro_average_precision", "ece", "partial_auroc", "micro_auroc", "micro_average_precision",
    "top_2_accuracy", "top_3_accuracy", "top_5_accuracy",
})  # fmt: skip
"""Metrics from 0 to 1, whose interval can be drawn on a common scale."""


@dataclass(frozen=True, slots=True)
class Row:
    """A metric as it is shown.

    Attributes:
        name: In words.
        meaning: One clause for readers who do not know it.
        value: Text; a dash where undefined.
        interval: Text; the reason where there is none.
        band: (low, value, high) in percent of a 0 to 1 scale, None where nothing can be drawn.
        method: How the interval was made.
        n: Scans that count.
    """

    name: str
    meaning: str
    value: str
    interval: str
    band: tuple[float, float, float] | None
    method: str
    n: int


def row(key: str, found: Measure, name: str = "", places: int = 2) -> Row:
    """One metric of evaluation.json."""
    value, low, high = found["value"], found["low"], found["high"]
    drawn = key in UNIT_RANGE and value is not None
    ends = (value, value) if low is None else (low, high)
    band = tuple(round(100 * x, 2) for x in (ends[0], value, ends[1])) if drawn else None
    interval = f"{plain(low, places)} to {plain(high, places)}" if low is not None else str(found.get("reason", ""))
    return Row(
        name or NAMES[key], MEANINGS.get(key, ""), plain(value, places), interval,
        band, "" if found["method"] == "none" else found["method"], found["n"],
    )  # fmt: skip


def tiles(numbers: Mapping[str, Any]) -> list[Row]:
    """The five numbers of the first screen."""
    if "overall" not in numbers:
        found = next(iter(numbers["findings"].values()))
        return [row(key, found[key]) for key in ("auroc", "sensitivity", "specificity", "ppv", "npv")]
    over, findings = numbers["overall"], numbers["findings"]
    keys: tuple[str, ...] = ("macro_auroc", "macro_average_precision", "micro_auroc")
    if "accuracy" in over:
        keys = ("macro_auroc", "accuracy", "balanced_accuracy", "macro_average_precision")
    rows = [row(key, over[key]) for key in keys]
    ranked = sorted(
        (f for f in findings if findings[f]["auroc"]["value"] is not None), key=lambda f: findings[f]["auroc"]["value"]
    )
    ends = [("Lowest AUROC", ranked[:1]), ("Highest AUROC", ranked[-1:])]
    rows += [row("auroc", findings[f]["auroc"], f"{name}: {f}") for name, chosen in ends for f in chosen]
    return rows[:5]


def finding_rows(found: Mapping[str, Any]) -> list[Row]:
    """Every metric of one finding."""
    keys = (
        "auroc", "partial_auroc", "average_precision", "sensitivity", "specificity", "ppv", "npv", "accuracy",
        "balanced_accuracy", "f1", "mcc", "positive_likelihood_ratio", "negative_likelihood_ratio", "brier",
    )  # fmt: skip
    rows = [row(key, found[key], places=3 if key == "brier" else 2) for key in keys if key in found]
    there = found.get("at_prevalence", {})
    rows += [row(f"{key}_at_prevalence", there[key]) for key in ("ppv", "npv") if there]
    return rows + [
        row(key, found["calibration"][key], places=3 if key == "ece" else 2) for key in ("slope", "intercept", "ece")
    ]


def overall_rows(numbers: Mapping[str, Any]) -> list[Row]:
    """The averages over all findings, and the accuracies where classes exclude each other."""
    apart = ("confusion", "prediction_sets")
    return [row(key, found) for key, found in numbers.get("overall", {}).items() if key not in apart]


def test_rows(tests: Mapping[str, Any], finding: str) -> list[tuple[str, list[tuple[str, str]]]]:
    """Column -> (metric, corrected p or the reason why there is none), for one finding."""
    return [
        (column, [(NAMES[key], p_value(test["p_holm"]) or str(test["reason"])) for key, test in by[finding].items()])
        for column, by in tests.items()
    ]


def p_value(p: float | None) -> str:
    """`0.032`, `< 0.001`, "" for None."""
    if p is None:
        return ""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


@dataclass(frozen=True, slots=True)
class Group:
    """One value of a subgroup column, for one finding."""

    column: str
    value: str
    patients: int
    scans: int
    positives: int
    too_small: bool
    auroc: Row
    sensitivity: Row
    specificity: Row


def group_rows(subgroups: Mapping[str, Any], finding: str) -> Iterator[tuple[str, list[Group]]]:
    """Column -> its groups, for one finding."""
    for column, values in subgroups.items():
        groups = []
        for value, group in values.items():
            found = group["findings"][finding]
            numbers = [row(key, found[key]) for key in ("auroc", "sensitivity", "specificity")]
            groups.append(
                Group(
                    column,
                    value,
                    group["n_patients"],
                    found["n_scans"],
                    found["n_positive"],
                    found["too_small"],
                    *numbers,
                )
            )
        yield column, groups


def split_rows(evaluation: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Counts of every split, with the positives of each finding."""
    return [
        {
            "split": split, "patients": numbers["n_patients"], "scans": numbers["n_scans"],
            "rejected": numbers["n_rejected"], "unlabelled": numbers["n_unlabelled"],
            "positive": {f: found["n_positive"] for f, found in numbers["findings"].items()},
        }
        for split, numbers in evaluation.items()
    ]  # fmt: skip


def flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted key and value of nested settings, as they stand in the config."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        elif isinstance(value, Sequence) and not isinstance(value, str):
            yield f"{prefix}{key}", ", ".join(map(str, value)) or "–"
        else:
            yield f"{prefix}{key}", "–" if value in (None, "") else str(value)
