"""Calibration: numbers fitted on tune that turn a network's logits into probabilities, and how well they hold.

The map is temperature scaling with an intercept ("bias-corrected temperature scaling", Alexandari, Kundaje and
Shrikumar, ICML 2020). The intercept is there because training weighs classes by their frequency: that moves every
logit towards a balanced cohort, which no temperature can undo.
"""

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, logit, softmax
from sklearn.isotonic import IsotonicRegression

Array: TypeAlias = NDArray[np.float64]
Task: TypeAlias = Literal["binary", "multiclass", "multilabel"]
Method: TypeAlias = Literal["temperature", "platt", "isotonic"]

SLOPES = (0.01, 20.0)
"""Bounds of 1 / temperature; a fit that ends on them says that the logits carry nothing, or that tune is tiny."""
EDGE = 1e-12
"""Probabilities are kept this far from 0 and 1 where a logit is taken."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What turns logits into calibrated probabilities: numbers only, stored in the model folder.

    Attributes:
        task: multiclass applies a softmax; binary and multilabel treat each finding alone.
        temperature: One number a finding; a single one for multiclass by temperature. Logits are divided by it.
        intercept: One number a finding, added after the division.
        method: "temperature"; "platt" and "isotonic" treat each class of multiclass alone, then scale to a sum of 1;
            "none" where nothing could be fitted.
        knots: isotonic: rising logits, for each finding; none for a finding that could not be fitted.
        levels: isotonic: the probability at each knot; between two knots it runs straight.
    """

    task: Task
    temperature: tuple[float, ...]
    intercept: tuple[float, ...]
    method: Literal["temperature", "platt", "isotonic", "none"] = "temperature"
    knots: tuple[tuple[float, ...], ...] = ()
    levels: tuple[tuple[float, ...], ...] = ()

    def apply(self, logits: Array) -> Array:
        """Calibrated probabilities [scan, finding] from logits [scan, finding]."""
        logits = np.asarray(logits, dtype=np.float64)
        scaled = logits / np.asarray(self.temperature) + np.asarray(self.intercept)
        if self.task == "multiclass" and self.method in ("temperature", "none"):
            return np.asarray(softmax(scaled, axis=1))
        p = np.asarray(expit(scaled))
        for k, (x, level) in enumerate(zip(self.knots, self.levels, strict=True)):
            p[:, k] = np.interp(logits[:, k], x, level) if x else p[:, k]
        return p / p.sum(axis=1, keepdims=True) if self.task == "multiclass" else p

    def misfit(self, task: str, findings: int) -> str:
        """Why it can't be that of a model of this task with so many findings, "" if it can."""
        if self.task != task:
            return f"it is for task {self.task}, the model's is {task}"
        shared = 1 if task == "multiclass" else findings
        if len(self.temperature) not in (shared, findings) or len(self.intercept) != findings:
            return f"needs a temperature and an intercept for each of {findings} findings"
        curves = self.knots + self.levels
        if [len(x) for x in self.knots] != [len(y) for y in self.levels] or len(self.knots) not in (0, findings):
            return f"needs knots and levels of equal length for each of {findings} findings"
        if not np.isfinite([*self.temperature, *self.intercept, *(v for curve in curves for v in curve)]).all():
            return "needs finite numbers"
        return "" if min(self.temperature) > 0 else "needs temperatures above 0"


def uncalibrated(task: Task, findings: int) -> Calibration:
    """The map that only applies the sigmoid or the softmax."""
    return Calibration(task, (1.0,) * (1 if task == "multiclass" else findings), (0.0,) * findings, "none")


def fit_calibration(method: Method, logits: Array, targets: Array, task: Task) -> Calibration:
    """The calibration of this method with the smallest log loss (isotonic: squared loss) on the tune split.

    Args:
        method: See `Calibration`.
        logits: [scan, finding], as the network gives them.
        targets: [scan, finding] of 0 and 1; NaN is a missing label and is left out.
        task: Decides between one softmax and a sigmoid a finding.
    """
    if method == "temperature":
        return fit_temperature(logits, targets, task)
    alone = fit_temperature(logits, targets, "multilabel")  # a slope and an intercept for each column
    if alone.method == "none":
        return uncalibrated(task, targets.shape[1])
    if method == "platt":
        return replace(alone, task=task, method="platt")
    fits = [_fit_isotonic(logits[:, k], targets[:, k]) for k in range(targets.shape[1])]
    knots, levels = tuple(x for x, _ in fits), tuple(level for _, level in fits)
    return replace(alone, task=task, method="isotonic", knots=knots, levels=levels)


def _fit_isotonic(logits: Array, targets: Array) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Knots and levels of the best rising steps (Zadrozny and Elkan 2002); empty where only one class is known.

    On softened targets, as in `_fit_sigmoid`: no probability is 0 or 1 because tune is small.
    """
    known = ~np.isnan(targets)
    soft = _softened(targets[known])
    if soft is None:
        return (), ()
    fitted = IsotonicRegression(out_of_bounds="clip").fit(logits[known], soft)
    return tuple(map(float, fitted.X_thresholds_)), tuple(map(float, fitted.y_thresholds_))


def fit_temperature(logits: Array, targets: Array, task: Task) -> Calibration:
    """The calibration with the smallest log loss on the tune split.

    Targets are softened as in Platt (1999), so that the fit is finite even where the classes separate.
    A finding without both classes keeps temperature 1 and intercept 0.

    Args:
        logits: [scan, finding], as the network gives them.
        targets: [scan, finding] of 0 and 1; NaN is a missing label and is left out.
        task: Decides between one softmax and a sigmoid a finding.
    """
    logits, targets = np.asarray(logits, dtype=np.float64), np.asarray(targets, dtype=np.float64)
    if task == "multiclass":
        return _fit_softmax(logits, targets)
    fits = [_fit_sigmoid(logits[:, k], targets[:, k]) for k in range(logits.shape[1])]
    method: Literal["temperature", "none"] = "none" if all(fit is None for fit in fits) else "temperature"
    slopes = [(1.0, 0.0) if fit is None else fit for fit in fits]
    return Calibration(task, tuple(1 / a for a, _ in slopes), tuple(b for _, b in slopes), method)


def _fit_sigmoid(logits: Array, targets: Array) -> tuple[float, float] | None:
    """(1 / temperature, intercept), or None where only one class is known."""
    known = ~np.isnan(targets)
    x, soft = logits[known], _softened(targets[known])
    if soft is None:
        return None

    def loss(parameters: Array) -> tuple[float, Array]:
        z = parameters[0] * x + parameters[1]
        error = expit(z) - soft
        return float(np.mean(np.logaddexp(0, z) - soft * z)), np.array([np.mean(error * x), np.mean(error)])

    found = minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=[SLOPES, (None, None)])
    return float(found.x[0]), float(found.x[1])


def _softened(y: Array) -> Array | None:
    """Targets moved a little towards each other (Platt 1999), None where only one class is there."""
    positives, negatives = int((y == 1).sum()), int((y == 0).sum())
    if not positives or not negatives:
        return None
    return np.where(y == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))


def _fit_softmax(logits: Array, targets: Array) -> Calibration:
    known = ~np.isnan(targets).any(axis=1)
    x, y = logits[known], targets[known]
    counts, classes = y.sum(axis=0), y.shape[1]
    if (counts > 0).sum() < 2:
        return uncalibrated("multiclass", classes)
    kept = (counts + 1) / (counts + 2)
    own = (y * kept).sum(axis=1, keepdims=True)
    soft = np.where(y == 1, own, (1 - own) / (classes - 1))

    def loss(parameters: Array) -> tuple[float, Array]:
        z = parameters[0] * x + parameters[1:]
        z = z - z.max(axis=1, keepdims=True)
        total = np.log(np.exp(z).sum(axis=1))
        error = (np.exp(z - total[:, None]) - soft) / len(x)
        gradient = np.concatenate([[np.sum(error * x)], error.sum(axis=0)])
        return float(np.mean(total - (soft * z).sum(axis=1))), gradient

    start = np.concatenate([[1.0], np.zeros(classes)])
    bounds = [SLOPES, *[(None, None)] * classes]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds)
    intercept = found.x[1:] - found.x[1:].mean()
    return Calibration("multiclass", (float(1 / found.x[0]),), tuple(map(float, intercept)))


def to_logit(p: Array) -> Array:
    """Log odds, finite also for probabilities of 0 and 1."""
    return np.asarray(logit(np.clip(p, EDGE, 1 - EDGE)))


@dataclass(frozen=True, slots=True)
class Recalibration:
    """The logistic regression of outcomes on the log odds of the predictions (Cox 1958).

    Attributes:
        slope: 1 where calibrated; below 1 the probabilities are too extreme.
        intercept: 0 where calibrated, from the model with slope 1 ("calibration in the large", log odds).
        slope_se: Cluster-robust standard error; so is `intercept_se`.
    """

    slope: float
    slope_se: float
    intercept: float
    intercept_se: float


def recalibration(y: Array, p: Array, patients: NDArray[np.intp]) -> Recalibration | None:
    """Calibration slope and intercept with standard errors clustered by patient; None where no finite fit exists.

    Args:
        y: 0 or 1 a scan.
        p: Calibrated probability a scan.
        patients: 0 .. n-1, the patient of each scan.
    """
    x = to_logit(p)
    both = _logistic(np.column_stack([np.ones_like(x), x]), y, np.zeros_like(x), patients)
    large = _logistic(np.ones((len(x), 1)), y, x, patients)
    if both is None or large is None:
        return None
    return Recalibration(both[0][1], both[1][1], large[0][0], large[1][0])


def _logistic(design: Array, y: Array, offset: Array, patients: NDArray[np.intp]) -> tuple[Array, Array] | None:
    """Coefficients and cluster-robust standard errors by Newton's method; None where the likelihood has no maximum."""
    beta = np.zeros(design.shape[1])
    for _ in range(50):
        p = expit(design @ beta + offset)
        information = design.T @ (design * (p * (1 - p))[:, None])
        if np.linalg.cond(information) > 1e12:
            return None
        step = np.linalg.solve(information, design.T @ (y - p))
        # A half step keeps Newton from leaping where probabilities are extreme.
        beta = beta + step * min(1.0, 4.0 / max(float(np.abs(step).max()), 1e-300))
        if np.abs(step).max() < 1e-10:
            break
    else:
        return None
    scores = np.zeros((int(patients.max()) + 1, design.shape[1]))
    np.add.at(scores, patients, design * (y - p)[:, None])
    bread = np.linalg.inv(information)
    groups = len(scores)
    covariance = bread @ (scores.T @ scores) @ bread * (groups / max(groups - 1, 1))
    return beta, np.sqrt(np.diag(covariance))


def equal_mass_bins(p: Array, bins: int) -> NDArray[np.intp]:
    """The bin 0 .. bins-1 of each scan, as even in size as ties allow (equal probabilities share a bin)."""
    edges = np.unique(np.quantile(p, np.linspace(0, 1, bins + 1)[1:-1]))
    return np.searchsorted(edges, p, side="right").astype(np.intp)


def expected_calibration_error(y: Array, p: Array, bins: int) -> float:
    """Mean distance of observed frequency and mean probability over equal-mass bins, weighted by their size."""
    bin_of = equal_mass_bins(p, bins)
    gap = np.bincount(bin_of, weights=y - p)
    return float(np.abs(gap).sum() / len(y))
