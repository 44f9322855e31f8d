"""Whether the probabilities hold: slope, intercept, calibration error, Brier's parts, the reliability diagram."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.calibration import equal_mass_bins, expected_calibration_error, recalibration
from pipeline.evaluation.cases import Cases
from pipeline.evaluation.intervals import Array, distinct, measure, undefined, wilson, without_interval, z_of

SCANS_PER_BIN, MOST_BINS = 10, 10


def calibration_numbers(cases: Cases, level: float) -> dict[str, Any]:
    """Slope, intercept, expected calibration error, the parts of Brier's score, and the bins of the diagram."""
    if cases.one_class:
        nothing = undefined(level, cases.n, cases.one_class)
        return {"slope": nothing, "intercept": nothing, "ece": nothing, "brier_parts": None, "bins": []}
    fitted, z, method = recalibration(cases.y, cases.p, cases.patients), z_of(level), "Wald, clustered by patient"
    if fitted is None:
        slope = intercept = undefined(level, cases.n, "no finite fit: the classes separate, or there are too few scans")
    else:
        slope, intercept = (
            measure(value, value - z * se, value + z * se, level, method, cases.n)
            for value, se in ((fitted.slope, fitted.slope_se), (fitted.intercept, fitted.intercept_se))
        )
    bins = max(2, min(MOST_BINS, cases.n // SCANS_PER_BIN))
    error = expected_calibration_error(cases.y, cases.p, bins)
    ece = without_interval(error, level, cases.n, "resamples of this error lie above it; no honest interval is known")
    bin_of = equal_mass_bins(cases.p, bins)
    return {
        "slope": slope, "intercept": intercept, "ece": ece,
        "brier_parts": brier_parts(cases.y, cases.p, bin_of), "bins": _bins(cases, bin_of, level),
    }  # fmt: skip


def brier_parts(y: Array, p: Array, bin_of: NDArray[np.intp]) -> dict[str, float]:
    """Brier's score as reliability - resolution + uncertainty + within_bins, exactly.

    reliability is what calibration could still remove, resolution what the model knows, uncertainty what the
    prevalence leaves open (Murphy 1973). within_bins is the rest that comes from putting different probabilities into
    one bin (Stephenson, Coelho and Jolliffe 2008).
    """
    n, base = len(y), float(y.mean())
    size = np.bincount(bin_of)
    kept = size > 0
    share = size[kept] / n
    observed, forecast = (np.bincount(bin_of, weights=v)[kept] / size[kept] for v in (y, p))
    reliability = float(share @ (forecast - observed) ** 2)
    resolution = float(share @ (observed - base) ** 2)
    uncertainty = base * (1 - base)
    whole = float(np.mean((p - y) ** 2))
    return {
        "reliability": reliability, "resolution": resolution, "uncertainty": uncertainty,
        "within_bins": whole - reliability + resolution - uncertainty,
    }  # fmt: skip


def _bins(cases: Cases, bin_of: NDArray[np.intp], level: float) -> list[dict[str, float]]:
    """Mean probability and observed frequency in bins of even size, with Wilson's interval on the bin's patients."""
    found = []
    for k in np.unique(bin_of):
        here = bin_of == k
        observed, patients = float(cases.y[here].mean()), distinct(cases.patients[here])
        low, high = wilson(observed * patients, patients, level)
        mean_p, n = float(cases.p[here].mean()), int(here.sum())
        found.append({"mean_p": mean_p, "observed": observed, "low": low, "high": high, "n": n})
    return found
