"""How much each scan moves a metric: the linear approximation that replaces the bootstrap in large tables.

A metric of many scans is nearly its value plus the sum of these influences, so its variance is the sum over patients of
the squared sum of their influences. For the AUROC that is Obuchowski's clustered variance (1997).
"""

import numpy as np

from pipeline.evaluation import metrics
from pipeline.evaluation.intervals import Array, Groups, auroc_parts, distinct


def standard_error(influence: Array, patients: Groups) -> float:
    """Standard error of a metric, clustered by patient."""
    sums = np.bincount(patients, weights=influence)
    groups = distinct(patients)
    return float(np.sqrt(float(sums @ sums) * groups / max(groups - 1, 1)))


def of_auroc(y: Array, p: Array) -> Array:
    """Influence on the AUROC; with one scan a patient this gives DeLong's variance."""
    parts = auroc_parts(y, p)
    for side in (y == 1, y == 0):
        parts[side] = (parts[side] - parts[side].mean()) / side.sum()
    return parts


def of_partial_auroc(y: Array, p: Array, limit: float) -> Array:
    """Influence on the standardized partial AUROC up to a false-positive rate.

    A positive counts by how much of the false-positive range lies above it. A negative above the cut moves the curve,
    and every negative moves the cut (Wang and Chang, Biostatistics 2011;12:369).
    """
    truth, ranked = y == 1, np.sort(p[y == 0])
    positives, negatives = np.sort(p[truth]), len(ranked)
    above = 1 - np.searchsorted(ranked, p[truth], side="right") / negatives
    cut = ranked[max(0, int(np.ceil((1 - limit) * negatives)) - 1)]
    found = np.empty(len(p))
    found[truth] = np.maximum(limit - above, 0)
    rate, at_cut = (1 - np.searchsorted(positives, x, side="right") / len(positives) for x in (p[~truth], cut))
    found[~truth] = np.where(p[~truth] > cut, rate - at_cut, 0.0)
    for side in (truth, ~truth):
        found[side] = (found[side] - found[side].mean()) / side.sum()
    return np.asarray(found / (2 * (limit - limit**2 / 2)))


def of_average_precision(y: Array, p: Array) -> Array:
    """Influence on average precision: its derivative by the weight of each scan (equal probabilities share a step)."""
    values, step = np.unique(-p, return_inverse=True)  # steps run from the highest probability down
    total = np.bincount(step, minlength=len(values)).astype(float)
    hits = np.bincount(step, weights=y, minlength=len(values))
    called, found, positives = np.cumsum(total), np.cumsum(hits), y.sum()
    precision = found / called
    own = (precision - (hits @ precision) / positives) / positives
    # Each scan is among the called ones at every step from its own on.
    gained = np.cumsum((hits * (called - found) / called**2)[::-1])[::-1] / positives
    lost = np.cumsum((hits * found / called**2)[::-1])[::-1] / positives
    return np.asarray(np.where(y == 1, own[step] + gained[step], -lost[step]))


def of_decisions(cells: Array) -> dict[str, Array]:
    """Influence on each metric of `metrics.AT_POINT`: its slope by the four shares, times how a scan moves those.

    Args:
        cells: `metrics.confusion` of the scans: [scan, 4].
    """
    shares, h = cells.mean(axis=0), 1e-6
    steps = np.concatenate([np.eye(4), -np.eye(4)]) * h
    values = metrics.at_point(np.maximum(shares + steps * shares, 0))
    scale = np.where(shares > 0, 2 * h * shares, 1.0)
    slopes = np.column_stack([(v[:4] - v[4:]) / scale for v in values.values()])
    return dict(zip(values, ((cells - shares) @ slopes / len(cells)).T, strict=True))
