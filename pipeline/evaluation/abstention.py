"""When to say nothing: prediction sets of a stated coverage, and what referring the unsure scans to a reader gains."""

from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import logit

from pipeline.evaluation.calibration import to_logit
from pipeline.evaluation.cases import Cases
from pipeline.evaluation.intervals import Array
from pipeline.evaluation.proportions import share
from pipeline.sections import EvaluateSection

Sets: TypeAlias = NDArray[np.bool_]
"""[scan, 2]: whether the set holds "without the finding", and "with it"."""

REFERRED = np.round(np.arange(0, 0.95, 0.05), 2)
"""Shares of scans sent to a reader, for the curve."""


def conformal_limits(y: Array, p: Array, coverage: float) -> tuple[float, float]:
    """The largest surprise that a set still takes in, for scans without and with the finding.

    Surprise is 1 - probability of the true state. Split-conformal, each class on its own (Vovk 2012): on new scans like
    these, a set holds the truth with at least this coverage in both classes. With fewer than coverage / (1 - coverage)
    scans of a class the limit is 1: its state is in every set.
    """
    return surprise_limit(p[y == 0], coverage), surprise_limit(1 - p[y == 1], coverage)


def surprise_limit(surprise: Array, coverage: float) -> float:
    """The limit of one state, from the surprise at scans in it; 1 where they are too few."""
    rank = int(np.ceil((len(surprise) + 1) * coverage))
    return float(np.sort(surprise)[rank - 1]) if rank <= len(surprise) else 1.0


def prediction_sets(p: Array, limits: tuple[float, float]) -> Sets:
    """The set of each scan: every state whose surprise is within its limit."""
    return np.column_stack([p <= limits[0], 1 - p <= limits[1]])


def cross_sets(y: Array, p: Array, folds: NDArray[np.str_], coverage: float) -> Sets:
    """The set of each out-of-fold scan, by the limits that the other folds give."""
    sets = np.zeros((len(p), 2), dtype=bool)
    for fold in np.unique(folds):
        here = folds == fold
        sets[here] = prediction_sets(p[here], conformal_limits(y[~here], p[~here], coverage))
    return sets


def sets_of(rows: pd.DataFrame, tune: pd.DataFrame, finding: str, coverage: float) -> Sets | str:
    """The set of each labelled scan of a split, or the reason why there are none.

    The limits come from the tune split; those of out-of-fold scans from the other folds.
    """
    y, p = (rows[f"{kind}_{finding}"].to_numpy(float) for kind in "yp")
    if len(rows) and (rows["split"] == "oof").all() and rows["fold"].nunique() > 1:
        return cross_sets(y, p, rows["fold"].to_numpy(str), coverage)
    if len(rows) and (rows["split"] == "tune").all():
        return "the tune split itself sets the limits"
    if tune.empty:
        return "no labelled tune split to set the limits on"
    limits = conformal_limits(tune[f"y_{finding}"].to_numpy(float), tune[f"p_{finding}"].to_numpy(float), coverage)
    return prediction_sets(p, limits)


def abstention(cases: Cases, sets: Sets | str, section: EvaluateSection) -> dict[str, Any]:
    """How often the sets hold the truth, how many scans they leave to a reader, and the error among the others.

    Args:
        cases: The scans of one finding.
        sets: One set a scan, or the reason why there are none.
        section: Stated coverage, and the level of the intervals.
    """
    found: dict[str, Any] = {"stated_coverage": section.coverage, "referral": referral_curve(cases, section.level)}
    if isinstance(sets, str) or cases.n == 0:
        return found | {"reason": sets if isinstance(sets, str) else "no labelled scans"}
    positive = cases.y == 1
    held = np.where(positive, sets[:, 1], sets[:, 0])
    decided = sets.sum(axis=1) == 1

    def part(hits: NDArray[np.bool_], counted: NDArray[np.bool_], nothing: str) -> Any:
        return share(hits, counted, cases.patients, section.level, nothing)

    everyone = np.ones(cases.n, dtype=bool)
    return found | {
        "coverage": part(held, everyone, ""),
        "coverage_positive": part(held, positive, "no positive scans"),
        "coverage_negative": part(held, ~positive, "no negative scans"),
        "referred": part(~decided, everyone, ""),
        "error_among_decided": part(~held, decided, "every scan is referred"),
    }


def referral_curve(cases: Cases, level: float) -> list[dict[str, Any]]:
    """Share of scans sent to a reader, the least sure first, against the error among the rest at the operating point.

    Sure means far from the threshold in log odds. Equally sure scans stay together. Empty without a threshold.
    """
    threshold = (cases.point or {}).get("threshold")
    if cases.positive is None or not isinstance(threshold, float) or cases.n == 0:
        return []
    sure = np.abs(to_logit(cases.p) - logit(np.clip(threshold, 1e-12, 1 - 1e-12)))
    wrong, rows = cases.positive != (cases.y == 1), []
    for limit in np.quantile(sure, REFERRED, method="higher"):
        kept = sure >= limit
        error = share(wrong, kept, cases.patients, level, "")
        rows.append({"referred": float(1 - kept.mean()), "error": error["value"], "low": error["low"],
                     "high": error["high"], "n": error["n"]})  # fmt: skip
    return list({row["n"]: row for row in rows}.values())
