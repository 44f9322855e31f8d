import numpy as np
import pandas as pd
import pytest

from pipeline.model.reference import Reference
from pipeline.scoring.drift import Comparison, drift

THEN = np.sort(np.random.default_rng(0).beta(2, 5, 201)).round(6)


def reference(**changes: object) -> Reference:
    values = {"held_out": "tune", "n_scans": 400, "scores": {"nodule": tuple(THEN.tolist())}, "n_found": 1000}
    return Reference(**{**values, "n_out_of_distribution": 4, "n_rejected": 20, **changes})


def table(p: np.ndarray, refused: int = 4, unlike: int = 2) -> pd.DataFrame:
    """Scored rows with these probabilities, then refused ones and one that was not selected."""
    status = ["ok"] * len(p) + ["rejected"] * refused + ["not_selected"]
    near = [n >= unlike for n in range(len(p))] + [None] * (refused + 1)
    scores = np.concatenate([p, np.full(refused + 1, np.nan)])
    return pd.DataFrame({"status": status, "p_nodule": scores, "in_distribution": pd.array(near, dtype="boolean")})


def compared(*rows: object, **changes: object) -> dict[str, Comparison]:
    return {one.what: one for one in drift(table(*rows), reference(**changes), ("nodule",))}


def test_scans_like_those_of_training_show_no_change() -> None:
    found = compared(np.random.default_rng(1).beta(2, 5, 200))
    assert [one.changed for one in found.values()] == [False, False, False]
    assert found["scores of nodule"].verdict == "distributed as in training, as far as can be told"
    assert found["refused scans"].now == pytest.approx(4 / 204, abs=1e-6)
    assert (found["refused scans"].n_now, found["refused scans"].then) == (204, 0.02)
    assert found["scans out of distribution"].then == 0.01


@pytest.mark.parametrize(
    ("a", "b", "verdict"),
    [(5, 2, "clearly higher"), (1, 9, "clearly lower"), (2.6, 5, "somewhat higher")],
)
def test_other_scores_are_seen_and_said(a: float, b: float, verdict: str) -> None:
    found = compared(np.random.default_rng(2).beta(a, b, 900))["scores of nodule"]
    assert found.changed
    assert found.verdict == f"{verdict} or otherwise distributed than in training"
    assert found.p is not None
    assert found.p < 0.01


def test_more_refusals_and_more_unlike_scans_are_seen() -> None:
    p = np.random.default_rng(3).beta(2, 5, 200)
    found = compared(p, 60, 50)
    assert found["refused scans"].verdict == "more often than in training"
    assert found["scans out of distribution"].verdict == "more often than in training"
    fewer = compared(p, 0, 0, n_rejected=300)["refused scans"]
    assert fewer.verdict == "less often than in training"


@pytest.mark.parametrize(("now", "then"), [(29, 400), (200, 29), (0, 400)])
def test_few_scans_decide_nothing(now: int, then: int) -> None:
    found = compared(np.full(now, 0.99), n_scans=then, n_out_of_distribution=None, n_found=then)
    scores = found["scores of nodule"]
    assert (scores.changed, scores.p, scores.distance) == (None, None, None)
    assert scores.verdict == f"too few scans to say: {now} now, {then} in training; it takes 30 of each"
    assert list(found) == ["scores of nodule", "refused scans"]


def test_without_a_reference_nothing_is_compared() -> None:
    assert drift(table(THEN), None, ("nodule",)) == []


def test_false_alarms_are_rare() -> None:
    rng = np.random.default_rng(4)
    whole = np.sort(rng.beta(2, 5, 400))
    then = tuple(np.quantile(whole, np.linspace(0, 1, 201)).tolist())
    alarms = sum(
        bool(compared(rng.beta(2, 5, 300), scores={"nodule": then})["scores of nodule"].changed) for _ in range(200)
    )
    assert alarms <= 8  # 2 expected; the quantiles stand for 400 scans, so the test errs on the quiet side
