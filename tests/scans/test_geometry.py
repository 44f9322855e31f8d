"""Order, affine and refusals of slice stacks."""

from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from pipeline.domain import ScanError
from pipeline.scans.geometry import plane_affine, same_place, slice_normal, spread_evenly, stack, to_closest_ras

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def line(heights, tilt=0.0):
    return np.array([[-20.0, -30.0 + tilt * z, z] for z in heights])


@st.composite
def stacks(draw):
    """(orientation, positions in order, spacing, shuffled order)."""
    rotation = Rotation.from_quat(draw(st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: np.linalg.norm(q) > 0.1)))
    cosines = rotation.as_matrix()
    spacing = draw(st.tuples(st.floats(0.1, 5), st.floats(0.1, 5)))
    step = draw(st.floats(0.3, 12))
    tilt = draw(st.floats(-0.4, 0.4))
    count = draw(st.integers(1, 12))
    origin = np.array(draw(st.tuples(*[st.floats(-500, 500)] * 3)))
    advance = step * (cosines[:, 2] + tilt * cosines[:, 1])
    positions = origin + np.arange(count)[:, None] * advance
    order = draw(st.permutations(range(count)))
    return (*cosines[:, 0], *cosines[:, 1]), positions, spacing, list(order)


@settings(max_examples=150, deadline=None)
@given(stacks(), st.tuples(st.integers(0, 30), st.integers(0, 30)))
def test_every_voxel_keeps_its_place_in_the_patient(case, pixel):
    orientation, positions, spacing, order = case
    shuffled = positions[order]
    grid = stack(orientation, shuffled, spacing)
    column, row = pixel
    for k, source in enumerate(grid.order):
        lps = (
            shuffled[source]
            + np.multiply(orientation[:3], spacing[1] * column)
            + np.multiply(orientation[3:], spacing[0] * row)
        )
        np.testing.assert_allclose(grid.affine @ [column, row, k, 1], [-lps[0], -lps[1], lps[2], 1], atol=1e-3)


@settings(max_examples=100, deadline=None)
@given(
    st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: np.linalg.norm(q) > 0.1),
    st.tuples(*[st.floats(0.2, 8)] * 3),
    st.sampled_from([np.diag(signs) for signs in product((-1.0, 1.0), repeat=3)]),
    st.sampled_from(list(permutations(range(3)))),
)
def test_turning_to_ras_moves_no_marker(quaternion, spacing, flip, axes):
    affine = np.eye(4)
    affine[:3, :3] = (Rotation.from_quat(quaternion).as_matrix() @ flip @ np.diag(spacing))[:, axes]
    affine[:3, 3] = (7, -11, 13)
    voxels = np.zeros((3, 4, 5), np.float32)
    voxels[2, 1, 3] = 1
    turned, after, _ = to_closest_ras(voxels, affine)
    np.testing.assert_allclose(after @ [*np.argwhere(turned)[0], 1], affine @ [2, 1, 3, 1], atol=1e-9)
    cosines = after[:3, :3] / np.linalg.norm(after[:3, :3], axis=0)
    assert (
        np.trace(cosines)
        >= max(sum(abs(cosines[axis, i]) for i, axis in enumerate(p)) for p in permutations(range(3))) - 1e-9
    )


@pytest.mark.parametrize("axes", list(permutations(range(3))))
@pytest.mark.parametrize("signs", list(product((-1, 1), repeat=3)))
def test_all_48_axis_orders_give_one_volume(axes, signs):
    truth = np.arange(60, dtype=np.float32).reshape(3, 4, 5)
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    orientation = [[axes[i], signs[i]] for i in range(3)]
    stored = nib.orientations.apply_orientation(truth, orientation)
    stored_affine = affine @ nib.orientations.inv_ornt_aff(orientation, truth.shape)
    turned, after, code = to_closest_ras(stored, stored_affine)
    np.testing.assert_array_equal(turned, truth)
    np.testing.assert_allclose(after, affine, atol=1e-9)
    assert code == "".join(nib.aff2axcodes(stored_affine))
    assert np.shares_memory(turned, stored)


def test_ras_agrees_with_nibabel_on_oblique_affines():
    rng = np.random.default_rng(0)
    for rotation in Rotation.random(50, rng=rng):
        affine = np.eye(4)
        affine[:3, :3] = rotation.as_matrix() @ np.diag([0.7, 0.5, 3.0])
        cosines = np.sort(np.abs(rotation.as_matrix()), axis=0)
        if (cosines[2] - cosines[1]).min() < 0.15:
            continue  # near 45 degrees, either answer is right
        voxels = rng.random((2, 3, 4), dtype=np.float32)
        image = nib.as_closest_canonical(nib.Nifti1Image(voxels, affine))
        turned, after, _ = to_closest_ras(voxels, affine)
        np.testing.assert_array_equal(turned, image.get_fdata(dtype=np.float32))
        np.testing.assert_allclose(after, image.affine, atol=1e-5)


def test_order_follows_the_normal():
    grid = stack(AXIAL, line([5, 0, 2.5]), (0.5, 0.7))
    assert grid.order.tolist() == [1, 2, 0]
    np.testing.assert_allclose(grid.affine, LPS @ [[0.7, 0, 0, -20], [0, 0.5, 0, -30], [0, 0, 2.5, 0], [0, 0, 0, 1]])
    assert grid.warnings == ()


def test_a_lone_slice_is_as_thick_as_it_says():
    grid = stack(AXIAL, line([40]), (1, 1), thickness_mm=5)
    np.testing.assert_allclose(grid.affine[:3, 2], [0, 0, 5])


def test_gantry_tilt_stays_in_the_affine_as_a_shear():
    grid = stack(AXIAL, line(np.arange(6) * 2.5, tilt=0.2), (1, 1))
    assert grid.warnings == ("gantry_tilt",)
    np.testing.assert_allclose(grid.affine[:3, 2], [0, -0.5, 2.5])


def test_gaps_are_filled_on_an_even_grid_when_allowed():
    heights = np.array([0, 2, 4, 8, 10.0])
    grid = stack(AXIAL, line(heights), (1, 1), allow_gaps=True)
    assert grid.warnings == ("gaps_filled",)
    even = spread_evenly(np.float32(heights).reshape(-1, 1, 1), grid.places)
    np.testing.assert_allclose(even.ravel(), [0, 2, 4, 6, 8, 10])
    np.testing.assert_allclose(grid.affine[2, 2], 2)


@pytest.mark.parametrize("heights", [[0, 2, 3], [0, 2.5, 5, 10], [0, 1, 2, 3, 6], [0, 1, 3]])
def test_missing_slices_are_refused(heights):
    with pytest.raises(ScanError, match=r"missing_slices: .*step by"):
        stack(AXIAL, line(heights), (1, 1))


@pytest.mark.parametrize("heights", [[0, 2, 4.1, 6], [0, 1, 2.02, 3, 4]])
def test_uneven_steps_are_refused(heights):
    with pytest.raises(ScanError, match=r"bad_spacing: slice steps vary"):
        stack(AXIAL, line(heights), (1, 1))


def test_steps_within_one_percent_are_even():
    assert stack(AXIAL, line([0, 2.5, 5.02, 7.5]), (1, 1)).order.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("orientation", "positions", "reason"),
    [
        ((0, 1, 0, 0, 0, -1), line([0, 2.5, 5]), r"bad_geometry: slice positions don't advance"),
        (AXIAL, np.add(line([0, 2.5, 5]), [[0, 0, 0], [0, 3, 0], [0, 0, 0]]), r"bad_geometry: slice positions leave"),
        (AXIAL, line([0, 2.5, 2.5]), r"conflicting_slices"),
        (AXIAL, line([0, np.nan, 5]), r"bad_geometry: ImagePositionPatient"),
        ((1, 0, 0, 0, 1.1, 0), line([0, 1]), r"bad_geometry: ImageOrientationPatient"),
        ((1, 0, 0, 0.1, 1, 0), line([0, 1]), r"bad_geometry: ImageOrientationPatient"),
        ((1, 0, 0, 0, np.inf, 0), line([0, 1]), r"bad_geometry: ImageOrientationPatient"),
        ((0, 0, 0, 0, 0, 0), line([0, 1]), r"bad_geometry: ImageOrientationPatient"),
    ],
)
def test_bad_geometry_is_refused(orientation, positions, reason):
    with pytest.raises(ScanError, match=reason):
        stack(orientation, positions, (1, 1))


@pytest.mark.parametrize("spacing", [(0, 1), (1, -1), (np.nan, 1), (1,)])
def test_spacing_must_be_positive(spacing):
    with pytest.raises(ScanError, match="bad_spacing"):
        plane_affine(AXIAL, spacing, (0, 0, 0), (0, 0, 1))


@pytest.mark.parametrize("affine", [np.diag([1.0, 1, 0, 1]), np.diag([1.0, np.nan, 1, 1]), np.ones((4, 4)), np.eye(3)])
def test_an_affine_that_is_none_is_refused(affine):
    with pytest.raises(ScanError, match=r"bad_geometry: the affine"):
        to_closest_ras(np.zeros((2, 2, 2), np.float32), affine)


def test_same_place_and_normal():
    assert same_place([(0, 0, 0), (0, 0, 1), (0, 0, 0.001)]) == [[0, 2], [1]]
    np.testing.assert_allclose(slice_normal(AXIAL), [0, 0, 1])


@pytest.mark.parametrize("shift", [0.06, 0.4, 1.5])
@pytest.mark.parametrize("volumes", [2, 3])
def test_gaps_are_not_filled_between_volumes_in_each_other(shift, volumes):
    heights = [2.0 * k + shift * volume / volumes for volume in range(volumes) for k in range(5)]
    with pytest.raises(ScanError, match="ambiguous_volume: the slices lie like those of several volumes"):
        stack(AXIAL, line(heights), (1, 1), allow_gaps=True)


def test_a_little_jitter_is_no_second_volume():
    assert len(stack(AXIAL, line([0, 1, 2.012, 3, 4, 5]), (1, 1), allow_gaps=True).places) == 6


def test_a_volume_that_would_mostly_be_made_up_is_refused():
    with pytest.raises(ScanError, match="missing_slices: an even grid would have 504 slices, of which 5 exist"):
        stack(AXIAL, line([0, 1, 2, 3, 503]), (1, 1), allow_gaps=True)


def test_small_differences_may_not_add_up():
    steps = np.repeat([0.995, 1.005], 100)
    heights = np.concatenate([[0], np.cumsum(steps)])
    with pytest.raises(ScanError, match=r"bad_spacing: slice steps vary from 0.995 to 1.005 mm.*on an even grid"):
        stack(AXIAL, line(heights), (1, 1))
    filled = stack(AXIAL, line(heights), (1, 1), allow_gaps=True)
    places = np.interp(np.linspace(0, heights[-1], 201), heights, np.arange(201))
    np.testing.assert_allclose(filled.places, places, atol=1e-9)
