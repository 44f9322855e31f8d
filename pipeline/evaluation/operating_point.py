"""Operating points: thresholds chosen on the tune split for a stated target, and frozen there."""

import re

import numpy as np
from numpy.typing import NDArray

from pipeline.domain import OperatingPoint, UsageError

TARGET = re.compile(r"(sensitivity|specificity)\s*>=\s*(\d*\.?\d+)")
COST = re.compile(r"cost\s+ratio\s+(\d*\.?\d+)")


def parse_target(target: str) -> tuple[str, float]:
    """What a target asks for: ("youden", 0.0), ("sensitivity", x), ("specificity", x) or ("cost", ratio).

    Raises:
        UsageError: If the text is none of these, x is not above 0 and at most 1, or the ratio is not above 0.
    """
    text = target.strip().lower()
    if text == "youden":
        return "youden", 0.0
    match = TARGET.fullmatch(text)
    if match and 0 < float(match[2]) <= 1:
        return match[1], float(match[2])
    cost = COST.fullmatch(text)
    if cost and float(cost[1]) > 0:
        return "cost", float(cost[1])
    raise UsageError(
        'evaluate.target: expected "youden", "sensitivity >= 0.95", "specificity >= 0.9" (a share above 0, at most 1) '
        f'or "cost ratio 5" (above 0), found {target[:80]!r}'
    )


def choose(
    finding: str, y: NDArray[np.float64], p: NDArray[np.float64], target: str, chosen_on: str = "tune"
) -> OperatingPoint | None:
    """The threshold that meets the target, or None where a class is missing (no threshold can be judged then).

    Candidates lie midway between neighbouring observed probabilities, so that rounding in a table never flips a scan.
    "sensitivity >= x": of those that meet it, the one with the fewest false positives; "specificity >= x": the one
    with the most true positives; "youden": the largest sensitivity + specificity; "cost ratio r": the smallest
    r x misses + false alarms among these scans. Ties go to the higher sensitivity, then to the higher specificity.

    Args:
        finding: Name that the point carries.
        y: 0, 1 or NaN (missing, left out) a scan.
        p: Calibrated probability a scan.
        target: See `parse_target`.
        chosen_on: The split that y and p come from.
    """
    kind, wanted = parse_target(target)
    known = ~np.isnan(y)
    y, p = np.asarray(y, dtype=np.float64)[known], np.asarray(p, dtype=np.float64)[known]
    if not (y == 1).any() or not (y == 0).any():
        return None
    thresholds = candidate_thresholds(p)
    sensitivity = 1 - np.searchsorted(np.sort(p[y == 1]), thresholds) / (y == 1).sum()
    specificity = np.searchsorted(np.sort(p[y == 0]), thresholds) / (y == 0).sum()
    if kind == "youden":
        score = sensitivity + specificity
    elif kind == "cost":
        score = wanted * (y == 1).sum() * sensitivity + (y == 0).sum() * specificity
    elif kind == "sensitivity":
        score = np.where(sensitivity >= wanted - 1e-12, specificity, -1.0)
    else:
        score = np.where(specificity >= wanted - 1e-12, sensitivity, -1.0)
    best = np.lexsort((specificity, sensitivity, np.round(score, 12)))[-1]
    return OperatingPoint(finding, float(thresholds[best]), target, chosen_on)


def candidate_thresholds(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Every way to divide the probabilities, ascending: below all, midway between neighbours, above all."""
    values = np.unique(p)
    above = (values[-1] + 1) / 2 if values[-1] < 1 else np.nextafter(1.0, 2.0)
    return np.concatenate([[values[0] / 2], (values[:-1] + values[1:]) / 2, [above]])
