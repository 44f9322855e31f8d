import numpy as np
import pytest
from scipy.stats import binomtest, norm
from statsmodels.stats.contingency_tables import mcnemar

from pipeline.domain import UsageError
from pipeline.evaluation import metrics
from pipeline.evaluation.cases import Cases
from pipeline.evaluation.compare import compare, same_scans
from pipeline.evaluation.table import check_predictions
from pipeline.sections import EvaluateSection
from tests.evaluation.studies import table
from tests.evaluation.test_intervals import kernel_covariance

SECTION = EvaluateSection(resamples=1000)


def pair(seed: int, patients: int = 100, scans: int = 1, gain: float = 0.0) -> tuple[Cases, Cases]:
    """Two models that share much of their noise; the first is better by `gain`."""
    rng, n = np.random.default_rng(seed), patients * scans
    y, shared = rng.integers(0, 2, n).astype(float), rng.normal(size=n)
    scores = [shared + 0.5 * rng.normal(size=n) + (1.2 + g) * (y - 0.5) for g in (gain, 0.0)]
    of = np.repeat(np.arange(patients), scans)
    point = {"threshold": 0.5, "target": "x", "chosen_on": "tune"}
    first, second = (Cases(y, 1 / (1 + np.exp(-s)), of, s >= 0, point) for s in scores)
    return first, second


def test_paired_delong_is_its_definition() -> None:
    ours, theirs = pair(0, gain=0.5)
    found = compare(ours, theirs, SECTION)["auroc"]
    covariance = kernel_covariance(ours.y, np.column_stack([ours.p, theirs.p]))
    se = np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    difference = metrics.auroc(ours.y, ours.p) - metrics.auroc(theirs.y, theirs.p)
    assert found["value"] == pytest.approx(difference)
    assert found["low"] == pytest.approx(difference - 1.959964 * se, abs=1e-6)
    assert found["p"] == pytest.approx(2 * norm.sf(abs(difference) / se))
    assert found["method"] == "DeLong, paired"


def test_mcnemar_counts_the_scans_on_which_the_models_differ() -> None:
    ours, theirs = pair(1, gain=0.6)
    found = compare(ours, theirs, SECTION)["sensitivity"]
    assert ours.positive is not None
    assert theirs.positive is not None
    better = int((ours.positive & ~theirs.positive & (ours.y == 1)).sum())
    worse = int((~ours.positive & theirs.positive & (ours.y == 1)).sum())
    assert found["p"] == pytest.approx(binomtest(better, better + worse).pvalue)
    assert found["p"] == pytest.approx(mcnemar([[0, better], [worse, 0]], exact=True).pvalue, abs=1e-9)
    assert found["value"] == pytest.approx((better - worse) / (ours.y == 1).sum())


def test_repeated_patients_are_drawn_whole() -> None:
    alone, repeated = pair(2, 60, gain=0.6), pair(2, 60, gain=0.6)
    copies = np.repeat(np.arange(60), 4)
    repeated = tuple(c.subset(copies) for c in alone)  # type: ignore[arg-type,assignment]
    one, four = compare(*alone, SECTION)["auroc"], compare(*repeated, SECTION)["auroc"]
    assert four["method"] == "bootstrap by patient"
    assert four["value"] == pytest.approx(one["value"])
    assert (four["high"] - four["low"]) / (one["high"] - one["low"]) == pytest.approx(1, abs=0.15)


def test_equal_models_differ_by_nothing() -> None:
    ours, _ = pair(3)
    found = compare(ours, ours, SECTION)
    assert {name: (m["value"], m["p"]) for name, m in found.items()}["auroc"] == (0.0, None)


def test_one_class_has_no_difference() -> None:
    ours, theirs = (c.subset(c.y == 1) for c in pair(4))
    assert "only one class" in compare(ours, theirs, SECTION)["auroc"]["reason"]


def test_different_scans_or_labels_are_refused() -> None:
    one = check_predictions(table([0, 1, 1], [0.1, 0.9, 0.8]), "P")
    with pytest.raises(UsageError, match=r"only in the first run: 1 scan$"):
        same_scans(one, one.iloc[:2], ["nodule"])
    with pytest.raises(UsageError, match=r"the label of nodule differs for 1 scan$"):
        same_scans(one, one.assign(y_nodule=[0.0, 1, 0]), ["nodule"])


@pytest.mark.slow
@pytest.mark.parametrize("scans", [1, 3])
def test_equal_models_are_told_apart_as_rarely_as_promised(scans: int) -> None:
    section = EvaluateSection(resamples=400)
    found = [compare(*pair(seed, 80, scans), section)["auroc"]["p"] for seed in range(1000)]
    assert 0.03 < np.mean(np.array(found) < 0.05) < 0.07
