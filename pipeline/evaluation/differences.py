"""Does it work alike for all groups? Tests of equal AUROC, sensitivity and specificity, corrected for their number."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import chi2

from pipeline.evaluation.cases import Cases, labelled
from pipeline.evaluation.intervals import Array, auroc_parts, distinct
from pipeline.evaluation.subgroups import MISSING, OTHER, groups_of

TESTED = ("auroc", "sensitivity", "specificity")
TOO_FEW = "fewer than two groups are large enough to be compared"


def subgroup_tests(
    rows: pd.DataFrame, cases: Mapping[str, Cases], found: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Column -> finding -> metric -> test that its groups are equal; `p_holm` is corrected over all of them.

    Groups that are too small, and scans whose group is missing, are left out.

    Args:
        rows: The scored rows of one split of a checked table.
        cases: The split's cases by finding, in the order of the rows.
        found: As `subgroups` returns it.
    """
    tests: dict[str, dict[str, dict[str, Any]]] = {}
    for column, values in found.items():
        groups, tests[column] = groups_of(rows[column]), {}
        for finding, case in cases.items():
            here = groups[labelled(rows, finding).index].to_numpy(str)
            large = [v for v in values if v not in (MISSING, OTHER) and not values[v]["findings"][finding]["too_small"]]
            tests[column][finding] = {name: equality(name, case, here, large) for name in TESTED}
    flat = [test for by_finding in tests.values() for by_metric in by_finding.values() for test in by_metric.values()]
    for test, p in zip(flat, holm([test["p"] for test in flat]), strict=True):
        test["p_holm"] = p
    return tests


def equality(name: str, cases: Cases, groups: NDArray[np.str_], large: Sequence[str]) -> dict[str, Any]:
    """Wald test, clustered by patient, that a metric is the same in all groups: chi2, degrees of freedom, p.

    AUROC: DeLong's (clustered: Obuchowski's) variance in each group. Sensitivity and specificity: a score test, with
    residuals from the common rate, which holds its level also where a group's rate is 0 or 1.
    """
    if len(large) < 2:
        return {"p": None, "reason": TOO_FEW}
    if name != "auroc" and cases.positive is None:
        return {"p": None, "reason": cases.reason}
    tested = np.isin(groups, large)
    values, influence = np.zeros(len(large)), np.zeros((int(cases.patients.max()) + 1, len(large)))
    for k, group in enumerate(large):
        here = groups == group
        if name == "auroc":
            values[k], own = _auroc(cases.y[here], cases.p[here])
        else:
            values[k], own, here = _rate(cases, 1 if name == "sensitivity" else 0, here, tested)
        np.add.at(influence[:, k], cases.patients[here], own)
    contrast = np.eye(len(large))[:-1] - np.eye(len(large))[-1]
    patients = distinct(cases.patients[tested])
    spread = contrast @ (influence.T @ influence) @ contrast.T * patients / (patients - 1)
    gap = contrast @ values
    if np.allclose(gap, 0):
        return {"p": 1.0, "chi2": 0.0, "df": len(gap), "groups": list(large)}
    if np.linalg.cond(spread) > 1e12:
        return {"p": None, "reason": "the values do not vary within a group, so their difference can't be judged"}
    statistic = float(gap @ np.linalg.solve(spread, gap))
    return {"p": float(chi2.sf(statistic, len(gap))), "chi2": statistic, "df": len(gap), "groups": list(large)}


def _auroc(y: Array, p: Array) -> tuple[float, Array]:
    """AUROC of one group, and what each scan moves it by."""
    parts, own = auroc_parts(y, p), np.empty(len(y))
    for side in (y == 1, y == 0):
        own[side] = (parts[side] - parts[side].mean()) / side.sum()
    return float(parts[y == 1].mean()), own


def _rate(
    cases: Cases, label: int, here: NDArray[np.bool_], tested: NDArray[np.bool_]
) -> tuple[float, Array, NDArray[np.bool_]]:
    """Rate of right calls among a group's scans of this label, residuals from the common rate, and those scans."""
    right = np.asarray(cases.positive == (label == 1), dtype=float)
    own = here & (cases.y == label)
    common = right[tested & (cases.y == label)].mean()
    return float(right[own].mean()), (right[own] - common) / own.sum(), own


def holm(p: Sequence[float | None]) -> list[float | None]:
    """P-values corrected for their number (Holm 1979); None stays None and is not counted."""
    known = [k for k, value in enumerate(p) if value is not None]
    corrected: list[float | None] = [None] * len(p)
    largest = 0.0
    for rank, k in enumerate(sorted(known, key=lambda k: float(p[k] or 0.0))):
        largest = max(largest, min(1.0, (len(known) - rank) * float(p[k] or 0.0)))
        corrected[k] = largest
    return corrected
