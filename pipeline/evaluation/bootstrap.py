"""The bootstrap by patient: how much a metric spreads where whole patients are drawn again, and intervals from that."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from pipeline.evaluation import influence, metrics
from pipeline.evaluation.intervals import MANY, Array, Groups, Scale, scaled_interval
from pipeline.sections import EvaluateSection

CELLS = 4_000_000
"""Weights held at once: keeps the bootstrap below about 200 MB whatever the number of scans."""
ENOUGH = 0.5
"""An interval needs at least this share of resamples in which the metric is defined."""
Bounds = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Spread:
    """How sure a metric is.

    Attributes:
        error: Standard error by patient; NaN where it is undefined, 0 where nothing varies.
        how: What it comes from, in words.
        bounds: Low and high, where they are taken from the resamples themselves.
    """

    error: float
    how: str
    bounds: Bounds | None = None

    def interval(self, value: float, groups: int, level: float, scale: Scale) -> tuple[float, float, str] | None:
        """Low, high and method; None where there is no spread. The arguments are those of `scaled_interval`."""
        scaled = scaled_interval(value, self.error, groups, level, scale)
        if scaled is None or (self.bounds is not None and not np.isfinite(self.bounds).all()):
            return None
        return (*scaled, f"{self.how}, {scale} scale") if self.bounds is None else (*self.bounds, self.how)


def spreads(
    statistic: Callable[[Array], Array], linear: Callable[[], Iterable[Array]], patients: Groups,
    section: EvaluateSection,
) -> list[Spread]:  # fmt: skip
    """The spread of each metric of a statistic: by bootstrap, above `MANY` scans by the linear approximation.

    Args:
        statistic: From weights [resample, scan] to values [resample, metric].
        linear: The influence of each scan on each metric, a column [scan] a metric.
        patients: The patient of each scan.
        section: Resamples, seed, level, and the kind of interval.
    """
    if len(patients) > MANY:
        return [Spread(influence.standard_error(x, patients), "linear approximation by patient") for x in linear()]
    drawn, how = resampled(statistic, patients, section.resamples, section.seed), "bootstrap by patient"
    errors = [spread_of(column) for column in drawn.T]
    if section.interval == "student":
        return [Spread(error, how) for error in errors]
    if section.interval == "percentile":
        bounds = [percentile(column, section.level) for column in drawn.T]
        return [Spread(error, f"{how}, percentile", b) for error, b in zip(errors, bounds, strict=True)]
    values, left_out = statistic(metrics.ones(len(patients)))[0], without_each(statistic, patients)
    bounds = [bca(*one, section.level) for one in zip(values, drawn.T, left_out.T, strict=True)]
    return [Spread(error, f"{how}, BCa", b) for error, b in zip(errors, bounds, strict=True)]


def percentile(drawn: Array, level: float) -> Bounds:
    """The bounds with as many resamples below as above; those where the metric is undefined do not count."""
    return _quantiles(drawn, np.array([(1 - level) / 2, (1 + level) / 2]))


def bca(value: float, drawn: Array, left_out: Array, level: float) -> Bounds:
    """Percentiles moved by the bias of the resamples and by the skewness of the metric.

    Source: Efron, Journal of the American Statistical Association 1987;82:171; as scipy's, but for resamples where the
    metric is undefined, which don't count here. NaN where all resamples lie on one side of the value.

    Args:
        value: The metric itself.
        drawn: Its values under resamples.
        left_out: Its values without each patient in turn.
        level: Confidence level.
    """
    drawn, left_out = drawn[np.isfinite(drawn)], left_out[np.isfinite(left_out)]
    if not len(drawn) or not len(left_out) or not np.ptp(left_out):
        return float("nan"), float("nan")
    below = (np.count_nonzero(drawn < value) + np.count_nonzero(drawn <= value)) / (2 * len(drawn))
    gaps = left_out.mean() - left_out
    acceleration = float((gaps**3).sum() / (6 * (gaps**2).sum() ** 1.5))
    bias = float(norm.ppf(below))
    if not np.isfinite(bias):
        return float("nan"), float("nan")
    moved = bias + norm.ppf([(1 - level) / 2, (1 + level) / 2])
    return _quantiles(drawn, np.asarray(norm.cdf(bias + moved / (1 - acceleration * moved))))


def _quantiles(drawn: Array, shares: Array) -> Bounds:
    finite = drawn[np.isfinite(drawn)]
    if not len(finite):
        return float("nan"), float("nan")
    low, high = np.quantile(finite, shares)
    return float(low), float(high)


def resampled(statistic: Callable[[Array], Array], patients: Groups, resamples: int, seed: int) -> Array:
    """A statistic under resamples of whole patients: [resample, metric].

    Args:
        statistic: From weights [resample, scan] to values [resample, metric].
        patients: The patient of each scan; numbered in an order that does not hang on the rows' order.
        resamples: How often to draw.
        seed: Same seed, same patients: same draws.
    """
    return np.concatenate(
        [statistic(counts[:, patients]) for counts in draws(int(patients.max()) + 1, len(patients), resamples, seed)]
    )


def draws(patients: int, scans: int, resamples: int, seed: int) -> Iterator[Array]:
    """How often each patient was drawn, in pieces: [resample, patient]."""
    rng = np.random.default_rng(seed)
    step = max(1, CELLS // max(scans, patients))
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = rng.integers(0, patients, size=(rows, patients)) + np.arange(rows)[:, None] * patients
        yield np.bincount(drawn.ravel(), minlength=rows * patients).reshape(rows, patients).astype(np.float64)


def without_each(statistic: Callable[[Array], Array], patients: Groups) -> Array:
    """A statistic without each patient in turn (the jackknife): [patient, metric]."""
    names, step = np.arange(int(patients.max()) + 1), max(1, CELLS // len(patients))
    if len(names) == 1:  # without the only patient nothing is left
        return statistic(metrics.ones(len(patients))) * np.nan
    pieces = [names[start : start + step, None] for start in range(0, len(names), step)]
    return np.concatenate([statistic((patients[None] != piece).astype(np.float64)) for piece in pieces])


def spread_of(drawn: Array) -> float:
    """The bootstrap's standard error; NaN where too many resamples are undefined, 0 where all are alike."""
    finite = drawn[np.isfinite(drawn)]
    if len(finite) < max(2.0, ENOUGH * len(drawn)):
        return float("nan")
    return float(finite.std(ddof=1)) if np.ptp(finite) else 0.0
