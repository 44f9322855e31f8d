"""A share of scans with its interval, clustered by patient, in closed form."""

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.intervals import Array, Groups, Measure, distinct, measure, undefined, wilson

Flags = NDArray[np.bool_]


def share(hits: Flags, counted: Flags, patients: Groups, level: float, nothing: str) -> Measure:
    """Share of the counted scans that are hits, with Wilson's interval on as many scans as the clustering leaves.

    The number of scans is divided by the design effect: the variance clustered by patient over the binomial one
    (Kish 1965). Where all or none are hits the clustering can't be seen: there each patient counts once.

    Args:
        hits: Hit or not, a scan.
        counted: Which scans are in the denominator.
        patients: The patient of each scan.
        level: Confidence level.
        nothing: The reason where no scan is counted.
    """
    n = int(counted.sum())
    if n == 0:
        return undefined(level, 0, nothing)
    here, hit = patients[counted], hits[counted].astype(np.float64)
    value = float(hit.mean())
    groups = distinct(here)
    if groups == n:
        return measure(value, *wilson(value * n, n, level), level, "Wilson", n)
    if value in (0.0, 1.0) or groups < 2:
        return measure(value, *wilson(value * groups, groups, level), level, "Wilson, on patients", n)
    variance = clustered_variance(hit - value, here)  # 0 where every patient has the same share of hits
    effective = min(float(n), value * (1 - value) / variance) if variance > 0 else float(n)
    return measure(value, *wilson(value * effective, effective, level), level, "Wilson, design effect by patient", n)


def clustered_variance(residuals: Array, patients: Groups) -> float:
    """Variance of a mean of scans, whose residuals add up within a patient."""
    sums, groups = np.bincount(patients, weights=residuals), distinct(patients)
    return float(sums @ sums) * groups / (groups - 1) / len(residuals) ** 2
