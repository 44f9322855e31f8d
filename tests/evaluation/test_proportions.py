import numpy as np
import pytest
from scipy.stats import binomtest

from pipeline.evaluation.intervals import wilson
from pipeline.evaluation.proportions import share

RNG = np.random.default_rng(0)


def test_one_scan_a_patient_is_wilsons_interval() -> None:
    hits = np.arange(40) < 31
    found = share(hits, np.ones(40, dtype=bool), np.arange(40), 0.95, "")
    expected = binomtest(31, 40).proportion_ci(0.95, method="wilson")
    assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_copies_of_a_scan_count_once() -> None:
    hits = np.arange(40) < 31
    once = share(hits, np.ones(40, dtype=bool), np.arange(40), 0.95, "")
    four = share(np.repeat(hits, 4), np.ones(160, dtype=bool), np.repeat(np.arange(40), 4), 0.95, "")
    assert four["method"] == "Wilson, design effect by patient"
    assert (four["low"], four["high"]) == pytest.approx((once["low"], once["high"]), abs=0.003)


def test_patients_who_all_have_the_same_share_leave_every_scan() -> None:
    hits, patients = np.array([True, False, True, False]), np.array([0, 0, 1, 1])
    found = share(hits, np.ones(4, dtype=bool), patients, 0.95, "nothing")
    assert (found["value"], found["n"]) == (0.5, 4)
    assert (found["low"], found["high"]) == pytest.approx(wilson(2, 4, 0.95))


def test_all_or_none_counts_patients_and_nothing_is_undefined() -> None:
    every = share(np.ones(20, dtype=bool), np.ones(20, dtype=bool), np.repeat(np.arange(5), 4), 0.95, "")
    assert every["low"] == pytest.approx(binomtest(5, 5).proportion_ci(0.95, method="wilson").low)
    assert share(np.ones(2, dtype=bool), np.zeros(2, dtype=bool), np.arange(2), 0.95, "none")["reason"] == "none"


@pytest.mark.slow
@pytest.mark.parametrize(("patients", "truth"), [(40, 0.85), (100, 0.7)])
def test_clustered_shares_cover_the_truth(patients: int, truth: float) -> None:
    hits = 0
    for _ in range(1000):
        rate = RNG.beta(2 * truth, 2 * (1 - truth), patients)  # the rate differs from patient to patient
        flags = RNG.random((patients, 3)) < rate[:, None]
        found = share(flags.ravel(), np.ones(flags.size, dtype=bool), np.repeat(np.arange(patients), 3), 0.95, "")
        hits += bool(found["low"] <= truth <= found["high"])  # type: ignore[operator]
    assert 0.93 <= hits / 1000 <= 0.97
