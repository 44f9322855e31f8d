"""For whom it works: the same scans, split by sex, age, site, or any other column of the labels table."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from pipeline.evaluation.accuracy import measures
from pipeline.evaluation.cases import Cases, labelled
from pipeline.evaluation.table import as_numbers
from pipeline.sections import EvaluateSection

MISSING = "(missing)"
OTHER = "(other)"
MOST_GROUPS = 12
"""The largest groups are told apart; the rest is (other)."""
FEWEST = 10
"""Groups with fewer patients of either class are reported, and said to be too small."""
AGE_EDGES = (18, 40, 50, 60, 70, 80)
BANDS_FROM = 8
"""A column of numbers with more distinct values than this is cut into bands."""


def groups_of(column: pd.Series) -> pd.Series:
    """The group of each scan, in words.

    Ages are cut at fixed years, other numbers with many values at their thirds; text keeps its most frequent values.
    """
    text = column.astype(str).replace("", MISSING)
    numbers = as_numbers(column)
    filled = text != MISSING
    if column.name == "age" and numbers[filled].notna().all() and filled.any():
        return text.where(~filled, _bands(numbers, AGE_EDGES))
    if numbers[filled].notna().all() and numbers.nunique() > BANDS_FROM:
        edges = tuple(float(f"{edge:.4g}") for edge in np.unique(np.quantile(numbers[filled], [1 / 3, 2 / 3])))
        return text.where(~filled, _bands(numbers, edges))
    frequent = text.value_counts().sort_index().sort_values(ascending=False, kind="stable").index[:MOST_GROUPS]
    return text.where(text.isin(frequent), OTHER)


def _bands(numbers: pd.Series, edges: tuple[float, ...]) -> pd.Series:
    names = [
        f"below {edges[0]:g}",
        *(f"{a:g} to below {b:g}" for a, b in pairwise(edges)),
        f"{edges[-1]:g} and above",
    ]
    return pd.Series(
        np.array(names)[np.searchsorted(edges, numbers, side="right").clip(max=len(edges))], index=numbers.index
    )


def subgroups(
    rows: pd.DataFrame, cases: Mapping[str, Cases], columns: list[str], section: EvaluateSection
) -> dict[str, dict[str, Any]]:
    """Column -> value -> counts, and AUROC, sensitivity and specificity of each finding at the frozen point.

    Args:
        rows: The scored rows of one split of a checked table.
        cases: The split's cases by finding, in the order of the rows.
        columns: Which columns to group by; those with a single value say nothing and are left out.
        section: Level, resamples and seed of the intervals.
    """
    found: dict[str, dict[str, Any]] = {}
    for column in columns:
        groups = groups_of(rows[column])
        if groups.nunique() < 2:
            continue
        found[column] = {str(value): _group(rows, groups == value, cases, section) for value in _in_order(groups)}
    return found


def _in_order(groups: pd.Series) -> list[str]:
    """Values by name, bands by their number, (missing) and (other) last."""
    names = [str(name) for name in groups.unique()]

    def rank(name: str) -> tuple[bool, bool, float, str]:
        first = name.removeprefix("below ").split(" ")[0]
        try:
            return name in (MISSING, OTHER), not name.startswith("below"), float(first), name
        except ValueError:
            return name in (MISSING, OTHER), True, 0.0, name

    return sorted(names, key=rank)


def _group(
    rows: pd.DataFrame, inside: pd.Series, cases: Mapping[str, Cases], section: EvaluateSection
) -> dict[str, Any]:
    here = rows[inside]
    found: dict[str, Any] = {"n_scans": len(here), "n_patients": int(here["patient"].nunique()), "findings": {}}
    for finding, all_cases in cases.items():
        subset = all_cases.subset(inside[labelled(rows, finding).index].to_numpy(bool))
        numbers: dict[str, Any] = {"n_scans": subset.n, "n_positive": int((subset.y == 1).sum())}
        numbers["too_small"] = min(subset.patients_with(1), subset.patients_with(0)) < FEWEST
        found["findings"][finding] = numbers | measures(subset, section, ("auroc", "sensitivity", "specificity"))
    return found
