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
