"""Confidence intervals that respect that scans of one patient are not independent.

One scan a patient: DeLong on the logit scale for the AUROC, Wilson for proportions. Patients with several scans: the
bootstrap draws whole patients. Every other metric is bootstrapped, by patient, in both cases. Above `MANY` scans
every variance is computed, clustered by patient: Obuchowski's (1997) for the AUROC, alike for the others.
"""

from typing import Literal, NotRequired, TypeAlias, TypedDict

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, logit
from scipy.stats import norm
from scipy.stats import t as student

Array: TypeAlias = NDArray[np.float64]
Groups: TypeAlias = NDArray[np.intp]
"""The patient of each scan, numbered 0 .. n-1."""

MANY = 20_000
"""Above this many scans nothing is bootstrapped: there the linear approximation (`influence.py`) is as good."""
Scale: TypeAlias = Literal["logit", "atanh", "log", "linear"]
LOWEST: dict[Scale, float] = {"logit": 0.0, "atanh": -1.0, "log": 0.0, "linear": -np.inf}
HIGHEST: dict[Scale, float] = {"logit": 1.0, "atanh": 1.0, "log": np.inf, "linear": np.inf}


class Measure(TypedDict):
    """A metric as it stands in evaluation.json; an undefined one has null for value, and a reason."""

    value: float | None
    low: float | None
    high: float | None
    level: float
    method: str
    n: int
    reason: NotRequired[str]


def measure(value: float, low: float, high: float, level: float, method: str, n: int) -> Measure:
    """A defined metric with its interval."""
    return {
        "value": float(value),
        "low": float(low),
        "high": float(high),
        "level": level,
        "method": method,
        "n": int(n),
    }


def without_interval(value: float, level: float, n: int, reason: str) -> Measure:
    """A defined metric whose interval is not."""
    return {
        "value": float(value),
        "low": None,
        "high": None,
        "level": level,
        "method": "none",
        "n": int(n),
        "reason": reason,
    }


def undefined(level: float, n: int, reason: str) -> Measure:
    """A metric that can't be computed, and why."""
    return {"value": None, "low": None, "high": None, "level": level, "method": "none", "n": int(n), "reason": reason}


def distinct(patients: Groups) -> int:
    """Number of different patients; counting is much faster than sorting them."""
    return int(np.count_nonzero(np.bincount(patients)))


def z_of(level: float) -> float:
    """The standard normal quantile of a two-sided interval."""
    return float(norm.ppf((1 + level) / 2))


def wilson(successes: float, n: float, level: float) -> tuple[float, float]:
    """Score interval of a proportion (Wilson 1927), inside [0, 1] and honest at 0 and n."""
    z2 = z_of(level) ** 2
    centre, half = successes + z2 / 2, np.sqrt(z2 * (successes * (n - successes) / n + z2 / 4))
    return max(0.0, float((centre - half) / (n + z2))), min(1.0, float((centre + half) / (n + z2)))


def auroc_parts(y: Array, p: Array) -> Array:
    """Structural components (DeLong 1988): for a positive the share of negatives below it, and the reverse; ties half.

    The mean over the positives, and that over the negatives, is the AUROC. All from one sort (Sun and Xu 2014).
    """
    order = np.argsort(p)
    truth, starts = y[order] == 1, np.diff(p[order], prepend=-np.inf) > 0
    step, first = np.cumsum(starts) - 1, np.flatnonzero(starts)
    below = []  # at each distinct probability: scans of the other class below it, equal ones half
    for other in (~truth, truth):
        equal = np.add.reduceat(other.astype(np.float64), first)
        below.append(np.cumsum(equal) - equal / 2)
    negatives, positives = int((~truth).sum()), int(truth.sum())
    parts = np.empty(len(p))
    parts[order] = np.where(truth, below[0][step] / negatives, 1 - below[1][step] / positives)
    return parts


def auroc_covariance(y: Array, parts: Array, patients: Groups) -> Array:
    """Covariance of the AUROCs of several predictions of the same scans, clustered by patient (Obuchowski 1997).

    With one scan a patient this is DeLong's estimate.

    Args:
        y: 0 or 1 a scan.
        parts: `auroc_parts` of each prediction: [scan, prediction].
        patients: The patient of each scan.
    """
    total = np.zeros((parts.shape[1], parts.shape[1]))
    influence = np.zeros((int(patients.max()) + 1, parts.shape[1]))
    sides = []
    for side in (y == 1, y == 0):
        centred = parts[side] - parts[side].mean(axis=0)
        sums = np.zeros_like(influence)
        np.add.at(sums, patients[side], centred / side.sum())
        patients_here = distinct(patients[side])
        total += sums.T @ sums * (patients_here / max(patients_here - 1, 1))
        sides.append(sums)
    cross = sides[0].T @ sides[1]
    everyone = distinct(patients)
    return np.asarray(total + (cross + cross.T) * (everyone / max(everyone - 1, 1)))


def auroc_interval(
    value: float, variance: float, positives: int, negatives: int, level: float
) -> tuple[float, float, str]:
    """Low, high and method for an AUROC with its variance.

    On the logit scale, which keeps it inside (0, 1) and near its level in small samples (Pepe 2003). Where all pairs
    are in order, or a class has a single patient, the variance says nothing: there Newcombe's score interval (2006,
    method 5) takes over.

    Args:
        positives: Patients that count as positive; `negatives` alike (used by the score interval only).
    """
    spread = value * (1 - value)
    if spread <= 0 or variance <= 1e-15 or min(positives, negatives) < 2:
        return *newcombe(value, positives, negatives, level), "Newcombe score"
    centre, half = logit(value), z_of(level) * np.sqrt(variance) / spread
    return float(expit(centre - half)), float(expit(centre + half)), "DeLong, logit scale"


def newcombe(value: float, positives: int, negatives: int, level: float) -> tuple[float, float]:
    """Score interval of an AUROC (Newcombe, Statistics in Medicine 2006;25:559, method 5)."""
    z, size = z_of(level), (positives + negatives) / 2

    def gap(theta: float) -> float:
        pairs = 2 * size - 1 - 3 * (size - 1) / ((2 - theta) * (1 + theta))
        return float((value - theta) ** 2 - z**2 * theta * (1 - theta) * pairs / (positives * negatives))

    low = 0.0 if value <= 0 else float(brentq(gap, 0.0, value - 1e-9))
    high = 1.0 if value >= 1 else float(brentq(gap, value + 1e-9, 1.0))
    return low, high


def scaled_interval(
    value: float, standard_error: float, groups: int, level: float, scale: Scale
) -> tuple[float, float] | None:
    """Interval from a standard error; None where there is no spread, or the value lies on its bound.

    Student's quantile, on a scale where the metric has no bounds. In simulations of 30 to 100 patients this covers
    nearer to its level than percentiles of the bootstrap, which are too narrow there (tests/evaluation).

    Args:
        value: The metric itself.
        groups: Patients that the metric rests on; one less is the number of degrees of freedom.
        scale: "logit" for 0 to 1, "atanh" for -1 to 1, "log" for positive values, "linear" for differences.
    """
    if groups < 2 or not standard_error > 0 or value <= LOWEST[scale] or value >= HIGHEST[scale]:
        return None
    half = float(student.ppf((1 + level) / 2, groups - 1)) * standard_error
    if scale == "logit":
        centre, half = float(logit(value)), half / (value * (1 - value))
        return float(expit(centre - half)), float(expit(centre + half))
    if scale == "atanh":
        centre, half = float(np.arctanh(value)), half / (1 - value**2)
        return float(np.tanh(centre - half)), float(np.tanh(centre + half))
    if scale == "log":
        factor = float(np.exp(half / value))
        return value / factor, value * factor
    return value - half, value + half
