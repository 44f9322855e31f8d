"""Points to draw: what the report's figures show, computed from the same cases as its numbers."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, roc_curve

from pipeline.evaluation.bootstrap import draws
from pipeline.evaluation.cases import Cases
from pipeline.evaluation.intervals import MANY

Array: TypeAlias = NDArray[np.float64]

MOST_POINTS = 400
"""Points that a curve is thinned to; more can't be seen."""
BINS = 20
GRID = np.linspace(0, 1, 101)
"""Where the bands are computed."""
DRAWS = 500
"""Resamples of a band; it is drawn a few pixels wide."""


def curves_of(cases: Cases, level: float = 0.95, seed: int = 0) -> dict[str, Array] | None:
    """The curves of one finding in one split, or None where a class is missing.

    Keys: `false_positive_rate` and `true_positive_rate` (the ROC curve), `recall` and `precision`, `edges` (borders of
    the histogram's bins, 0 to 1), `positives` and `negatives` (scans a bin). Up to `MANY` scans also `roc_band` and
    `precision_band`: [low or high, point of `GRID`].

    Args:
        cases: The scans of one finding.
        level: Confidence level of the bands, at each point.
        seed: Of the resamples.
    """
    if cases.one_class:
        return None
    fpr, tpr, _ = roc_curve(cases.y, cases.p)
    precision, recall, _ = precision_recall_curve(cases.y, cases.p)
    edges = np.linspace(0, 1, BINS + 1)
    found = {"edges": edges}
    found["false_positive_rate"], found["true_positive_rate"] = _thinned(fpr, tpr)
    found["recall"], found["precision"] = _thinned(recall, precision)
    for name, label in (("negatives", 0), ("positives", 1)):
        found[name] = np.histogram(cases.p[cases.y == label], bins=edges)[0].astype(float)
    if cases.n <= MANY:
        found["roc_band"], found["precision_band"] = _bands(cases, level, seed)
    return found


def _bands(cases: Cases, level: float, seed: int) -> tuple[Array, Array]:
    """Percentiles of the bootstrap by patient: of sensitivity at each false-positive rate, of PPV at each recall."""
    order = np.argsort(-cases.p, kind="stable")
    y, ends = cases.y[order], np.flatnonzero(np.diff(-cases.p[order], append=np.inf))
    rates, precisions = [], []
    for counts in draws(int(cases.patients.max()) + 1, cases.n, DRAWS, seed):
        weights = counts[:, cases.patients[order]]
        found, wrong = (np.cumsum(weights * side, axis=1)[:, ends] for side in (y, 1 - y))
        for tp, fp in zip(found, wrong, strict=True):
            if tp[-1] == 0 or fp[-1] == 0:  # a resample of one class has no curve
                continue
            rates.append(np.interp(GRID, np.r_[0, fp / fp[-1]], np.r_[0, tp / tp[-1]]))
            called = np.maximum(tp + fp, 1e-12)
            # PPV at a recall is that of the first threshold that reaches it.
            precisions.append(
                (tp / called)[np.searchsorted(tp / tp[-1], np.maximum(GRID, 1e-9) - 1e-12).clip(max=len(tp) - 1)]
            )
    ends_of = [(1 - level) / 2, (1 + level) / 2]
    if len(rates) < 2:
        return np.full((2, len(GRID)), np.nan), np.full((2, len(GRID)), np.nan)
    return np.quantile(rates, ends_of, axis=0), np.quantile(precisions, ends_of, axis=0)


def _thinned(x: Array, y: Array) -> tuple[Array, Array]:
    """At most `MOST_POINTS` of the points, both ends among them."""
    kept = np.unique(np.linspace(0, len(x) - 1, min(len(x), MOST_POINTS)).round().astype(int))
    return x[kept], y[kept]
