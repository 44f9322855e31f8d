"""Gantry tilt: kept as a shear, or resampled on a straight grid when asked."""

import numpy as np
import pytest
from scipy import ndimage

from pipeline.domain import ReadRules, ScanError
from pipeline.scans.find import read_volume
from tests.scans.phantoms import ORIGIN, nifti, series

ROWS, COLUMNS, SLICES = 80, 44, 16
SPACING = 0.5, 0.7
STEP = np.array([0.0, 0.9, 2.0])  # 24 degrees
STRAIGHT = ReadRules(straighten_tilt=True)


def axis_mm(step):
    """Where the cylinder stands: in the middle of the field of view of all slices; x and y, LPS."""
    return ORIGIN[:2] + step[:2] * SLICES / 2 + [COLUMNS * SPACING[1] / 2, ROWS * SPACING[0] / 2]


def upright_cylinder(step):
    """Stored slices of a scanner whose slices step sideways through a cylinder that stands upright."""
    y, x = np.mgrid[:ROWS, :COLUMNS]
    slices = []
    for k in range(SLICES):
        offset = ORIGIN[:2] + step[:2] * k - axis_mm(step)
        distance = np.hypot(offset[0] + x * SPACING[1], offset[1] + y * SPACING[0])
        slices.append(np.clip(4 - distance, 0, 1) * 1000 + 24)
    return np.array(slices).astype(np.uint16)


def centroids(volume):
    """Centre of the cylinder in each slice, voxel indices [k, (i, j)], and its sum."""
    weight = volume.voxels - volume.voxels.min()
    i, j, _ = np.indices(weight.shape)
    total = weight.sum(axis=(0, 1))
    return np.stack([(weight * i).sum(axis=(0, 1)) / total, (weight * j).sum(axis=(0, 1)) / total], axis=1), total


@pytest.mark.parametrize("step", [STEP, STEP * [1, -1, 1], STEP[[1, 0, 2]]], ids=["back", "front", "sideways"])
def test_an_upright_cylinder_stands_upright_after_straightening(tmp_path, step):
    folder = series(tmp_path, stored=upright_cylinder(step), slices=SLICES, step=step)
    tilted, straight = read_volume(folder), read_volume(folder, STRAIGHT)
    assert tilted.warnings == ("gantry_tilt",)
    assert straight.warnings == ("gantry_tilt", "tilt_straightened")
    leaning, standing = np.ptp(centroids(tilted)[0], axis=0).max(), np.ptp(centroids(straight)[0], axis=0).max()
    assert leaning > 10
    assert standing < 0.5
    np.testing.assert_allclose(straight.affine[:3, :3], np.diag([SPACING[1], SPACING[0], 2.0]), atol=1e-6)
    np.testing.assert_allclose(centroids(straight)[1], centroids(tilted)[1], rtol=0.01)
    centre = straight.affine @ [*centroids(straight)[0].mean(axis=0), 0, 1]
    np.testing.assert_allclose(centre[:2], -axis_mm(step), atol=0.1)


def test_a_stack_without_tilt_is_left_alone(tmp_path):
    folder = series(tmp_path)
    plain, asked = read_volume(folder), read_volume(folder, STRAIGHT)
    np.testing.assert_array_equal(asked.voxels, plain.voxels)
    np.testing.assert_array_equal(asked.affine, plain.affine)
    assert asked.warnings == ()


def test_a_sheared_nifti_is_straightened_like_the_series(tmp_path):
    folder = series(tmp_path / "dicom", stored=upright_cylinder(STEP), slices=SLICES, step=STEP)
    tilted, straight = read_volume(folder), read_volume(folder, STRAIGHT)
    path = nifti(tmp_path / "a.nii", tilted.voxels, tilted.affine, lambda header: header.set_qform(None, 0))
    assert read_volume(path).warnings == ("gantry_tilt",)
    np.testing.assert_allclose(read_volume(path, STRAIGHT).affine, straight.affine, atol=1e-3)
    np.testing.assert_allclose(read_volume(path, STRAIGHT).voxels, straight.voxels, atol=0.5)


def test_the_straight_grid_must_fit_the_limit(tmp_path):
    folder = series(tmp_path, stored=upright_cylinder(STEP), slices=SLICES, step=STEP)
    rules = ReadRules(straighten_tilt=True, max_voxels=ROWS * COLUMNS * SLICES)
    with pytest.raises(ScanError, match="too_large"):
        read_volume(folder, rules)


@pytest.mark.parametrize("sideways", [(0.28, 0.4), (-0.28, -0.3), (0.42, 0.1)])
def test_no_edge_of_a_slice_is_lost_to_rounding(tmp_path, sideways):
    folder = series(tmp_path, step=[*sideways, 2.5])
    tilted, straight = read_volume(folder), read_volume(folder, STRAIGHT)
    world = np.einsum(
        "ab,bijk->aijk", straight.affine, np.stack([*np.indices(straight.shape), np.ones(straight.shape)])
    )
    source = np.einsum("ab,bijk->aijk", np.linalg.inv(tilted.affine), world)[:3]
    inside = np.all([(s >= -1e-7) & (s <= n - 1 + 1e-7) for s, n in zip(source, tilted.shape, strict=True)], axis=0)
    expected = ndimage.map_coordinates(tilted.voxels, np.round(source, 6), order=1, mode="nearest")
    assert inside.sum() > 0.3 * inside.size
    np.testing.assert_allclose(straight.voxels[inside], expected[inside], atol=0.01)
