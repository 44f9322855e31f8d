"""Diagnostic accuracy as numbers, for one weighting of the scans or for thousands at once.

Everything takes weights [resample, scan], so that the bootstrap of `bootstrap.py` and the point estimate run through
the same lines; with weights of one the values are those of scikit-learn (tested). What is undefined is NaN.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]
Flags: TypeAlias = NDArray[np.bool_]

RANKING = ("auroc", "partial_auroc", "average_precision")
"""Metrics of the order of the probabilities; they need no threshold."""
AT_POINT = (
    "sensitivity", "specificity", "ppv", "npv", "accuracy", "balanced_accuracy", "f1", "mcc",
    "positive_likelihood_ratio", "negative_likelihood_ratio",
)  # fmt: skip
"""Metrics of the decision at an operating point."""


def ones(n: int) -> Array:
    """The weighting [1, n] in which every scan counts once."""
    return np.ones((1, n))


class Ranked:
    """Labels sorted by probability once, to rank under many weightings.

    Args:
        y: 0 or 1 a scan.
        p: Probability a scan; equal ones are ties.
    """

    def __init__(self, y: Array, p: Array) -> None:
        self._order = np.argsort(p)
        self._y = y[self._order]
        self._starts = np.flatnonzero(np.diff(p[self._order], prepend=-np.inf))

    def auroc(self, weights: Array) -> Array:
        """Share of (positive, negative) pairs in the right order, ties half: [resample]."""
        positive, negative = self._mass(weights)
        below = np.cumsum(negative, axis=1) - negative / 2
        return _ratio((positive * below).sum(axis=1), positive.sum(axis=1) * negative.sum(axis=1))

    def partial_auroc(self, weights: Array, max_false_positive_rate: float) -> Array:
        """Area under the ROC curve up to a false-positive rate, scaled so that 0.5 is chance and 1 perfect: [resample].

        Source: McClish, Medical Decision Making 1989;9:190, equation of the standardized partial area.
        """
        positive, negative = (np.cumsum(mass[:, ::-1], axis=1) for mass in self._mass(weights))
        start = np.zeros((len(weights), 1))
        x = np.hstack([start, _ratio(negative, negative[:, -1:])])
        y = np.hstack([start, _ratio(positive, positive[:, -1:])])
        width = np.diff(x)
        inside = np.clip(max_false_positive_rate - x[:, :-1], 0, width)
        rise = np.diff(y) * np.divide(inside, width, out=np.zeros_like(width), where=width > 0)
        area = (inside * (y[:, :-1] + rise / 2)).sum(axis=1)
        chance = max_false_positive_rate**2 / 2
        return np.asarray((1 + (area - chance) / (max_false_positive_rate - chance)) / 2)

    def average_precision(self, weights: Array) -> Array:
        """Precision averaged over the recall steps, without interpolation (as scikit-learn): [resample]."""
        positive, negative = self._mass(weights)
        positive, negative = positive[:, ::-1], negative[:, ::-1]
        found = np.cumsum(positive, axis=1)
        precision = np.divide(
            found, called := found + np.cumsum(negative, axis=1), where=called > 0, out=np.zeros_like(found)
        )
        return _ratio((positive * precision).sum(axis=1), positive.sum(axis=1))

    def _mass(self, weights: Array) -> tuple[Array, Array]:
        """Weight of positives and of negatives at each distinct probability, ascending: [resample, value]."""
        ordered = weights[:, self._order]
        positive, negative = ordered * self._y, ordered * (1 - self._y)
        if len(self._starts) == len(self._y):
            return positive, negative
        return np.add.reduceat(positive, self._starts, axis=1), np.add.reduceat(negative, self._starts, axis=1)


def auroc(y: Array, p: Array) -> float:
    """Area under the ROC curve; NaN where a class is missing."""
    return float(Ranked(y, p).auroc(ones(len(y)))[0])


def average_precision(y: Array, p: Array) -> float:
    """Average precision; NaN without positives."""
    return float(Ranked(y, p).average_precision(ones(len(y)))[0])


def brier(y: Array, p: Array) -> float:
    """Mean squared distance of probability and outcome."""
    return float(np.mean((p - y) ** 2))


def confusion(y: Array, positive: Flags) -> Array:
    """One row a scan with a single 1 in the column tp, fp, tn or fn: [scan, 4]."""
    truth = y == 1
    return np.column_stack([truth & positive, ~truth & positive, ~truth & ~positive, truth & ~positive]).astype(float)


def at_point(counts: Array) -> dict[str, Array]:
    """All metrics of `AT_POINT` from (weighted) counts.

    Args:
        counts: [resample, 4] in the order tp, fp, tn, fn.
    """
    tp, fp, tn, fn = counts.T
    sensitivity, specificity = _ratio(tp, tp + fn), _ratio(tn, tn + fp)
    both = (tp + fn > 0) & (tn + fp > 0)
    margins = np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    return {
        "sensitivity": sensitivity,
        "specificity": specificity,
        "ppv": _ratio(tp, tp + fp),
        "npv": _ratio(tn, tn + fn),
        "accuracy": _ratio(tp + tn, tp + fp + tn + fn),
        "balanced_accuracy": (sensitivity + specificity) / 2,
        "f1": np.where(both, _ratio(2 * tp, 2 * tp + fp + fn), np.nan),
        "mcc": _ratio(tp * tn - fp * fn, margins),
        "positive_likelihood_ratio": _ratio(sensitivity, 1 - specificity),
        "negative_likelihood_ratio": _ratio(1 - sensitivity, specificity),
    }


def _ratio(top: Array, bottom: Array) -> Array:
    """Quotient, NaN where the denominator is 0 or undefined."""
    return np.asarray(np.divide(top, bottom, out=np.full(np.shape(top), np.nan), where=np.asarray(bottom > 0)))
