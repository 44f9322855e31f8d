"""Numbers over all findings together: macro and micro averages, and accuracy where classes exclude each other."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline.evaluation import influence, metrics
from pipeline.evaluation.bootstrap import Spread, spreads
from pipeline.evaluation.cases import numbered
from pipeline.evaluation.intervals import (
    Array,
    Groups,
    Measure,
    distinct,
    measure,
    undefined,
    wilson,
    without_interval,
)
from pipeline.sections import EvaluateSection

MACRO = ("macro_auroc", "macro_average_precision")
MICRO = ("micro_auroc", "micro_average_precision")
TOPS = (2, 3, 5)
"""The k of top-k accuracy, as far as there are more classes than k."""


def overall(rows: pd.DataFrame, findings: list[str], task: str, section: EvaluateSection) -> dict[str, Any]:
    """Macro and micro AUROC and average precision; for multiclass also (top-k) accuracy and the confusion table.

    Macro: the mean over the findings. Micro: all pairs of scan and finding in one pot. Missing labels are left out.

    Args:
        rows: The scored rows of one split of a checked table.
        findings: At least two.
        task: "multiclass" or "multilabel".
        section: Level, resamples and seed of the intervals.
    """
    y, p = (rows[[f"{kind}_{f}" for f in findings]].to_numpy(float) for kind in ("y", "p"))
    patients = numbered(rows["patient"])
    found = _intervals(MACRO, _macro(y, p), lambda: _macro_influence(y, p), patients, section, "a class is missing")
    found |= _intervals(MICRO, _micro(y, p), lambda: _micro_influence(y, p), patients, section, "a class is missing")
    if task != "multiclass":
        return found
    whole = ~np.isnan(y).any(axis=1) & (np.nansum(y, axis=1) == 1)
    truth, said = y[whole].argmax(axis=1), p[whole].argmax(axis=1)
    table = np.zeros((len(findings), len(findings)), dtype=int)
    np.add.at(table, (truth, said), 1)
    tops = [k for k in TOPS if k < len(findings)]
    names = ("accuracy", "balanced_accuracy", *(f"top_{k}_accuracy" for k in tops))
    hits, own = _hits(truth, p[whole], (1, *tops)), numbered(patients[whole])
    statistic = _agreement(truth, hits, len(findings))
    found |= _intervals(names, statistic, lambda: _agreement_influence(truth, hits), own, section,
                        "a class has no scans")  # fmt: skip
    return found | {"confusion": {"classes": findings, "rows_true_columns_predicted": table.tolist()}}


def _macro(y: Array, p: Array) -> Callable[[Array], Array]:
    """Mean over the findings of AUROC and of average precision, each on the scans whose label is known."""
    known = ~np.isnan(y)
    ranked = [(known[:, k], metrics.Ranked(y[known[:, k], k], p[known[:, k], k])) for k in range(y.shape[1])]

    def statistic(weights: Array) -> Array:
        areas = np.mean([r.auroc(weights[:, rows]) for rows, r in ranked], axis=0)
        precisions = np.mean([r.average_precision(weights[:, rows]) for rows, r in ranked], axis=0)
        return np.column_stack([areas, precisions])

    return statistic


def _macro_influence(y: Array, p: Array) -> Array:
    """Influence of each scan on the two macro averages: [scan, metric]."""
    total = np.zeros((len(y), 2))
    for k in range(y.shape[1]):
        here = ~np.isnan(y[:, k])
        total[here, 0] += influence.of_auroc(y[here, k], p[here, k])
        total[here, 1] += influence.of_average_precision(y[here, k], p[here, k])
    return np.asarray(total / y.shape[1])


def _micro(y: Array, p: Array) -> Callable[[Array], Array]:
    """AUROC and average precision of all pairs of scan and finding; a patient's pairs stay together."""
    known = ~np.isnan(y)
    rows = np.repeat(np.arange(len(y)), y.shape[1])[known.ravel()]
    ranked = metrics.Ranked(y[known], p[known])

    def statistic(weights: Array) -> Array:
        of_pairs = weights[:, rows]
        return np.column_stack([ranked.auroc(of_pairs), ranked.average_precision(of_pairs)])

    return statistic


def _micro_influence(y: Array, p: Array) -> Array:
    """Influence of each scan, with all its findings, on the two micro averages: [scan, metric]."""
    known = ~np.isnan(y)
    total = np.zeros((len(y), 2))
    for k, of in enumerate((influence.of_auroc, influence.of_average_precision)):
        pairs = np.zeros(y.shape)
        pairs[known] = of(y[known], p[known])
        total[:, k] = pairs.sum(axis=1)
    return total


def _hits(truth: np.ndarray, p: Array, tops: Sequence[int]) -> Array:
    """Whether the true class is among the k most probable: [scan, k], 0 or 1.

    A class as probable as the true one, but listed before it, counts as more probable, as in `argmax`.
    """
    own = p[np.arange(len(truth)), truth][:, None]
    before = np.arange(p.shape[1])[None, :] < truth[:, None]
    rank = ((p > own) | ((p == own) & before)).sum(axis=1)
    return np.column_stack([rank < k for k in tops]).astype(float)


def _agreement(truth: np.ndarray, hits: Array, classes: int) -> Callable[[Array], Array]:
    """Accuracy, the mean over the classes of the share that is recognised, and the top-k accuracies."""
    member = np.eye(classes)[truth]

    def statistic(weights: Array) -> Array:
        of_class, right = weights @ member, weights @ (member * hits[:, :1])
        recall = np.divide(right, of_class, out=np.full(of_class.shape, np.nan), where=of_class > 0)
        shares = (weights @ hits) / weights.sum(axis=1, keepdims=True)
        return np.column_stack([shares[:, 0], recall.mean(axis=1), shares[:, 1:]])

    return statistic


def _agreement_influence(truth: np.ndarray, hits: Array) -> Array:
    """Influence of each scan on the numbers of `_agreement`: [scan, metric]."""
    size = np.bincount(truth)
    recall = np.bincount(truth, weights=hits[:, 0]) / size
    balanced = (hits[:, 0] - recall[truth]) / size[truth] / len(size)
    shares = (hits - hits.mean(axis=0)) / len(hits)
    return np.column_stack([shares[:, 0], balanced, shares[:, 1:]])


def _intervals(
    names: Sequence[str], statistic: Callable[[Array], Array], linear: Callable[[], Array], patients: Groups,
    section: EvaluateSection, missing: str,
) -> dict[str, Measure]:  # fmt: skip
    """Measures of a statistic: by bootstrap, in large tables from its influences `linear`."""
    n, level = len(patients), section.level
    if n == 0:
        return {name: undefined(level, 0, "no labelled scans") for name in names}
    values = statistic(metrics.ones(n))[0]
    known = bool(np.isfinite(values).all())
    spread = spreads(statistic, lambda: linear().T, patients, section) if known else [Spread(np.nan, "")] * len(names)
    found, groups = dict[str, Measure](), distinct(patients)
    for name, value, one in zip(names, values, spread, strict=True):
        interval = one.interval(value, groups, level, "logit")
        if not np.isfinite(value):
            found[name] = undefined(level, n, missing)
        elif interval is None and name.endswith("accuracy") and name != "balanced_accuracy":
            bounds = wilson(value * groups, groups, level)  # all or none: each patient counts once
            found[name] = measure(value, *bounds, level, "Wilson, on patients", n)
        elif interval is None:
            reason = "the bootstrap gives no interval: too few scans, or no spread"
            found[name] = without_interval(value, level, n, reason)
        else:
            low, high, method = interval
            found[name] = measure(value, low, high, level, method, n)
    return found
