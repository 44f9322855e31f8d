import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.domain import ScanError, Volume
from pipeline.model.preprocess import grid_affine, input_widths, preprocess, resample
from pipeline.sections import PreprocessSection
from tests.model.tiny import marked

SPACING = st.floats(0.8, 4.0)


def world(affine: np.ndarray, index: np.ndarray) -> np.ndarray:
    return affine[:3, :3] @ index + affine[:3, 3]


def centre_of_mass(array: np.ndarray) -> np.ndarray:
    """Index (x, y, z) of the bright block in [channel, z, y, x]."""
    z, y, x = np.nonzero(array[0] > 0.5)
    weights = array[0][z, y, x]
    return np.array([np.average(axis, weights=weights) for axis in (x, y, z)])


@given(
    spacing=st.tuples(SPACING, SPACING, SPACING),
    origin=st.tuples(*[st.floats(-200, 200)] * 3),
    turn=st.floats(-0.4, 0.4),
    at=st.tuples(st.integers(8, 31), st.integers(8, 31), st.integers(6, 17)),
)
@settings(max_examples=30, deadline=None)
def test_a_marker_keeps_its_place_in_the_patient(spacing, origin, turn, at) -> None:
    affine = np.eye(4)
    rotation = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    affine[:3, :3] = rotation * spacing
    affine[:3, 3] = origin
    volume = marked((40, 40, 24), affine, at, radius=3)
    item = preprocess(volume, PreprocessSection(size=(48, 48, 36), window=(-1000, 400)))
    expected, found = world(affine, np.array(at)), world(item.affine, centre_of_mass(item.array))
    assert np.abs(expected - found).max() < 1.0 * max(spacing)


def test_axes_are_those_of_a_radiological_picture() -> None:
    volume = marked((20, 20, 20), np.eye(4), (16, 4, 17))  # right, posterior, superior
    x, y, z = centre_of_mass(preprocess(volume, PreprocessSection(size=(20, 20, 20))).array)
    assert (x, y, z) == (pytest.approx(3, abs=0.01), pytest.approx(15, abs=0.01), pytest.approx(17, abs=0.01))


def test_fixed_spacing_pads_with_air_around_the_centre() -> None:
    volume = Volume(np.full((10, 10, 10), 400, dtype=np.float32), np.diag([2.0, 2, 2, 1]), "HU")
    volume.voxels[0, 0, 0] = -1000
    item = preprocess(volume, PreprocessSection(size=(20, 20, 20), spacing_mm=(2, 2, 2)))
    assert np.linalg.norm(item.affine[:3, 0]) == pytest.approx(2)
    assert item.array[0, 5:15, 5:15, 5:15].mean() > 0.99
    assert item.array[0, :4].max() == 0
    assert item.array[0, 16:].max() == 0


def test_a_tilted_gantry_comes_out_straight() -> None:
    affine = np.eye(4)
    affine[:3, 2] = (0, 0.4, 2.0)  # the table moves while the slices stay parallel
    rod = np.full((30, 60, 30), -1000, dtype=np.float32)
    for k in range(30):
        j = 40 - 0.4 * k  # vertical in the patient
        rod[14:17, round(j) - 2 : round(j) + 3, k] = 400
    item = preprocess(Volume(rod, affine, "HU"), PreprocessSection(size=(30, 72, 60)))
    columns = [np.average(np.arange(72), weights=plane.sum(1)) for plane in item.array[0, 6:54] if plane.max() > 0.5]
    assert np.ptp(columns) < 1.0
    directions = item.affine[:3, :3] / np.linalg.norm(item.affine[:3, :3], axis=0)
    np.testing.assert_allclose(directions.T @ directions, np.eye(3), atol=1e-9)


def test_shrinking_averages_instead_of_picking() -> None:
    noise = np.random.default_rng(0).normal(0, 100, (64, 64, 64)).astype(np.float32)
    small = resample(
        noise, np.eye(4), np.diag([4.0, 4, 4, 1]) + np.array([[0, 0, 0, 1.5]] * 3 + [[0] * 4]), (16, 16, 16)
    )
    assert small.std() == pytest.approx(100 / 8, rel=0.1)
    np.testing.assert_allclose(small[3, 2, 1], noise[4:8, 8:12, 12:16].mean(), atol=1e-3)


def test_there_and_back_again() -> None:
    volume = marked((30, 34, 20), np.diag([1.5, 1.5, 3, 1]), (20, 9, 14), radius=2)
    rules = PreprocessSection(size=(60, 68, 40))
    item = preprocess(volume, rules)
    back = resample(np.ascontiguousarray(item.array[0].transpose(2, 1, 0)), item.affine, volume.affine, volume.shape)
    inside = back.transpose(2, 1, 0) > 0.5
    assert (inside == (volume.voxels > 0)).mean() > 0.995


@pytest.mark.parametrize(("thin", "shape"), [(2, (12, 10, 1)), (1, (12, 1, 10)), (0, (1, 12, 10))])
def test_one_slice_in_any_plane_becomes_a_picture(thin, shape) -> None:
    item = preprocess(
        marked(shape, np.eye(4), tuple(s - 2 if s > 1 else 0 for s in shape)), PreprocessSection(size=(12, 10))
    )
    assert item.array.shape == (1, 10, 12)
    columns, rows = {2: (0, 1), 1: (0, 2), 0: (1, 2)}[thin]
    y, x = np.unravel_index(item.array[0].argmax(), (10, 12))
    assert (x, y) == (pytest.approx(1, abs=1), pytest.approx(1, abs=1)), (columns, rows)


def test_intensity_rules() -> None:
    volume = Volume(np.linspace(-2000, 2000, 1000, dtype=np.float32).reshape(10, 10, 10), np.eye(4), "HU")
    window = preprocess(volume, PreprocessSection(size=(10, 10, 10), window=(-1000, 1000))).array
    assert (window.min(), window.max()) == (0, 1)
    zscore = preprocess(volume, PreprocessSection(size=(10, 10, 10), intensity="zscore")).array
    assert (float(zscore.mean()), float(zscore.std())) == (pytest.approx(0, abs=1e-4), pytest.approx(1, abs=1e-4))
    minmax = preprocess(volume, PreprocessSection(size=(10, 10, 10), intensity="minmax")).array
    assert (minmax.min(), minmax.max()) == (0, 1)


def test_the_same_scan_twice_gives_the_same_bytes() -> None:
    volume = marked((20, 20, 20), np.diag([1.3, 1.3, 2, 1]), (5, 6, 7))
    rules = PreprocessSection(size=(16, 16, 16))
    assert preprocess(volume, rules).array.tobytes() == preprocess(volume, rules).array.tobytes()


@pytest.mark.parametrize(
    ("voxels", "warnings", "rules", "channels", "reason"),
    [
        (np.zeros((4, 4, 4)), (), PreprocessSection(size=(8, 8)), 1, "not_one_slice: the model takes one slice"),
        (np.zeros((4, 4, 1)), (), PreprocessSection(size=(8, 8, 8)), 1, "too_few_slices: the model takes volumes"),
        (np.zeros((4, 4, 1, 3)), (), PreprocessSection(size=(8, 8)), 1, "colour_not_supported: the scan is in colour"),
        (np.zeros((4, 4, 1)), ("no_spacing",), PreprocessSection(size=(8, 8), spacing_mm=(1, 1)), 1, "no_spacing"),
    ],
)
def test_volumes_that_do_not_fit_are_refused(voxels, warnings, rules, channels, reason) -> None:
    volume = Volume(voxels.astype(np.float32), np.eye(4), warnings=warnings)
    with pytest.raises(ScanError, match=reason):
        preprocess(volume, rules, channels)


def test_colour_and_gray_in_a_colour_model() -> None:
    gray = Volume(np.arange(16, dtype=np.float32).reshape(4, 4, 1), np.eye(4))
    colour = Volume(np.repeat(gray.voxels[..., None], 3, axis=-1), np.eye(4))
    rules = PreprocessSection(size=(4, 4), intensity="minmax")
    np.testing.assert_array_equal(preprocess(gray, rules, 3).array, preprocess(colour, rules, 3).array)


def test_grid_without_spacing_covers_the_whole_field_of_view() -> None:
    volume = marked((10, 20, 30), np.diag([3.0, 2.0, 1.0, 1]), (1, 1, 1))
    affine = grid_affine(volume, PreprocessSection(size=(15, 20, 10)))
    np.testing.assert_allclose(np.linalg.norm(affine[:3, :3], axis=0), [2, 2, 3])


@pytest.mark.parametrize("spacing_mm", [None, (2.0, 1.0, 4.0)])
@pytest.mark.parametrize("shape", [(20, 10, 6), (1, 10, 6), (20, 1, 6), (20, 10, 1)])
def test_widths_of_an_input_are_those_of_its_grid(shape, spacing_mm) -> None:
    dimensions = 2 if 1 in shape else 3
    rules = PreprocessSection(size=(8, 7, 5)[:dimensions], spacing_mm=spacing_mm and spacing_mm[:dimensions])
    voxels = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    grid = preprocess(Volume(voxels, np.diag([0.5, 0.7, 5, 1]), "HU"), rules, 1).affine
    steps = np.linalg.norm(grid[:3, :3], axis=0)[:dimensions]
    np.testing.assert_allclose(input_widths(shape, (0.5, 0.7, 5), rules), steps * rules.size, rtol=1e-6)
