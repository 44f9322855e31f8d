import numpy as np
import pytest
from statsmodels.regression.linear_model import OLS

from pipeline.evaluation.cases import Cases
from pipeline.evaluation.decision_curve import THRESHOLDS, decision_curve, mean_interval
from tests.evaluation.studies import study

RNG = np.random.default_rng(8)


def test_net_benefit_of_a_worked_example() -> None:
    # 10 scans, 4 with the finding; at 0.2 three of them and two others are called: 3/10 - 2/10 x 0.2/0.8 = 0.25.
    y = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0.0])
    p = np.array([0.9, 0.5, 0.3, 0.1, 0.4, 0.25, 0.1, 0.05, 0.01, 0.15])
    row = next(r for r in decision_curve(Cases(y, p, np.arange(10)), 0.95) if r["threshold"] == 0.2)
    assert row["net_benefit"] == pytest.approx(0.25)
    assert row["treat_all"] == pytest.approx(0.4 - 0.6 * 0.25)
    assert row["low"] < row["net_benefit"] < row["high"]  # type: ignore[operator]


def test_calling_everything_is_treating_all() -> None:
    cases = study(RNG, 60)
    rows = decision_curve(Cases(cases.y, np.ones(60), cases.patients), 0.95)
    assert [r["net_benefit"] for r in rows] == pytest.approx([r["treat_all"] for r in rows])
    assert len(rows) == len(THRESHOLDS)


@pytest.mark.parametrize("scans", [1, 4])
def test_the_clustered_interval_is_that_of_statsmodels(scans: int) -> None:
    patients, values = np.repeat(np.arange(50), scans), RNG.normal(size=50 * scans)
    values += np.repeat(RNG.normal(size=50), scans)
    mean, low, high = mean_interval(values, patients, 0.95)
    fit = OLS(values, np.ones(len(values))).fit(
        cov_type="cluster", cov_kwds={"groups": patients, "use_correction": False, "df_correction": True}, use_t=True
    )
    half = fit.bse[0] * np.sqrt(50 / 49) * 2.009575  # Student's quantile with 49 degrees of freedom
    assert (mean, low, high) == pytest.approx((fit.params[0], fit.params[0] - half, fit.params[0] + half), abs=1e-6)


def test_one_patient_has_no_interval_and_one_class_no_curve() -> None:
    assert mean_interval(np.array([1.0, 2.0]), np.zeros(2, dtype=int), 0.95) == (1.5, None, None)
    assert decision_curve(Cases(np.ones(3), np.array([0.1, 0.2, 0.3]), np.arange(3)), 0.95) == []
