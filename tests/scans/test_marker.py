"""Whole files with random geometry: a marker voxel stays where it is in the patient."""

import nibabel as nib
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from pipeline.scans.find import read_volume
from tests.scans.phantoms import dicom, write

SHAPE = (5, 6, 7)  # slices, rows, columns
MARKER = 3000

lengths = st.floats(0.2, 8).map(lambda value: round(value, 3))


@st.composite
def geometries(draw):
    """Rotation (columns: directions of the rows, of the columns, of the slices; LPS), spacings, origin, file order."""
    quaternion = draw(st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: np.linalg.norm(q) > 0.1))
    rotation = Rotation.from_quat(quaternion).as_matrix()
    rotation[:, 2] *= draw(st.sampled_from([-1, 1]))
    spacing = draw(st.tuples(lengths, lengths, lengths))
    origin = draw(st.tuples(*[st.floats(-500, 500)] * 3))
    place = tuple(draw(st.integers(0, size - 1)) for size in SHAPE)
    return rotation, np.array(spacing), np.array(origin), draw(st.permutations(range(SHAPE[0]))), place


def marked(place):
    voxels = np.full(SHAPE, 24, np.uint16)
    voxels[place] = MARKER
    return voxels


def world_of_marker(volume):
    (place,) = np.argwhere(volume.voxels == volume.voxels.max())
    return (volume.affine @ [*place, 1])[:3]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(geometries())
def test_a_marker_in_a_series_keeps_its_place(tmp_path, geometry):
    rotation, spacing, origin, order, (k, row, column) = geometry
    stored = marked((k, row, column))
    for path in tmp_path.iterdir():
        path.unlink()
    for name, index in enumerate(order):
        ds = dicom(stored[index], origin + rotation[:, 2] * spacing[2] * index, rotation[:, :2].T.ravel())
        ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.3", "1.2.3.4"
        ds.PixelSpacing = [float(spacing[1]), float(spacing[0])]
        write(ds, tmp_path / f"{name}.dcm")
    lps = origin + rotation @ (spacing * [column, row, k])
    np.testing.assert_allclose(world_of_marker(read_volume(tmp_path)), lps * [-1, -1, 1], atol=1e-3)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(geometries(), st.permutations(range(3)))
def test_a_marker_in_a_nifti_keeps_its_place(tmp_path, geometry, axes):
    rotation, spacing, origin, _, place = geometry
    affine = np.eye(4)
    affine[:3, :3] = (rotation * spacing)[:, axes]
    affine[:3, 3] = origin
    image = nib.Nifti1Image(marked(place).astype(np.int16), affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, tmp_path / "a.nii.gz")
    world = affine @ [*place, 1]
    np.testing.assert_allclose(world_of_marker(read_volume(tmp_path / "a.nii.gz")), world[:3], atol=1e-3)
