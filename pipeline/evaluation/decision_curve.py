"""Is it worth acting on? Net benefit against the probability from which a patient would be treated."""

import numpy as np
from scipy.stats import t as student

from pipeline.evaluation.cases import Cases
from pipeline.evaluation.intervals import Array, Groups, distinct
from pipeline.evaluation.proportions import clustered_variance

THRESHOLDS = np.round(np.concatenate([np.arange(0.01, 0.1, 0.01), np.arange(0.1, 0.96, 0.05)]), 2)
"""Threshold probabilities of the curve, dense where a miss weighs much more than a false alarm."""


def decision_curve(cases: Cases, level: float) -> list[dict[str, float | None]]:
    """Net benefit (Vickers and Elkin 2006) by threshold probability, with pointwise intervals clustered by patient.

    At threshold t a false alarm weighs t / (1 - t) of a hit: net benefit = hits / n - false alarms / n x t / (1 - t).
    `treat_all` is that of calling every scan positive; calling none has 0. Empty where a class is missing.
    """
    if cases.one_class:
        return []
    rows: list[dict[str, float | None]] = []
    for t in THRESHOLDS:
        worth = np.where(cases.y == 1, 1.0, -t / (1 - t))
        value, low, high = mean_interval(worth * (cases.p >= t), cases.patients, level)
        everyone = float(worth.mean())
        rows.append({"threshold": float(t), "net_benefit": value, "low": low, "high": high, "treat_all": everyone})
    return rows


def mean_interval(values: Array, patients: Groups, level: float) -> tuple[float, float | None, float | None]:
    """Mean of one value a scan, low, high: standard error clustered by patient, Student's quantile."""
    mean, groups = float(values.mean()), distinct(patients)
    if groups < 2:
        return mean, None, None
    half = float(student.ppf((1 + level) / 2, groups - 1)) * clustered_variance(values - mean, patients) ** 0.5
    return mean, mean - half, mean + half
