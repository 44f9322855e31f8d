import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.domain import UsageError
from pipeline.evaluation.operating_point import candidate_thresholds, choose, parse_target

Y = np.array([0, 0, 0, 1, 0, 1, 1, 1], dtype=float)
P = np.array([0.1, 0.2, 0.3, 0.35, 0.6, 0.7, 0.8, 0.9])


@pytest.mark.parametrize(
    ("target", "threshold"),
    [
        ("youden", 0.325),  # 4 of 4 and 3 of 4 (J = 0.75); 0.65 has the same J and a lower sensitivity
        ("sensitivity >= 0.95", 0.325),
        ("sensitivity >= 0.75", 0.65),
        ("specificity >= 0.9", 0.65),
        ("specificity >= 0.7", 0.325),
        ("Specificity>=1", 0.65),
        ("cost ratio 3", 0.325),  # one false alarm (1) is cheaper than one miss (3)
        ("cost ratio 0.5", 0.65),  # and here it is dearer
    ],
)
def test_thresholds_of_a_worked_example(target: str, threshold: float) -> None:
    point = choose("nodule", Y, P, target)
    assert point is not None
    assert point.threshold == pytest.approx(threshold)
    assert (point.finding, point.target, point.chosen_on) == ("nodule", target, "tune")


def test_missing_labels_are_left_out() -> None:
    y, p = np.r_[Y, np.nan], np.r_[P, 0.99]
    assert choose("nodule", y, p, "youden") == choose("nodule", Y, P, "youden")


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_one_class_has_no_point(label: float) -> None:
    assert choose("nodule", np.full(5, label), np.linspace(0, 1, 5), "youden") is None


@pytest.mark.parametrize(
    "target",
    ["", "accuracy >= 0.9", "sensitivity > 0.9", "sensitivity >= 90", "specificity >= 0", "cost ratio 0", "cost 5"],
)
def test_other_targets_are_refused(target: str) -> None:
    with pytest.raises(UsageError, match=r'expected "youden", "sensitivity >= 0.95", .* or "cost ratio 5"'):
        parse_target(target)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=2, max_size=40),
    st.sampled_from(["sensitivity", "specificity"]),
    st.sampled_from([0.5, 0.8, 0.95, 1.0]),
)
def test_targets_are_met_and_no_better_threshold_exists(
    rows: list[tuple[bool, float]], kind: str, wanted: float
) -> None:
    y, p = np.array([float(a) for a, _ in rows]), np.array([b for _, b in rows])
    point = choose("x", y, p, f"{kind} >= {wanted}")
    if not 0 < y.sum() < len(y):
        assert point is None
        return
    assert point is not None

    def rates(threshold: float) -> tuple[float, float]:
        return float((p[y == 1] >= threshold).mean()), float((p[y == 0] < threshold).mean())

    position = 0 if kind == "sensitivity" else 1
    here = rates(point.threshold)
    assert here[position] >= wanted - 1e-12
    others = [rates(t) for t in candidate_thresholds(p)]
    assert here[1 - position] == max(pair[1 - position] for pair in others if pair[position] >= wanted - 1e-12)


def test_rounding_of_probabilities_flips_no_scan() -> None:
    rng = np.random.default_rng(0)
    y, p = rng.integers(0, 2, 300).astype(float), rng.random(300)
    point = choose("x", y, p, "sensitivity >= 0.9")
    assert point is not None
    assert ((np.round(p, 6) >= point.threshold) == (p >= point.threshold)).all()


def test_probabilities_of_one_still_allow_no_positive() -> None:
    point = choose("x", np.array([0.0, 1.0]), np.array([1.0, 1.0]), "specificity >= 1")
    assert point is not None
    assert point.threshold > 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=2, max_size=40), st.floats(0.1, 20))
def test_no_threshold_costs_less(rows: list[tuple[bool, float]], ratio: float) -> None:
    y, p = np.array([float(a) for a, _ in rows]), np.array([b for _, b in rows])
    point = choose("x", y, p, f"cost ratio {ratio:.3f}")

    def cost(threshold: float) -> float:
        return float(f"{ratio:.3f}") * ((y == 1) & (p < threshold)).sum() + ((y == 0) & (p >= threshold)).sum()

    if point is not None:
        assert cost(point.threshold) <= min(cost(t) for t in candidate_thresholds(p)) + 1e-9
