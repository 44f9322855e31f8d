import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from pipeline.model.gate import FEWEST, QUANTILE, Gate, excess, look_of, with_look


def cloud(rng, n, shift=0.0, d=40):
    """Correlated features around one place; the mixing is the same for every cloud."""
    mixing = np.random.default_rng(0).normal(size=(d, d)) * np.linspace(3, 0.1, d)
    return rng.normal(size=(n, d)) @ mixing.T + shift


def test_scans_like_the_learned_ones_pass_at_the_stated_share() -> None:
    rng = np.random.default_rng(1)
    gate = Gate.fitted(cloud(rng, 400), cloud(rng, 1000))
    assert np.mean(excess([gate], [cloud(rng, 4000)]) > 1) == pytest.approx(1 - QUANTILE, abs=0.006)


def test_other_scans_stand_out() -> None:
    rng = np.random.default_rng(2)
    gate = Gate.fitted(cloud(rng, 400), cloud(rng, 100))
    same, moved, spread = cloud(rng, 300), cloud(rng, 300, shift=3), rng.normal(size=(300, 40)) * 10
    for other in (moved, spread):
        truth = np.repeat([0, 1], 300)
        assert roc_auc_score(truth, excess([gate], [np.concatenate([same, other])])) > 0.95


def test_the_distance_is_mahalanobis_where_all_directions_are_kept() -> None:
    rng = np.random.default_rng(3)
    learned = cloud(rng, 500, d=6)
    gate = Gate.fitted(learned, cloud(rng, 50, d=6))
    inverse = np.linalg.inv(np.cov(learned.T))
    x = cloud(rng, 5, d=6)
    centred = x - learned.mean(axis=0)
    np.testing.assert_allclose(gate.distances(x), np.einsum("ni,ij,nj->n", centred, inverse, centred) / 6, rtol=1e-6)


@pytest.mark.parametrize(("learned", "held_out"), [(FEWEST - 1, 50), (50, FEWEST - 1)])
def test_too_few_scans_make_no_gate(learned, held_out) -> None:
    rng = np.random.default_rng(4)
    assert Gate.fitted(cloud(rng, learned), cloud(rng, held_out)) is None


def test_features_that_never_vary_do_no_harm() -> None:
    rng = np.random.default_rng(5)
    learned, held_out = cloud(rng, 60), cloud(rng, 60)
    learned[:, 3], held_out[:, 3] = 7, 7
    gate = Gate.fitted(learned, held_out)
    assert np.isfinite(gate.distances(held_out)).all()
    other = held_out.copy()
    other[:, 3] = 900
    assert (excess([gate], [other]) > 1).all()


def test_it_is_kept_as_numbers_alone() -> None:
    rng = np.random.default_rng(6)
    gate = Gate.fitted(cloud(rng, 60), cloud(rng, 60))
    x = cloud(rng, 20)
    np.testing.assert_array_equal(Gate.of_tensors(gate.tensors()).distances(x), gate.distances(x))
    assert set(gate.tensors()) == {"mean", "scale", "components", "variances", "residual", "limit"}


def test_the_look_of_an_input_stands_beside_its_features() -> None:
    arrays = np.stack([np.zeros((1, 4, 4)), np.linspace(0, 1, 16).reshape(1, 4, 4)]).astype(np.float32)
    looked = with_look(np.ones((2, 3)), look_of(arrays))
    assert looked.shape == (2, 10)
    np.testing.assert_allclose(looked[1, 3:], [0, 0.05, 0.25, 0.5, 0.75, 0.95, 1], atol=1e-6)
    assert (looked[0, 3:] == 0).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.floats(1e-3, 1e3), st.floats(-100, 100))
def test_units_of_the_features_do_not_matter(seed, factor, offset) -> None:
    rng = np.random.default_rng(seed)
    learned, held_out, x = cloud(rng, 80), cloud(rng, 40), cloud(rng, 10)
    one = Gate.fitted(learned, held_out)
    other = Gate.fitted(learned * factor + offset, held_out * factor + offset)
    np.testing.assert_allclose(other.distances(x * factor + offset), one.distances(x), rtol=1e-3)
