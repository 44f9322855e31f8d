"""Prediction sets over all classes of a multiclass task, of a stated coverage in each class."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.evaluation.abstention import surprise_limit
from pipeline.evaluation.cases import numbered
from pipeline.evaluation.intervals import Array
from pipeline.evaluation.proportions import share
from pipeline.sections import EvaluateSection

Classes = NDArray[np.intp]


def class_limits(truth: Classes, p: Array, coverage: float) -> Array:
    """For each class the largest surprise, 1 - its probability, that a set still takes in.

    Split-conformal, each class on its own (Vovk 2012), as `abstention.conformal_limits`; a class with too few scans
    has the limit 1 and is in every set.

    Args:
        truth: The true class of each scan.
        p: [scan, class].
        coverage: Share of each class whose set is to hold it.
    """
    return np.array([surprise_limit(1 - p[truth == k, k], coverage) for k in range(p.shape[1])])


def class_sets(rows: pd.DataFrame, tune: pd.DataFrame, findings: list[str], section: EvaluateSection) -> dict[str, Any]:
    """How often the sets hold the true class, how large they are, and the error where they are a single answer.

    The limits come from the tune split; those of out-of-fold scans from the other folds.

    Args:
        rows: The scored and labelled rows of one split. tune: Those of the tune split, may be empty.
        findings: `<label>=<class>` of every class.
        section: Stated coverage, and the level of the intervals.
    """
    found: dict[str, Any] = {"stated_coverage": section.coverage}
    known, truth, p = _whole(rows, findings)
    if not len(known):
        return found | {"reason": "no labelled scans"}
    if (known["split"] == "oof").all() and known["fold"].nunique() > 1:
        folds, limits = known["fold"].to_numpy(str), np.ones(p.shape)
        for fold in np.unique(folds):
            here = folds == fold
            limits[here] = class_limits(truth[~here], p[~here], section.coverage)
    elif (known["split"] == "tune").all():
        return found | {"reason": "the tune split itself sets the limits"}
    else:
        tuned, tune_truth, tune_p = _whole(tune, findings)
        if not len(tuned):
            return found | {"reason": "no labelled tune split to set the limits on"}
        limits = np.tile(class_limits(tune_truth, tune_p, section.coverage), (len(p), 1))
    sets, patients = 1 - p <= limits, numbered(known["patient"])
    held, single, everyone = sets[np.arange(len(p)), truth], sets.sum(axis=1) == 1, np.ones(len(p), dtype=bool)
    return found | {
        "coverage": share(held, everyone, patients, section.level, ""),
        "single_answer": share(single, everyone, patients, section.level, ""),
        "error_among_single": share(~held, single, patients, section.level, "no set is a single answer"),
        "mean_size": float(sets.sum(axis=1).mean()),
    }


def _whole(rows: pd.DataFrame, findings: list[str]) -> tuple[pd.DataFrame, Classes, Array]:
    """The rows with one true class, that class, and the probabilities [scan, class]."""
    y, p = (rows[[f"{kind}_{f}" for f in findings]].to_numpy(float) for kind in ("y", "p"))
    whole = ~np.isnan(y).any(axis=1) & (np.nansum(y, axis=1) == 1)
    return rows[whole], y[whole].argmax(axis=1), p[whole]
