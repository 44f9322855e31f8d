from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from pipeline.evaluation import bootstrap, metrics
from pipeline.evaluation.accuracy import measures
from pipeline.evaluation.bootstrap import bca, percentile, resampled, without_each
from pipeline.evaluation.compare import compare
from pipeline.evaluation.intervals import MANY
from pipeline.sections import EvaluateSection
from tests.evaluation.studies import study

CASES = study(np.random.default_rng(8), 60)


def area(weights: np.ndarray) -> np.ndarray:
    return metrics.Ranked(CASES.y, CASES.p).auroc(weights)[:, None]


def of_scans(chosen: np.ndarray, axis: int) -> np.ndarray:
    """The AUROC of chosen scans, as scipy asks for it: scans along the last axis."""
    assert axis == -1
    flat = chosen.reshape(-1, chosen.shape[-1])
    found = [metrics.auroc(CASES.y[rows], CASES.p[rows]) for rows in flat]
    return np.array(found).reshape(chosen.shape[:-1])


@pytest.mark.parametrize(("kind", "level"), [("BCa", 0.95), ("BCa", 0.8), ("percentile", 0.95)])
def test_intervals_of_the_resamples_are_those_of_scipy(kind: str, level: float) -> None:
    drawn = resampled(area, CASES.patients, 999, 0)[:, 0]
    kept = SimpleNamespace(bootstrap_distribution=drawn)  # scipy goes on from resamples that are there already
    theirs = stats.bootstrap(
        (np.arange(60),), of_scans, n_resamples=0, bootstrap_result=kept, method=kind, confidence_level=level,
        vectorized=True,
    ).confidence_interval  # fmt: skip
    value, left_out = area(np.ones((1, 60)))[0, 0], without_each(area, CASES.patients)[:, 0]
    ours = bca(value, drawn, left_out, level) if kind == "BCa" else percentile(drawn, level)
    assert ours == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_each_patient_is_left_out_with_all_scans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "CELLS", 10)
    patients = np.array([0, 1, 1, 2, 0])
    values = without_each(lambda w: w @ np.diag([1, 10, 100, 1000, 10000.0]), patients)
    assert values.tolist() == [[0, 10, 100, 1000, 0], [1, 0, 0, 1000, 10000], [1, 10, 100, 0, 10000]]


@pytest.mark.parametrize(("interval", "said"), [("bca", "BCa"), ("percentile", "percentile")])
def test_the_interval_that_was_asked_for_is_given_and_said(interval: str, said: str) -> None:
    cases = study(np.random.default_rng(1), 40, 3, share=0.5)
    default, asked = (EvaluateSection(resamples=400, interval=kind) for kind in ("student", interval))
    names = ("auroc", "average_precision", "sensitivity", "mcc", "brier")
    before, found = (measures(cases, section, names) for section in (default, asked))
    for name in names:
        assert found[name]["method"] == f"bootstrap by patient, {said}"
        assert found[name]["value"] == before[name]["value"]
        assert found[name]["low"] < found[name]["value"] < found[name]["high"]  # type: ignore[operator]
        assert (found[name]["low"], found[name]["high"]) != (before[name]["low"], before[name]["high"])
    assert found == measures(cases, asked, names)  # the seed decides
    other = study(np.random.default_rng(2), 40, 3, share=0.5)
    difference = compare(cases, type(cases)(cases.y, other.p, cases.patients), asked)["auroc"]
    assert difference["method"] == f"bootstrap by patient, {said}"
    assert difference["p"] is not None


def test_closed_forms_and_large_tables_stay_as_they_are() -> None:
    section = EvaluateSection(resamples=10, interval="bca")
    alone = measures(CASES, section, ("auroc", "sensitivity"))
    assert [m["method"] for m in alone.values()] == ["DeLong, logit scale", "Wilson"]
    large = study(np.random.default_rng(0), MANY // 2 + 1, 2)
    assert measures(large, section, ("mcc",))["mcc"]["method"] == "linear approximation by patient, atanh scale"


def test_resamples_on_one_side_of_the_value_give_no_interval() -> None:
    left_out = np.linspace(0, 1, 9)
    for drawn in (np.full(50, 0.2), np.full(50, np.nan)):
        assert np.isnan(bca(0.5, drawn, left_out, 0.95)).all()
    assert np.isnan(bca(0.5, np.linspace(0, 1, 50), np.full(9, 0.5), 0.95)).all()
    assert np.isnan(percentile(np.full(50, np.nan), 0.95)).all()
    spread = bootstrap.Spread(0.1, "bootstrap by patient, BCa", (float("nan"), float("nan")))
    assert spread.interval(0.5, 10, 0.95, "logit") is None


def test_undefined_resamples_do_not_count() -> None:
    drawn = np.r_[np.linspace(0, 1, 101), np.full(30, np.nan)]
    assert percentile(drawn, 0.9) == pytest.approx((0.05, 0.95))
    left_out = np.r_[np.linspace(0.4, 0.6, 11), np.nan]
    assert bca(0.5, drawn, left_out, 0.9) == pytest.approx((0.05, 0.95), abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize(("patients", "least"), [(40, 0.88), (150, 0.92)])
@pytest.mark.parametrize("interval", ["percentile", "bca"])
def test_quantiles_cover_less_with_few_patients(patients: int, least: float, interval: str) -> None:
    section, rng, hits = EvaluateSection(resamples=500, interval=interval), np.random.default_rng(11), 0
    for _ in range(1000):
        found = measures(study(rng, patients, 3, 0.85, 0.5), section, ("auroc",))["auroc"]
        hits += bool(found["low"] is not None and found["low"] <= 0.85 <= found["high"])  # type: ignore[operator]
    assert least <= hits / 1000 <= 0.97
