import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import permutation_test_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from data.anatomy import phantom
from data.lesion import NODULE_DIAMETER_MM

SMALL = {"shape": (40, 40, 14), "spacing_mm": (8.4, 8.4, 18.0)}


def test_tissues_have_the_densities_of_a_chest_ct():
    voxels, affine, _ = phantom(3, nodule=False)
    assert voxels.dtype == np.float32
    assert voxels.shape == (160, 160, 32)
    assert np.allclose(np.diag(affine), [2.1, 2.1, 7.0, 1])
    assert np.median(voxels[:5, :5]) == pytest.approx(-1000, abs=25)
    shares = {
        "lung": ((voxels > -950) & (voxels < -700)).mean(),
        "fat": ((voxels > -160) & (voxels < -50)).mean(),
        "soft": ((voxels > 0) & (voxels < 120)).mean(),
        "bone": (voxels > 350).mean(),
    }
    assert shares["lung"] > 0.1
    assert shares["fat"] > 0.03
    assert shares["soft"] > 0.12
    assert 0.005 < shares["bone"] < 0.1


def test_left_and_right_head_and_feet_are_where_they_belong():
    voxels, _, _ = phantom(3, nodule=False)
    i, j, k = (n // 2 for n in voxels.shape)
    airy = voxels < -600
    body = voxels > -300
    assert airy[i:].mean() > airy[:i].mean(), "the heart lies on the patient's left, so the right lung is larger"
    assert (voxels[:, :j] > 350).sum() > (voxels[:, j:] > 350).sum(), "the spine lies behind"
    assert body[20:-20, 30:-30, :4].mean() > body[20:-20, 30:-30, k : k + 4].mean(), "the liver lies below"


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**40))
def test_a_nodule_is_soft_tissue_in_a_lung_and_changes_little_else(seed):
    plain, _, empty = phantom(seed, nodule=False)
    voxels, affine, mask = phantom(seed, nodule=True)
    assert not empty.any()
    volume_ml = mask.sum() * abs(np.linalg.det(affine[:3, :3])) / 1000
    smallest, largest = (np.pi / 6 * (diameter / 10) ** 3 for diameter in NODULE_DIAMETER_MM)
    assert 0.3 * smallest < volume_ml < 2 * largest
    assert -150 < voxels[mask].mean() < 150
    assert np.median(plain[mask]) < -600, "it takes the place of lung"
    away = ~mask
    changed = np.abs(voxels - plain) > 0.01
    assert changed[away].mean() < 0.08, "all other draws are the same: only the lungs' wall moves a little"
    lung = away & (plain > -950) & (plain < -750)
    assert np.median(voxels[lung]) == pytest.approx(np.median(plain[lung]), abs=1), "as dense as before"


def test_one_patient_on_two_grids_has_the_nodule_in_one_place():
    found = []
    for shape, spacing in (((160, 160, 34), (2.1, 2.1, 7.4)), ((128, 128, 40), (2.5, 2.5, 6.4))):
        _, affine, mask = phantom(11, True, shape, spacing)
        found.append((affine @ [*np.argwhere(mask).mean(axis=0), 1])[:3])
    assert np.allclose(*found, atol=3.0)


def test_the_same_seed_gives_the_same_voxels_and_visits_differ_in_noise_only():
    first, _, mask = phantom(5, True, **SMALL)
    again, _, _ = phantom(5, True, **SMALL)
    visit, _, mask_later = phantom(5, True, **SMALL, visit=1)
    assert np.array_equal(first, again)
    assert np.array_equal(mask, mask_later)
    assert 5 < np.abs(first - visit).mean() < 60


@pytest.mark.parametrize(("shape", "spacing"), [((24, 24, 8), (14.0, 14.0, 30.0)), ((64, 64, 6), (5.0, 5.0, 10.0))])
def test_coarse_or_short_grids_still_show_the_nodule(shape, spacing):
    assert all(phantom(seed, True, shape, spacing)[2].any() for seed in range(10))


def chance(features: np.ndarray, labels: np.ndarray) -> float:
    """p of the cross-validated AUROC of a logistic regression, by permutation of the labels."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1))
    _, _, p = permutation_test_score(
        model, features, labels, scoring="roc_auc", cv=4, n_permutations=99, random_state=0
    )
    return float(p)


def test_mean_and_standard_deviation_of_hu_do_not_tell_who_has_a_nodule():
    labels = np.arange(500) % 2 == 1
    features = []
    for seed, nodule in enumerate(labels):
        voxels, _, _ = phantom(seed, bool(nodule), (48, 48, 12), (7.0, 7.0, 21.0))
        features.append([voxels.mean(), voxels.std()])
    assert chance(np.array(features), labels) > 0.05
    leaky = np.array(features) + np.outer(labels, [np.std(features, axis=0)[0], 0])
    assert chance(leaky, labels) <= 0.05, "the test must be able to see a leak"
