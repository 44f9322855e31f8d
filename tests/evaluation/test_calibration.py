import numpy as np
import pytest
from pydantic import TypeAdapter
from scipy.special import expit, logit, softmax
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from statsmodels.genmod.families import Binomial
from statsmodels.genmod.generalized_linear_model import GLM

from pipeline.evaluation.calibration import (
    Calibration,
    Method,
    equal_mass_bins,
    expected_calibration_error,
    fit_calibration,
    fit_temperature,
    recalibration,
    uncalibrated,
)


def binary(n: int = 20_000, temperature: float = 2.0, intercept: float = -0.7) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (n, 1))
    return logits, (rng.random((n, 1)) < expit(logits / temperature + intercept)).astype(float)


def test_fit_recovers_temperature_and_intercept() -> None:
    logits, y = binary()
    found = fit_temperature(logits, y, "binary")
    assert found.temperature[0] == pytest.approx(2.0, rel=0.05)
    assert found.intercept[0] == pytest.approx(-0.7, abs=0.06)


def test_fit_is_a_logistic_regression_on_the_logit() -> None:
    logits, y = binary()
    found = fit_temperature(logits, y, "binary")
    expected = LogisticRegression(C=np.inf, tol=1e-10).fit(logits, y[:, 0])
    assert 1 / found.temperature[0] == pytest.approx(expected.coef_[0, 0], rel=1e-3)  # softened targets: 1 in 10,000
    assert found.intercept[0] == pytest.approx(expected.intercept_[0], rel=5e-3)


def test_order_is_kept() -> None:
    logits, y = binary(200)
    p = fit_temperature(logits, y, "binary").apply(logits)
    assert (np.argsort(p[:, 0]) == np.argsort(logits[:, 0])).all()


@pytest.mark.parametrize("missing", [0, 5])
def test_each_finding_is_fitted_on_its_known_labels(missing: int) -> None:
    logits, y = binary(2000)
    both, labels = np.hstack([logits, 3 * logits]), np.hstack([y, y])
    labels[:missing, 1] = np.nan
    found = fit_temperature(both, labels, "multilabel")
    alone = fit_temperature(both[missing:, 1:], labels[missing:, 1:], "binary")
    assert found.temperature[1] == pytest.approx(alone.temperature[0], rel=1e-6)
    assert found.temperature[1] == pytest.approx(3 * found.temperature[0], rel=0.02)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_one_class_is_not_fitted(label: float) -> None:
    logits = np.array([[1.0], [2.0], [-1.0]])
    found = fit_temperature(logits, np.full((3, 1), label), "binary")
    assert found == uncalibrated("binary", 1)
    assert found.apply(logits) == pytest.approx(expit(logits))


def test_separated_classes_give_a_finite_fit() -> None:
    logits = np.array([[-5.0], [-4.0], [4.0], [5.0]])
    p = fit_temperature(logits, np.array([[0.0], [0], [1], [1]]), "binary").apply(logits)
    assert 0.05 < p.min() < 0.5 < p.max() < 0.95  # four scans can't support more


def test_multiclass_recovers_one_temperature_and_class_intercepts() -> None:
    rng = np.random.default_rng(1)
    logits, shift = rng.normal(0, 3, (20_000, 3)), np.array([0.8, 0.0, -0.8])
    chances = softmax(logits / 1.5 + shift, axis=1)
    y = np.eye(3)[(chances.cumsum(axis=1) > rng.random((20_000, 1))).argmax(axis=1)]
    found = fit_temperature(logits, y, "multiclass")
    assert found.temperature == pytest.approx((1.5,), rel=0.05)
    assert found.intercept == pytest.approx(tuple(shift), abs=0.08)
    assert found.apply(logits).sum(axis=1) == pytest.approx(np.ones(20_000))


def test_platt_of_one_finding_is_the_temperature_fit() -> None:
    logits, y = binary(500)
    platt, temperature = (fit_calibration(m, logits, y, "binary") for m in ("platt", "temperature"))  # type: ignore[arg-type]
    assert (platt.method, temperature.method) == ("platt", "temperature")
    assert platt.apply(logits) == pytest.approx(temperature.apply(logits), abs=1e-12)


def three_classes(n: int = 5000) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose true temperature differs from class to class: one temperature can't repair them."""
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 2, (n, 3))
    chances = softmax(logits / [1.0, 2.0, 4.0], axis=1)
    return logits, np.eye(3)[(chances.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)]


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_each_class_has_its_own_slope_and_they_sum_to_one(method: Method) -> None:
    logits, y = three_classes()
    found = fit_calibration(method, logits, y, "multiclass")
    p = found.apply(logits)
    assert p.sum(axis=1) == pytest.approx(np.ones(len(y)))
    assert len(found.temperature) == 3
    assert ((p - y) ** 2).mean() < ((softmax(logits, axis=1) - y) ** 2).mean()


def test_isotonic_is_that_of_sklearn_on_softened_targets() -> None:
    logits, y = binary(400)
    found = fit_calibration("isotonic", logits, y, "binary")
    n1, n0 = int(y.sum()), int((1 - y).sum())
    soft = np.where(y == 1, (n1 + 1) / (n1 + 2), 1 / (n0 + 2))[:, 0]
    new = np.linspace(-12, 12, 300)
    expected = IsotonicRegression(out_of_bounds="clip").fit(logits[:, 0], soft).predict(new)
    assert found.apply(new[:, None])[:, 0] == pytest.approx(expected, abs=1e-12)
    assert 0 < expected.min() < 0.1 < 0.9 < expected.max() < 1


def test_isotonic_repairs_what_no_slope_can() -> None:
    rng = np.random.default_rng(5)
    logits = rng.normal(0, 3, (20_000, 1))
    y = (rng.random((20_000, 1)) < np.where(logits > 0, 0.8, 0.3)).astype(float)  # a step, not a slope
    error = {}
    for method in ("temperature", "isotonic"):
        p = fit_calibration(method, logits, y, "binary").apply(logits)  # type: ignore[arg-type]
        error[method] = expected_calibration_error(y[:, 0], p[:, 0], 10)
    assert error["isotonic"] < 0.01 < 0.05 < error["temperature"]


def test_isotonic_of_a_finding_with_one_class_is_the_plain_sigmoid() -> None:
    logits, y = binary(300)
    both, labels = np.hstack([logits, logits]), np.hstack([y, np.ones_like(y)])
    found = fit_calibration("isotonic", both, labels, "multilabel")
    assert found.knots[1] == ()
    assert found.apply(both)[:, 1] == pytest.approx(expit(logits[:, 0]))


def test_calibration_is_numbers_that_survive_json() -> None:
    adapter = TypeAdapter(Calibration)
    found = Calibration("multilabel", (1.5, 2.0), (0.1, -0.2))
    assert adapter.validate_json(adapter.dump_json(found)) == found
    logits, y = binary(50)
    stepped = fit_calibration("isotonic", logits, y, "binary")
    assert adapter.validate_json(adapter.dump_json(stepped)) == stepped


def test_calibrated_predictions_have_slope_one_and_intercept_zero() -> None:
    logits, y = binary(temperature=1.0, intercept=0.0)
    found = recalibration(y[:, 0], expit(logits[:, 0]), np.arange(len(y)))
    assert found is not None
    assert abs(found.slope - 1) < 3 * found.slope_se < 0.1
    assert abs(found.intercept) < 3 * found.intercept_se < 0.1


def test_overconfident_predictions_have_a_slope_below_one() -> None:
    logits, y = binary(temperature=1.0, intercept=0.0)
    found = recalibration(y[:, 0], expit(2 * logits[:, 0]), np.arange(len(y)))
    assert found is not None
    assert found.slope == pytest.approx(0.5, abs=0.02)


def test_slope_and_its_error_are_those_of_a_logistic_regression() -> None:
    logits, y = binary(500)
    p = expit(logits[:, 0])
    found = recalibration(y[:, 0], p, np.arange(500))
    fitted = LogisticRegression(C=np.inf, tol=1e-10).fit(logit(p)[:, None], y[:, 0])
    design = np.column_stack([np.ones(500), logit(p)])
    chance = fitted.predict_proba(logit(p)[:, None])[:, 1]
    classic = np.sqrt(np.linalg.inv(design.T @ (design * (chance * (1 - chance))[:, None]))[1, 1])
    assert found is not None
    assert found.slope == pytest.approx(fitted.coef_[0, 0], rel=1e-5)
    assert found.slope_se == pytest.approx(classic, rel=0.1)


def test_slope_intercept_and_errors_are_those_of_statsmodels() -> None:
    rng = np.random.default_rng(9)
    patients = np.repeat(np.arange(150), 3)
    logits = rng.normal(0, 2, 150)[patients] + rng.normal(0, 1, 450)
    y = (rng.random(450) < expit(0.7 * logits + 0.4)).astype(float)
    found = recalibration(y, expit(logits), patients)
    clustered = {"groups": patients, "use_correction": False}
    x = logit(expit(logits))
    both = GLM(y, np.column_stack([np.ones(450), x]), family=Binomial()).fit(
        tol=1e-12, cov_type="cluster", cov_kwds=clustered
    )
    large = GLM(y, np.ones(450), family=Binomial(), offset=x).fit(tol=1e-12, cov_type="cluster", cov_kwds=clustered)
    few = np.sqrt(150 / 149)  # patients / (patients - 1)
    assert found is not None
    assert (found.slope, found.slope_se) == pytest.approx((both.params[1], both.bse[1] * few), abs=1e-9)
    assert (found.intercept, found.intercept_se) == pytest.approx((large.params[0], large.bse[0] * few), abs=1e-9)


def test_copies_of_a_scan_do_not_shrink_the_error() -> None:
    logits, y = binary(300)
    once = recalibration(y[:, 0], expit(logits[:, 0]), np.arange(300))
    copies = recalibration(*(np.repeat(a, 4) for a in (y[:, 0], expit(logits[:, 0]), np.arange(300))))
    assert once is not None
    assert copies is not None
    assert copies.slope_se == pytest.approx(once.slope_se, rel=1e-6)


def test_separation_has_no_slope() -> None:
    y, p = np.array([0.0, 0, 0, 1, 1, 1]), np.array([0.1, 0.2, 0.3, 0.7, 0.8, 0.9])
    assert recalibration(y, p, np.arange(6)) is None


def test_calibration_error_of_a_worked_example() -> None:
    y, p = np.array([0.0, 0, 1, 1, 1, 1]), np.array([0.1, 0.3, 0.2, 0.8, 0.9, 0.7])
    assert equal_mass_bins(p, 2).tolist() == [0, 0, 0, 1, 1, 1]
    # Lower half: mean 0.2, observed 1/3; upper half: mean 0.8, observed 1.
    assert expected_calibration_error(y, p, 2) == pytest.approx((1 / 3 - 0.2) / 2 + 0.2 / 2)
