import time

import numpy as np
import pytest
from scipy.stats import binomtest

from pipeline.evaluation import bootstrap, intervals, metrics
from pipeline.evaluation.accuracy import measures
from pipeline.sections import EvaluateSection
from tests.evaluation.studies import sensitivity, study

RNG = np.random.default_rng(3)


@pytest.mark.parametrize(("k", "n"), [(0, 10), (10, 10), (3, 17), (81, 263)])
def test_wilson_is_that_of_scipy(k: int, n: int) -> None:
    expected = binomtest(k, n).proportion_ci(0.95, method="wilson")
    assert intervals.wilson(k, n, 0.95) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_is_newcombes_published_example() -> None:
    # Newcombe, Statistics in Medicine 1998;17:857, table I: 81 of 263 gives 0.2553 to 0.3662.
    assert np.round(intervals.wilson(81, 263, 0.95), 4).tolist() == [0.2553, 0.3662]


def kernel_covariance(y: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """DeLong's covariance from the definition: every pair compared, in loops, no ranks."""
    x, z = predictions[y == 1], predictions[y == 0]
    order = (x[:, None] > z[None]) + 0.5 * (x[:, None] == z[None])
    ten, one = order.mean(axis=1), order.mean(axis=0)
    return np.cov(ten.T) / len(x) + np.cov(one.T) / len(z)


def test_delong_is_its_definition() -> None:
    y = RNG.integers(0, 2, 60).astype(float)
    predictions = np.round(0.4 * y[:, None] + RNG.random((60, 2)), 1)
    parts = np.column_stack([intervals.auroc_parts(y, predictions[:, k]) for k in range(2)])
    assert parts[y == 1].mean(axis=0) == pytest.approx(
        [metrics.auroc(y, predictions[:, k]) for k in range(2)], abs=1e-12
    )
    found = intervals.auroc_covariance(y, parts, np.arange(60))
    assert found == pytest.approx(kernel_covariance(y, predictions), abs=1e-12)


def test_delong_of_a_worked_example() -> None:
    # 3 positives, 3 negatives: 8 of 9 pairs in order; V10 = (1, 1, 2/3), V01 = (1, 1, 2/3), so S10 = S01 = 1/27.
    y, p = np.array([1, 1, 1, 0, 0, 0.0]), np.array([0.9, 0.8, 0.4, 0.5, 0.3, 0.2])
    parts = intervals.auroc_parts(y, p)[:, None]
    assert metrics.auroc(y, p) == pytest.approx(8 / 9)
    assert intervals.auroc_covariance(y, parts, np.arange(6))[0, 0] == pytest.approx(1 / 81 + 1 / 81)


def test_scans_of_a_patient_that_are_copies_count_once() -> None:
    y = RNG.integers(0, 2, 40).astype(float)
    p = 0.4 * y + RNG.random(40)
    once = intervals.auroc_covariance(y, intervals.auroc_parts(y, p)[:, None], np.arange(40))
    y5, p5, patients = (np.repeat(a, 5) for a in (y, p, np.arange(40)))
    copies = intervals.auroc_covariance(y5, intervals.auroc_parts(y5, p5)[:, None], patients)
    assert copies == pytest.approx(once, rel=1e-9)


def test_clustered_variance_agrees_with_the_bootstrap() -> None:
    cases = study(np.random.default_rng(5), 300, 3, share=0.6)
    ranked = metrics.Ranked(cases.y, cases.p)
    drawn = bootstrap.resampled(lambda w: ranked.auroc(w)[:, None], cases.patients, 2000, 0)
    variance = intervals.auroc_covariance(cases.y, intervals.auroc_parts(cases.y, cases.p)[:, None], cases.patients)
    assert variance[0, 0] == pytest.approx(drawn.var(ddof=1), rel=0.1)


@pytest.mark.parametrize(("positives", "negatives"), [(5, 5), (20, 40), (1, 9)])
def test_perfect_ranking_has_an_honest_lower_bound(positives: int, negatives: int) -> None:
    low, high, method = intervals.auroc_interval(1.0, 0.0, positives, negatives, 0.95)
    assert method == "Newcombe score"
    assert high == 1
    assert 0.2 < low < 0.97


def test_newcombe_solves_its_equation_at_hanley_and_mcneils_variance() -> None:
    low, high = intervals.newcombe(0.8, 30, 30, 0.95)
    for bound in (low, high):
        q1, q2 = bound / (2 - bound), 2 * bound**2 / (1 + bound)
        variance = (bound * (1 - bound) + 29 * (q1 - bound**2) + 29 * (q2 - bound**2)) / 900
        assert abs(0.8 - bound) / np.sqrt(variance) == pytest.approx(intervals.z_of(0.95), abs=1e-6)


def test_draws_take_as_many_patients_as_there_are() -> None:
    counts = np.concatenate(list(bootstrap.draws(7, 7, 500, 1)))
    assert counts.shape == (500, 7)
    assert (counts.sum(axis=1) == 7).all()
    assert counts.mean(axis=0) == pytest.approx(np.ones(7), abs=0.2)


def test_small_pieces_hold_the_same_statistic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "CELLS", 50)
    values = bootstrap.resampled(lambda w: w.sum(axis=1, keepdims=True), np.arange(10), 33, 0)
    assert values.ravel().tolist() == [10.0] * 33


@pytest.mark.parametrize(
    ("scale", "value", "expected"),
    [("linear", 0.5, 0.5), ("logit", 0.7, 0.7), ("atanh", -0.3, -0.3), ("log", 4.0, 4.0)],
)
def test_interval_lies_round_its_value(scale: intervals.Scale, value: float, expected: float) -> None:
    drawn = value + 0.02 * np.random.default_rng(0).normal(size=4000)
    found = intervals.scaled_interval(value, bootstrap.spread_of(drawn), 50, 0.95, scale)
    assert found is not None
    half = 2.0096 * drawn.std(ddof=1)
    assert found == pytest.approx((expected - half, expected + half), abs=0.1 * half)


@pytest.mark.parametrize(
    ("drawn", "groups"),
    [(np.full(100, 0.5), 9), (np.r_[np.full(60, np.nan), np.linspace(0, 1, 40)], 9), (np.linspace(0, 1, 100), 1)],
)
def test_no_interval_without_spread_definition_or_patients(drawn: np.ndarray, groups: int) -> None:
    assert intervals.scaled_interval(0.5, bootstrap.spread_of(drawn), groups, 0.95, "logit") is None


def test_one_patient_with_a_hundred_scans_does_not_shrink_the_interval() -> None:
    few = study(np.random.default_rng(1), 20)
    many = np.r_[np.arange(20), np.zeros(99, dtype=int)]
    repeated = type(few)(few.y[many], few.p[many], few.patients[many], few.positive[many], few.point)  # type: ignore[index]
    section = EvaluateSection()
    for name in ("auroc", "sensitivity", "specificity"):
        widths = [m["high"] - m["low"] for m in (measures(c, section, (name,))[name] for c in (few, repeated))]  # type: ignore[operator]
        assert widths[1] > 0.8 * widths[0]


def test_two_thousand_resamples_of_a_thousand_scans_take_about_a_second() -> None:
    cases = study(np.random.default_rng(2), 500, 2)
    start = time.process_time()
    measures(cases, EvaluateSection(), ("auroc", "average_precision", "brier", *metrics.AT_POINT))
    assert time.process_time() - start < 5  # 0.5 s measured


@pytest.mark.slow
@pytest.mark.parametrize(
    ("patients", "scans", "auroc", "by_patient"),
    [(60, 1, 0.85, False), (24, 1, 0.8, False), (100, 3, 0.85, False), (40, 3, 0.85, True), (100, 3, 0.9, False)],
)
def test_intervals_cover_the_truth(patients: int, scans: int, auroc: float, by_patient: bool) -> None:
    section, rng, studies = EvaluateSection(resamples=400), np.random.default_rng(11), 1000
    truth = {"auroc": auroc, "sensitivity": sensitivity(auroc), "specificity": sensitivity(auroc)}
    hits = dict.fromkeys(truth, 0)
    for _ in range(studies):
        cases = study(rng, patients, scans, auroc, 0.5 if scans > 1 else 0.0, by_patient)
        for name, found in measures(cases, section, tuple(truth)).items():
            hits[name] += bool(found["low"] is not None and found["low"] <= truth[name] <= found["high"])  # type: ignore[operator]
    # Nominal 0.95; the bounds are 0.93 to 0.97, and 0.98 above: an interval that is a little too wide misleads nobody.
    assert {name: 0.93 <= hit / studies <= 0.98 for name, hit in hits.items()} == dict.fromkeys(truth, True), hits
