"""Points to draw: what the report's figures show, computed from the same cases as its numbers."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, roc_curve

from pipeline.evaluation.cases import Cases

Array: TypeAlias = NDArray[np.float64]

MOST_POINTS = 400
"""Points that a curve is thinned to; more can't be seen."""
BINS = 20


def curves_of(cases: Cases) -> dict[str, Array] | None:
    """The curves of one finding in one split, or None where a class is missing.

    Keys: `false_positive_rate` and `true_positive_rate` (the ROC curve), `recall` and `precision`, `edges` (borders of
    the histogram's bins, 0 to 1), `positives` and `negatives` (scans a bin).
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
    return found


def _thinned(x: Array, y: Array) -> tuple[Array, Array]:
    """At most `MOST_POINTS` of the points, both ends among them."""
    kept = np.unique(np.linspace(0, len(x) - 1, min(len(x), MOST_POINTS)).round().astype(int))
    return x[kept], y[kept]
