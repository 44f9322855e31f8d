"""Two models on the same scans: is the difference more than chance?"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest, norm
from scipy.stats import t as student

from pipeline.console import count
from pipeline.domain import UsageError
from pipeline.evaluation import influence, metrics
from pipeline.evaluation.assess import held_out
from pipeline.evaluation.bootstrap import spreads
from pipeline.evaluation.cases import Cases, cases_of
from pipeline.evaluation.intervals import (
    MANY,
    Array,
    auroc_covariance,
    auroc_parts,
    distinct,
    measure,
    undefined,
    without_interval,
    z_of,
)
from pipeline.evaluation.run_folder import Run
from pipeline.evaluation.table import findings_of
from pipeline.sections import EvaluateSection


def same_scans(table: pd.DataFrame, against: pd.DataFrame, findings: list[str]) -> None:
    """Check that two tables (same split, sorted by scan_id) hold the same scans, patients and labels.

    Raises:
        UsageError: Listing every difference.
    """
    ids, others = set(table["scan_id"]), set(against["scan_id"])
    problems = [f"only in the first run: {count(len(ids - others), 'scan')}"] if ids - others else []
    problems += [f"only in the second run: {count(len(others - ids), 'scan')}"] if others - ids else []
    if not problems:
        pairs = table.set_index("scan_id"), against.set_index("scan_id").loc[list(table["scan_id"])]
        for finding in findings:
            y, z = (rows[f"y_{finding}"].to_numpy(float) for rows in pairs)
            if differ := int((~((y == z) | (np.isnan(y) & np.isnan(z)))).sum()):
                problems.append(f"the label of {finding} differs for {count(differ, 'scan')}")
    if problems:
        raise UsageError("the two runs can't be compared:\n" + "\n".join(f"  {p}" for p in problems))


def compare_all(run: Run, other: Run, split: str, section: EvaluateSection) -> tuple[str, dict[str, dict[str, Any]]]:
    """The split that was compared, and the differences by finding and metric.

    Args:
        run: The first run.
        other: The second; differences are first minus second.
        split: Which split; empty takes the most telling one that both hold.
        section: Level, resamples and seed.

    Raises:
        UsageError: If the runs share no split or no finding, or their scans or labels differ.
    """
    tables = run.table, other.table
    shared = [s for s in held_out(run.table) if s in set(other.table["split"])]
    split = split or next(iter(shared), "")
    ours, theirs = (t[(t["split"] == split) & (t["status"] == "ok")].reset_index(drop=True) for t in tables)
    findings = [f for f in findings_of(ours.columns) if f in findings_of(theirs.columns)]
    if ours.empty or theirs.empty or not findings:
        raise UsageError(f"the two runs can't be compared: no common scans of split {split or '(any)'}, or no finding")
    same_scans(ours, theirs, findings)
    found = {}
    for finding in findings:
        pair = ((ours, run), (theirs, other))
        first, second = (cases_of(t, finding, r.points, r.config.evaluate.target) for t, r in pair)
        found[finding] = compare(first, second, section)
    return split, found


def compare(ours: Cases, theirs: Cases, section: EvaluateSection) -> dict[str, Any]:
    """Differences (first minus second) with intervals and p-values, for one finding on the same scans.

    AUROC: DeLong's paired test, one scan a patient (above `MANY` scans Obuchowski's, any number); else, and for average
    precision and Brier's score, whole patients are drawn again for both models alike.
    Sensitivity and specificity: the same bootstrap for the interval, and McNemar's exact test where each patient has
    one scan.
    """
    if ours.one_class:
        return {"auroc": undefined(section.level, ours.n, ours.one_class) | {"p": None}}
    closed = not ours.clustered or ours.n > MANY
    found = {
        "auroc": _delong(ours, theirs, section.level) if closed else _ranking("auroc", ours, theirs, section),
        "average_precision": _ranking("average_precision", ours, theirs, section),
        "brier": _brier(ours, theirs, section),
    }
    if ours.positive is not None and theirs.positive is not None:
        found["sensitivity"] = _rate(ours, theirs, 1, section)
        found["specificity"] = _rate(ours, theirs, 0, section)
    return found


def _delong(ours: Cases, theirs: Cases, level: float) -> dict[str, Any]:
    parts = np.column_stack([auroc_parts(c.y, c.p) for c in (ours, theirs)])
    covariance = auroc_covariance(ours.y, parts, ours.patients)
    difference = metrics.auroc(ours.y, ours.p) - metrics.auroc(theirs.y, theirs.p)
    se = float(np.sqrt(max(0.0, covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])))
    if se < 1e-12:
        return dict(without_interval(difference, level, ours.n, "both models rank the scans alike")) | {"p": None}
    half = z_of(level) * se
    interval = max(-1.0, difference - half), min(1.0, difference + half)
    method = "Obuchowski, paired" if ours.clustered else "DeLong, paired"
    return dict(measure(difference, *interval, level, method, ours.n)) | {"p": float(2 * norm.sf(abs(difference) / se))}


def _ranking(name: str, ours: Cases, theirs: Cases, section: EvaluateSection) -> dict[str, Any]:
    """Difference of the AUROC or of average precision."""
    pair = ours, theirs
    ranked = [getattr(metrics.Ranked(c.y, c.p), name) for c in pair]

    def difference(weights: Array) -> Array:
        return np.asarray(ranked[0](weights) - ranked[1](weights))[:, None]

    def linear() -> Array:
        of = influence.of_auroc if name == "auroc" else influence.of_average_precision
        first, second = (of(c.y, c.p) for c in pair)
        return first - second

    return _bootstrapped(difference, linear, ours, min(ours.patients_with(1), ours.patients_with(0)), section)


def _brier(ours: Cases, theirs: Cases, section: EvaluateSection) -> dict[str, Any]:
    """Difference of Brier's score; below 0 the first model is better."""
    gap = (ours.p - ours.y) ** 2 - (theirs.p - theirs.y) ** 2

    def difference(weights: Array) -> Array:
        return np.asarray(weights @ gap / weights.sum(axis=1))[:, None]

    groups = distinct(ours.patients)
    return _bootstrapped(difference, lambda: (gap - gap.mean()) / len(gap), ours, groups, section)


def _rate(ours: Cases, theirs: Cases, label: int, section: EvaluateSection) -> dict[str, Any]:
    """Difference of sensitivity (label 1) or specificity (label 0)."""
    here = (ours.y == label).astype(float)
    right = [(c.positive == (label == 1)) * here for c in (ours, theirs)]
    gap = right[0] - right[1]

    def difference(weights: Array) -> Array:
        total = weights @ here
        found = np.divide(weights @ gap, total, out=np.full(len(weights), np.nan), where=total > 0)
        return np.asarray(found)[:, None]

    def linear() -> Array:
        return np.asarray((gap - here * gap.sum() / here.sum()) / here.sum())

    found = _bootstrapped(difference, linear, ours, ours.patients_with(label), section)
    if not ours.clustered:
        better, worse = int((gap > 0).sum()), int((gap < 0).sum())
        found["p"] = float(binomtest(better, better + worse).pvalue) if better + worse else 1.0
        found["test"] = "McNemar, exact"
    return found


def _bootstrapped(
    statistic: Callable[[Array], Array], linear: Callable[[], Array], cases: Cases, groups: int,
    section: EvaluateSection,
) -> dict[str, Any]:  # fmt: skip
    """A difference with its interval, and a p-value from its standard error by patient; `linear`: its influences."""
    value = float(statistic(metrics.ones(cases.n))[0, 0])
    spread = spreads(statistic, lambda: [linear()], cases.patients, section)[0]
    interval = spread.interval(value, groups, section.level, "linear")
    if interval is None:
        return dict(without_interval(value, section.level, cases.n, "no spread between resamples")) | {"p": None}
    p = 2 * float(student.sf(abs(value) / spread.error, groups - 1))
    low, high, method = max(-1.0, interval[0]), min(1.0, interval[1]), interval[2].removesuffix(", linear scale")
    return dict(measure(value, low, high, section.level, method, cases.n)) | {"p": p}
