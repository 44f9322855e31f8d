import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from pipeline.evaluation import metrics
from tests.evaluation.studies import study

RNG = np.random.default_rng(0)


def cases_with_ties(n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    y = RNG.integers(0, 2, n).astype(float)
    return y, np.round(np.clip(0.3 * y + 0.7 * RNG.random(n), 0, 1), 1)


@pytest.mark.parametrize("ties", [True, False])
def test_ranking_is_that_of_sklearn(ties: bool) -> None:
    cases = study(RNG, 200)
    y, p = cases_with_ties() if ties else (cases.y, cases.p)
    assert metrics.auroc(y, p) == pytest.approx(sklearn_metrics.roc_auc_score(y, p), abs=1e-12)
    assert metrics.average_precision(y, p) == pytest.approx(sklearn_metrics.average_precision_score(y, p), abs=1e-12)
    assert metrics.brier(y, p) == pytest.approx(sklearn_metrics.brier_score_loss(y, p), abs=1e-12)


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("limit", [0.05, 0.1, 0.37, 0.999])
def test_partial_auroc_is_that_of_sklearn(ties: bool, limit: float) -> None:
    cases = study(RNG, 200)
    y, p = cases_with_ties() if ties else (cases.y, cases.p)
    weights = np.vstack([np.ones(len(y)), RNG.integers(0, 4, len(y))]).astype(float)
    found = metrics.Ranked(y, p).partial_auroc(weights, limit)
    expected = [sklearn_metrics.roc_auc_score(y, p, max_fpr=limit, sample_weight=w) for w in weights]
    assert found == pytest.approx(expected, abs=1e-12)


def test_weights_are_those_of_sklearn() -> None:
    y, p = cases_with_ties()
    weights = RNG.integers(0, 4, (5, len(y))).astype(float)
    ranked, cells = metrics.Ranked(y, p), metrics.confusion(y, p >= 0.5)
    found = metrics.at_point(weights @ cells)
    for k, w in enumerate(weights):
        assert ranked.auroc(weights)[k] == pytest.approx(
            sklearn_metrics.roc_auc_score(y, p, sample_weight=w), abs=1e-12
        )
        expected = sklearn_metrics.average_precision_score(y, p, sample_weight=w)
        assert ranked.average_precision(weights)[k] == pytest.approx(expected, abs=1e-12)
        expected = sklearn_metrics.matthews_corrcoef(y, p >= 0.5, sample_weight=w)
        assert found["mcc"][k] == pytest.approx(expected, abs=1e-12)


def test_decisions_are_those_of_sklearn() -> None:
    y, p = cases_with_ties()
    said = p >= 0.6
    found = {name: values[0] for name, values in metrics.at_point(metrics.confusion(y, said).sum(0)[None]).items()}
    expected = {
        "sensitivity": sklearn_metrics.recall_score(y, said),
        "specificity": sklearn_metrics.recall_score(1 - y, ~said),
        "ppv": sklearn_metrics.precision_score(y, said),
        "npv": sklearn_metrics.precision_score(1 - y, ~said),
        "accuracy": sklearn_metrics.accuracy_score(y, said),
        "balanced_accuracy": sklearn_metrics.balanced_accuracy_score(y, said),
        "f1": sklearn_metrics.f1_score(y, said),
        "mcc": sklearn_metrics.matthews_corrcoef(y, said),
    }
    positive, negative = sklearn_metrics.class_likelihood_ratios(y, said)
    expected |= {"positive_likelihood_ratio": positive, "negative_likelihood_ratio": negative}
    assert set(expected) == set(metrics.AT_POINT)
    assert found == pytest.approx(expected, abs=1e-12)


def test_what_is_undefined_is_nan_and_no_number() -> None:
    ones = np.ones(4)
    assert np.isnan(metrics.auroc(ones, np.array([0.1, 0.2, 0.3, 0.4])))
    found = metrics.at_point(np.array([[0.0, 0.0, 4.0, 0.0]]))
    undefined = {name for name, values in found.items() if np.isnan(values[0])}
    assert undefined == {"sensitivity", "ppv", "balanced_accuracy", "f1", "mcc", "negative_likelihood_ratio"} | {
        "positive_likelihood_ratio"
    }
    assert found["specificity"][0] == 1


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 20)), min_size=2, max_size=60))
def test_turning_labels_round_mirrors_the_auroc(rows: list[tuple[bool, int]]) -> None:
    y, p = np.array([float(a) for a, _ in rows]), np.array([b / 20 for _, b in rows])
    if 0 < y.sum() < len(y):
        assert metrics.auroc(1 - y, p) == pytest.approx(1 - metrics.auroc(y, p), abs=1e-12)
        assert metrics.auroc(y, 1 - p) == pytest.approx(1 - metrics.auroc(y, p), abs=1e-12)
        assert metrics.auroc(y, p**3) == pytest.approx(metrics.auroc(y, p), abs=1e-12)
