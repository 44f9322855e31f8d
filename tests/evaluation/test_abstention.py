import numpy as np
import pandas as pd
import pytest

from pipeline.evaluation.abstention import (
    abstention,
    conformal_limits,
    cross_sets,
    prediction_sets,
    referral_curve,
    sets_of,
)
from pipeline.evaluation.cases import Cases
from pipeline.sections import EvaluateSection
from tests.evaluation.studies import study

SECTION = EvaluateSection(coverage=0.8)
Y = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 1.0])
P = np.array([0.1, 0.2, 0.3, 0.4, 0.7, 0.35, 0.6, 0.7, 0.8, 0.9])


def test_limits_of_a_worked_example() -> None:
    # Rank ceil(6 x 0.8) = 5 of 5 scans a class: the largest surprise, 0.7 without and 0.65 with the finding.
    assert conformal_limits(Y, P, 0.8) == pytest.approx((0.7, 0.65))
    assert prediction_sets(np.array([0.1, 0.5, 0.9]), (0.7, 0.65)).tolist() == [
        [True, False], [True, True], [False, True],
    ]  # fmt: skip


def test_too_few_scans_put_their_state_into_every_set() -> None:
    assert conformal_limits(Y, P, 0.9) == (1.0, 1.0)
    assert prediction_sets(P, (1.0, 1.0)).all()


def test_the_numbers_of_a_worked_example() -> None:
    cases = Cases(Y, P, np.arange(10), P >= 0.5, {"threshold": 0.5})
    found = abstention(cases, prediction_sets(P, (0.38, 0.45)), SECTION)
    # Sets hold "without" up to 0.38 and "with" from 0.55: 0.4 is in neither; 0.7 without and 0.35 with it are wrong.
    assert found["referred"]["value"] == pytest.approx(0.1)
    assert found["coverage"]["value"] == pytest.approx(0.7)
    assert found["coverage_positive"]["value"] == pytest.approx(0.8)
    assert found["coverage_negative"]["value"] == pytest.approx(0.6)
    assert found["error_among_decided"]["value"] == pytest.approx(2 / 9)


def test_referring_the_unsure_lowers_the_error() -> None:
    cases = study(np.random.default_rng(0), 400, auroc=0.85)
    rows = referral_curve(cases, 0.95)
    assert rows[0]["referred"] == 0
    assert rows[0]["error"] == pytest.approx((cases.positive != (cases.y == 1)).mean())
    assert rows[-1]["error"] < 0.4 * rows[0]["error"]
    assert all(row["low"] <= row["error"] <= row["high"] for row in rows)


def test_without_a_threshold_nothing_is_referred() -> None:
    assert referral_curve(Cases(Y, P, np.arange(10)), 0.95) == []


def rows(split: str, fold: str = "") -> pd.DataFrame:
    return pd.DataFrame({"y_x": Y, "p_x": P, "split": split, "fold": [fold or str(k % 2) for k in range(10)]})


def test_limits_come_from_tune_or_from_the_other_folds() -> None:
    tune, none = rows("tune"), rows("tune").iloc[:0]
    expected = prediction_sets(P, conformal_limits(Y, P, 0.8))
    assert (sets_of(rows("test"), tune, "x", 0.8) == expected).all()
    assert sets_of(tune, tune, "x", 0.8) == "the tune split itself sets the limits"
    assert sets_of(rows("test"), none, "x", 0.8) == "no labelled tune split to set the limits on"
    crossed = sets_of(rows("oof"), none, "x", 0.6)
    assert (crossed == cross_sets(Y, P, np.array([str(k % 2) for k in range(10)]), 0.6)).all()
    assert (crossed != prediction_sets(P, conformal_limits(Y, P, 0.6))).any()  # else this test could not fail


@pytest.mark.parametrize("coverage", [0.8, 0.95])
def test_sets_hold_the_truth_as_often_as_stated_in_both_classes(coverage: float) -> None:
    rng, held = np.random.default_rng(4), []
    for _ in range(300):
        tune, test = study(rng, 80), study(rng, 200)
        sets = prediction_sets(test.p, conformal_limits(tune.y, tune.p, coverage))
        held.append([sets[test.y == 0, 0].mean(), sets[test.y == 1, 1].mean()])
    # At least `coverage`; at most 1 / (scans of a class + 1) more, 0.025 here.
    assert np.abs(np.mean(held, axis=0) - coverage - 0.0125) == pytest.approx([0, 0], abs=0.02)
