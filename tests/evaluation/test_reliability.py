import numpy as np
import pytest
from sklearn.metrics import brier_score_loss

from pipeline.evaluation.calibration import equal_mass_bins
from pipeline.evaluation.cases import Cases
from pipeline.evaluation.reliability import brier_parts, calibration_numbers
from tests.evaluation.studies import study


def test_brier_parts_of_a_worked_example() -> None:
    # Two forecasts, 0.2 (1 of 4 right) and 0.8 (3 of 4): each bin is 0.05 off, and 0.25 from the base rate of one half.
    y, p = np.array([0, 0, 0, 1, 1, 1, 1, 0.0]), np.repeat([0.2, 0.8], 4)
    found = brier_parts(y, p, np.repeat([0, 1], 4))
    assert found == pytest.approx(
        {"reliability": 0.0025, "resolution": 0.0625, "uncertainty": 0.25, "within_bins": 0.0}, abs=1e-12
    )


def test_brier_parts_add_up_to_the_score_of_sklearn() -> None:
    cases = study(np.random.default_rng(0), 300)
    found = brier_parts(cases.y, cases.p, equal_mass_bins(cases.p, 10))
    whole = found["reliability"] - found["resolution"] + found["uncertainty"] + found["within_bins"]
    assert whole == pytest.approx(brier_score_loss(cases.y, cases.p), abs=1e-12)
    assert abs(found["within_bins"]) < 0.01


def test_every_scan_is_in_one_bin_and_one_class_has_none() -> None:
    cases = study(np.random.default_rng(1), 95)
    bins = calibration_numbers(cases, 0.95)["bins"]
    assert sum(b["n"] for b in bins) == 95
    assert all(b["low"] <= b["observed"] <= b["high"] for b in bins)
    assert calibration_numbers(Cases(np.ones(4), np.full(4, 0.5), np.arange(4)), 0.95)["bins"] == []


@pytest.mark.slow
@pytest.mark.parametrize("scans", [1, 3])
def test_the_slopes_interval_covers_1_where_the_probabilities_are_right(scans: int) -> None:
    rng, hits = np.random.default_rng(6), {"slope": 0, "intercept": 0}
    for _ in range(1000):
        patients = np.repeat(np.arange(200), scans)
        log_odds = rng.normal(0, 1.5, 200 * scans)
        # Scans of a patient share their luck: one uniform number decides half of them.
        luck = np.where(rng.random(len(patients)) < 0.5, rng.random(200)[patients], rng.random(len(patients)))
        p = 1 / (1 + np.exp(-log_odds))
        found = calibration_numbers(Cases((luck < p).astype(float), p, patients), 0.95)
        for name, truth in (("slope", 1.0), ("intercept", 0.0)):
            hits[name] += found[name]["low"] <= truth <= found[name]["high"]
    assert {name: 0.93 <= n / 1000 <= 0.97 for name, n in hits.items()} == {"slope": True, "intercept": True}, hits
