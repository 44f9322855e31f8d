"""Numbers over all findings together: macro averages, and accuracy where classes exclude each other."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from pipeline.evaluation import metrics
from pipeline.evaluation.cases import numbered
from pipeline.evaluation.intervals import (
    Array,
    Measure,
    bootstrap_interval,
    measure,
    resampled,
    undefined,
    without_interval,
)
from pipeline.sections import EvaluateSection

BY_PATIENT = "bootstrap by patient, logit scale"


def overall(rows: pd.DataFrame, findings: list[str], task: str, section: EvaluateSection) -> dict[str, Any]:
    """Macro AUROC and average precision; for multiclass also accuracy, balanced accuracy and the confusion table.

    Args:
        rows: The scored rows of one split of a checked table.
        findings: At least two.
        task: "multiclass" or "multilabel".
        section: Level, resamples and seed of the intervals.
    """
    y, p = (rows[[f"{kind}_{f}" for f in findings]].to_numpy(float) for kind in ("y", "p"))
    names = ("macro_auroc", "macro_average_precision")
    found: dict[str, Any] = dict(zip(names, _intervals(_macro(y, p), rows, section, "a class is missing"), strict=True))
    if task != "multiclass":
        return found
    whole = ~np.isnan(y).any(axis=1) & (np.nansum(y, axis=1) == 1)
    truth, said = y[whole].argmax(axis=1), p[whole].argmax(axis=1)
    table = np.zeros((len(findings), len(findings)), dtype=int)
    np.add.at(table, (truth, said), 1)
    names = ("accuracy", "balanced_accuracy")
    found |= dict(
        zip(
            names,
            _intervals(_agreement(truth, said, len(findings)), rows[whole], section, "a class has no scans"),
            strict=True,
        )
    )
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


def _agreement(truth: np.ndarray, said: np.ndarray, classes: int) -> Callable[[Array], Array]:
    """Accuracy, and the mean over the classes of the share that is recognised."""
    right, member = (truth == said).astype(float), np.eye(classes)[truth]

    def statistic(weights: Array) -> Array:
        of_class = weights @ member
        recall = np.divide(
            weights @ (member * right[:, None]), of_class, out=np.full(of_class.shape, np.nan), where=of_class > 0
        )
        return np.column_stack([(weights @ right) / weights.sum(axis=1), recall.mean(axis=1)])

    return statistic


def _intervals(
    statistic: Callable[[Array], Array], rows: pd.DataFrame, section: EvaluateSection, missing: str
) -> list[Measure]:
    n, level = len(rows), section.level
    if n == 0:
        return [undefined(level, 0, "no labelled scans")] * 2
    values, patients = statistic(metrics.ones(n))[0], numbered(rows["patient"].to_numpy(str))
    drawn = resampled(statistic, patients, section.resamples, section.seed)
    found = []
    for k, value in enumerate(values):
        interval = bootstrap_interval(value, drawn[:, k], len(np.unique(patients)), level, "logit")
        if not np.isfinite(value):
            found.append(undefined(level, n, missing))
        elif interval is None:
            found.append(
                without_interval(value, level, n, "the bootstrap gives no interval: too few scans, or no spread")
            )
        else:
            found.append(measure(value, *interval, level, BY_PATIENT, n))
    return found
