"""What the canvas is sent: the values, their places, the encoding; and the heat map's coarse grid."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.canvas import wire
from app.canvas.wire import choose_encoding, pack_heat, pack_volume, sending_order, turning
from pipeline.domain import Volume


def volume(voxels, unit="HU", warnings=(), affine=None) -> Volume:
    return Volume(np.asarray(voxels, dtype=np.float32), np.eye(4) if affine is None else affine, unit, "RAS", warnings)


def received(packed) -> np.ndarray:
    """What JavaScript holds once all has arrived: [z, y, x(, colour)] in the volume's unit."""
    kind = {"int16": "<i2", "float32": "<f4", "rgb": "u1"}[packed.description["kind"]]
    x, y, z = packed.description["shape"]
    channels = (3,) if packed.description["kind"] == "rgb" else ()
    content = b"".join(packed.chunks())
    assert len(content) == packed.size
    sent = np.frombuffer(content, kind).reshape(z, y, x, *channels)
    order = sending_order(packed.description["first"], z)
    found = np.empty(sent.shape)
    found[order] = sent
    return found * packed.description["slope"] + packed.description["intercept"]


def test_hounsfield_units_arrive_exactly_and_lie_where_the_affine_says():
    voxels = np.random.default_rng(0).integers(-1024, 3072, (5, 4, 7))
    affine = np.array([[0.7, 0.1, 0, -50], [-0.1, 0.8, 0, 20], [0, 0, 2.5, -300], [0, 0, 0, 1.0]])
    packed = pack_volume(volume(voxels, affine=affine), has_frame=True)
    assert packed.description["kind"] == "int16"
    found, turned = received(packed), np.array(packed.description["affine"])
    for x, y, z in np.ndindex(5, 4, 7):
        i, j, k = (turning((5, 4, 7)) @ [x, y, z, 1])[:3].astype(int)
        assert found[z, y, x] == voxels[i, j, k]
        np.testing.assert_allclose(turned @ [x, y, z, 1], affine @ [i, j, k, 1], atol=1e-9)


def test_the_first_slice_sent_is_the_middle_one_alone():
    voxels = np.zeros((3, 4, 9))
    voxels[:, :, 4] = 7
    first = next(iter(pack_volume(volume(voxels), True).chunks()))
    assert np.frombuffer(first, "<i2").tolist() == [7] * 12


@given(count=st.integers(1, 40), first=st.integers(0, 39))
def test_slices_are_sent_from_the_first_outwards(count, first):
    first = min(first, count - 1)
    order = sending_order(first, count)
    assert sorted(order) == list(range(count))
    away = [abs(k - first) for k in order]
    assert away == sorted(away)


@given(seed=st.integers(0, 99), scale=st.floats(1e-3, 1e4), offset=st.floats(-1e4, 1e4))
@settings(max_examples=30, deadline=None)
def test_other_numbers_arrive_finer_than_a_screen_shows(seed, scale, offset):
    voxels = np.random.default_rng(seed).normal(0, 1, (6, 5, 4)) * scale + offset
    packed = pack_volume(volume(voxels, "a.u."), True)
    step = packed.description["slope"] if packed.description["kind"] == "int16" else 0
    expected = np.float32(voxels)[::-1, ::-1].transpose(2, 1, 0)
    np.testing.assert_allclose(received(packed), expected, atol=0.51 * step + 1e-6 * max(scale, abs(offset)))


def test_one_hot_voxel_does_not_coarsen_the_others():
    voxels = np.random.default_rng(0).normal(100, 20, (20, 20, 20))
    assert choose_encoding(np.float32(voxels)).kind == "int16"
    voxels[0, 0, 0] = 1e7
    packed = pack_volume(volume(voxels, "a.u."), True)
    assert packed.description["kind"] == "float32"
    np.testing.assert_array_equal(received(packed), np.float32(voxels)[::-1, ::-1].transpose(2, 1, 0))


def test_a_volume_of_one_value_is_sent():
    assert received(pack_volume(volume(np.full((2, 2, 1), 0.5), "a.u."), False)).tolist() == [[[0.5, 0.5]] * 2]


@pytest.mark.parametrize("scale", [1, 257])
def test_colour_is_sent_as_bytes(scale):
    voxels = np.random.default_rng(0).integers(0, 256, (4, 3, 1, 3)).astype(float)
    voxels.flat[:2] = 0, 255
    packed = pack_volume(volume(voxels * scale, "a.u."), has_frame=False)
    assert (packed.description["kind"], packed.size) == ("rgb", 36)
    np.testing.assert_allclose(received(packed), (voxels * scale)[::-1, ::-1].transpose(2, 1, 0, 3), rtol=1e-6)


@pytest.mark.parametrize(
    ("warnings", "unit"), [((), "mm"), (("no_spacing",), "px"), (("detector_spacing",), "mm (detector)")]
)
def test_lengths_say_what_they_are(warnings, unit):
    assert pack_volume(volume(np.zeros((2, 2, 1)), warnings=warnings), True).description["lengthUnit"] == unit


@pytest.mark.parametrize(("unit", "shown"), [("HU", "HU"), ("SUVbw", "SUVbw"), ("a.u.", "")])
def test_arbitrary_units_are_not_shown_as_one(unit, shown):
    assert pack_volume(volume(np.zeros((2, 2, 1)), unit), True).description["unit"] == shown


def test_values_have_as_many_decimals_as_make_sense():
    suv = np.random.default_rng(0).uniform(0, 8, (9, 9, 9))
    assert pack_volume(volume(suv, "SUVbw"), True).description["digits"] == 3
    assert pack_volume(volume(np.round(suv), "HU"), True).description["digits"] == 0


@pytest.mark.parametrize("shape", [(20, 18, 12), (300, 129, 128), (513, 7, 1)])
def test_the_heat_map_is_averaged_over_cells_that_begin_at_the_canvas_corner(shape):
    heat = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    packed = pack_heat(heat)
    cells, steps = packed.description["shape"], packed.description["steps"]
    assert max(cells) <= wire.HEAT_CELLS
    found = np.frombuffer(b"".join(packed.chunks()), np.uint8).reshape(cells[::-1])
    turned = heat[::-1, ::-1].astype(float)
    own = turned[: steps[0], : steps[1], : steps[2]]
    assert abs(found[0, 0, 0] - own.mean()) <= 0.5
    last = tuple(slice((n - 1) * step, n * step) for n, step in zip(cells, steps, strict=True))
    edge = np.pad(turned, [(0, -size % step) for size, step in zip(shape, steps, strict=True)], mode="edge")[last]
    assert abs(found[-1, -1, -1] - edge.mean()) <= 0.5


def test_a_small_heat_map_is_sent_as_it_is():
    heat = np.random.default_rng(0).integers(0, 256, (5, 4, 3)).astype(np.uint8)
    found = np.frombuffer(b"".join(pack_heat(heat).chunks()), np.uint8).reshape(3, 4, 5)
    np.testing.assert_array_equal(found, heat[::-1, ::-1].transpose(2, 1, 0))
