"""All numbers of one finding in one split, each with its interval, or with the reason why it is undefined."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation import influence, metrics
from pipeline.evaluation.bootstrap import Spread, spreads
from pipeline.evaluation.cases import Cases
from pipeline.evaluation.decision_curve import decision_curve
from pipeline.evaluation.intervals import (
    MANY,
    Array,
    Measure,
    Scale,
    auroc_covariance,
    auroc_interval,
    auroc_parts,
    distinct,
    measure,
    newcombe,
    undefined,
    wilson,
    without_interval,
)
from pipeline.evaluation.prevalence import at_prevalence
from pipeline.evaluation.reliability import calibration_numbers
from pipeline.sections import EvaluateSection

SCALES: dict[str, Scale] = {"mcc": "atanh", "positive_likelihood_ratio": "log", "negative_likelihood_ratio": "log"}
"""Scales of the metrics that do not run from 0 to 1."""
PROPORTIONS = ("sensitivity", "specificity", "ppv", "npv", "accuracy")
EMPTY = {
    "sensitivity": "no positive scans",
    "specificity": "no negative scans",
    "ppv": "no scan was called positive",
    "npv": "no scan was called negative",
    "positive_likelihood_ratio": "no false positives",
    "negative_likelihood_ratio": "no true negatives",
}
NO_SPREAD = "the bootstrap gives no interval: too few scans, or the same value in every resample"


def finding_numbers(cases: Cases, section: EvaluateSection) -> dict[str, Any]:
    """The entry of one finding in evaluation.json."""
    numbers: dict[str, Any] = {"n_scans": cases.n, "n_positive": int((cases.y == 1).sum())}
    numbers |= measures(cases, section, (*metrics.RANKING, "brier", *metrics.AT_POINT))
    numbers["operating_point"] = cases.point or {"threshold": None, "reason": cases.reason}
    if section.prevalence is not None:
        rates = numbers["sensitivity"], numbers["specificity"]
        numbers["at_prevalence"] = at_prevalence(*rates, section.prevalence, section.level)
    numbers["calibration"] = calibration_numbers(cases, section.level)
    numbers["decision_curve"] = decision_curve(cases, section.level)
    numbers["confusion"] = _table(cases)
    return numbers


def measures(cases: Cases, section: EvaluateSection, wanted: tuple[str, ...]) -> dict[str, Measure]:
    """The wanted metrics with intervals, from one set of resamples."""
    if cases.n == 0:
        return {name: undefined(section.level, 0, "no labelled scans") for name in wanted}
    names = tuple(name for name in wanted if cases.positive is not None or name not in metrics.AT_POINT)
    ranked, limit = metrics.Ranked(cases.y, cases.p), section.max_false_positive_rate
    values = dict(zip(names, _statistic(cases, ranked, names, limit)(metrics.ones(cases.n))[0], strict=True))
    needed = tuple(name for name in names if not _closed_form(name, cases) and np.isfinite(values[name]))
    drawn, linear = _statistic(cases, ranked, needed, limit), lambda: _influences(cases, needed, limit)
    spread = spreads(drawn, linear, cases.patients, section) if needed else []
    found = dict(zip(needed, spread, strict=True))
    return {name: _measure(name, values.get(name, np.nan), found.get(name), cases, section.level) for name in wanted}


def _influences(cases: Cases, names: tuple[str, ...], limit: float) -> list[Array]:
    """How much each scan moves each metric."""
    squares = (cases.p - cases.y) ** 2
    found = {"brier": (squares - squares.mean()) / cases.n}
    if cases.positive is not None:
        found |= influence.of_decisions(metrics.confusion(cases.y, cases.positive))
    if "partial_auroc" in names:
        found["partial_auroc"] = influence.of_partial_auroc(cases.y, cases.p, limit)
    if "average_precision" in names:
        found["average_precision"] = influence.of_average_precision(cases.y, cases.p)
    return [found[name] for name in names]


def _closed_form(name: str, cases: Cases) -> bool:
    if name == "auroc":
        return not cases.clustered or cases.n > MANY
    return name in PROPORTIONS and not cases.clustered


def _statistic(
    cases: Cases, ranked: metrics.Ranked, names: tuple[str, ...], max_false_positive_rate: float
) -> Callable[[Array], Array]:
    """From weights [resample, scan] to the metrics [resample, name]."""
    squares = (cases.p - cases.y) ** 2
    cells = None if cases.positive is None else metrics.confusion(cases.y, cases.positive)

    def statistic(weights: Array) -> Array:
        found = {} if cells is None else metrics.at_point(weights @ cells)
        if "auroc" in names:
            found["auroc"] = ranked.auroc(weights)
        if "partial_auroc" in names:
            found["partial_auroc"] = ranked.partial_auroc(weights, max_false_positive_rate)
        if "average_precision" in names:
            found["average_precision"] = ranked.average_precision(weights)
        if "brier" in names:
            found["brier"] = (weights @ squares) / weights.sum(axis=1)
        return np.column_stack([found[name] for name in names])

    return statistic


def _measure(name: str, value: float, spread: Spread | None, cases: Cases, level: float) -> Measure:
    reason = _undefined_because(name, cases)
    if reason or not np.isfinite(value):
        return undefined(level, cases.n, reason or EMPTY.get(name, "its denominator is 0"))
    counted = _counted(name, cases)
    n = int(counted.sum())
    if spread is None and name == "auroc":
        return _auroc_measure(value, cases, level)
    if spread is None:
        return measure(value, *wilson(value * n, n, level), level, "Wilson", n)
    own = name in (*PROPORTIONS, "brier")
    groups = distinct(cases.patients[counted]) if own else min(cases.patients_with(1), cases.patients_with(0))
    if interval := spread.interval(value, groups, level, SCALES.get(name, "logit")):
        low, high, method = interval
        return measure(value, low, high, level, method, n)
    return _without_spread(name, value, n, groups, cases, level)


def _without_spread(name: str, value: float, n: int, patients: int, cases: Cases, level: float) -> Measure:
    """All or none: the bootstrap has no spread there. Patients, not scans, are what was observed independently."""
    if name in PROPORTIONS:
        return measure(value, *wilson(value * patients, patients, level), level, "Wilson, on patients", n)
    if name == "auroc":
        low, high = newcombe(value, cases.patients_with(1), cases.patients_with(0), level)
        return measure(value, low, high, level, "Newcombe score, on patients", n)
    return without_interval(value, level, n, NO_SPREAD)


def _undefined_because(name: str, cases: Cases) -> str:
    if name in metrics.AT_POINT and cases.positive is None:
        return cases.reason
    return cases.one_class if name in (*metrics.RANKING, "balanced_accuracy", "f1", "mcc") else ""


def _auroc_measure(value: float, cases: Cases, level: float) -> Measure:
    """The AUROC with an interval in closed form."""
    parts = auroc_parts(cases.y, cases.p)[:, None]
    variance = float(auroc_covariance(cases.y, parts, cases.patients)[0, 0])
    low, high, method = auroc_interval(value, variance, cases.patients_with(1), cases.patients_with(0), level)
    method = method.replace("DeLong", "Obuchowski") if cases.clustered else method
    return measure(value, low, high, level, method, cases.n)


def _counted(name: str, cases: Cases) -> NDArray[np.bool_]:
    """The scans in a metric's denominator."""
    if name == "sensitivity":
        return np.asarray(cases.y == 1)
    if name == "specificity":
        return np.asarray(cases.y == 0)
    if name in ("ppv", "npv") and cases.positive is not None:
        return cases.positive if name == "ppv" else ~cases.positive
    return np.ones(cases.n, dtype=bool)


def _table(cases: Cases) -> dict[str, int] | None:
    if cases.positive is None:
        return None
    return dict(
        zip(("tp", "fp", "tn", "fn"), map(int, metrics.confusion(cases.y, cases.positive).sum(axis=0)), strict=True)
    )
