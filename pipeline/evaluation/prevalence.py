"""PPV and NPV where another share of patients has the finding than in the evaluated table."""

from typing import Any

from pipeline.evaluation.intervals import Measure, measure, undefined


def at_prevalence(sensitivity: Measure, specificity: Measure, prevalence: float, level: float) -> dict[str, Any]:
    """PPV and NPV at a prevalence (Bayes' rule), with bounds.

    Both grow with sensitivity and with specificity, so the bounds come from both lower and from both upper bounds: a
    little wider than the level asks for, and defined also where no scan was called wrongly.
    """
    ppv = _predictive(sensitivity, specificity, prevalence, level, "no scan was called positive")
    npv = _predictive(specificity, sensitivity, 1 - prevalence, level, "no scan was called negative")
    return {"prevalence": prevalence, "ppv": ppv, "npv": npv}


def _predictive(own: Measure, other: Measure, share: float, level: float, nothing: str) -> Measure:
    """The predictive value of a call, from the accuracy in its own state and in the other one."""
    n, pairs = own["n"] + other["n"], [(own[k], other[k]) for k in ("value", "low", "high")]
    found = []
    for right, other_right in pairs:
        if right is None or other_right is None:
            return undefined(level, n, own.get("reason") or other.get("reason") or nothing)
        called = right * share + (1 - other_right) * (1 - share)
        found.append(right * share / called if called else None)
    value, low, high = found
    if value is None or low is None or high is None:
        return undefined(level, n, nothing)
    return measure(value, low, high, level, "bounds of sensitivity and specificity combined", n)
