from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app import display
from app.display import View, Window
from app.language import read
from pipeline.domain import Volume
from pipeline.sections import PreprocessSection

BLACK_TO_WHITE = Window("all", 0, 1)
RULES = PreprocessSection(size=(8, 8, 8))
STORED = [
    "".join(codes)
    for order in permutations(("LR", "PA", "IS"))
    for codes in product(*order)
]  # fmt: skip
"""All 48 axis codes in which a volume can lie on disk."""


def volume(shape=(6, 7, 8), spacing=(1.0, 1.0, 1.0), unit="a.u.", fill=0.0) -> Volume:
    return Volume(np.full(shape, fill, dtype=np.float32), np.diag([*spacing, 1.0]), unit)


def gray(picture) -> np.ndarray:
    return np.asarray(picture.convert("L"), dtype=float)


def brightest(shown: np.ndarray) -> tuple[float, float]:
    """Centre (x, y) of the brightest pixels."""
    rows, columns = np.nonzero(shown >= shown.max())
    return float(columns.mean()), float(rows.mean())


def without_letters(monkeypatch) -> None:
    monkeypatch.setattr(display, "_annotate", lambda *_: None)


@pytest.mark.parametrize(
    ("axis", "expected"), [(2, ("R", "L", "A", "P")), (1, ("R", "L", "S", "I")), (0, ("A", "P", "S", "I"))]
)
def test_letters_of_a_straight_volume(axis, expected):
    assert display.edge_letters(np.eye(4), axis) == expected


@given(
    axis=st.sampled_from([0, 1, 2]),
    where=st.tuples(st.integers(0, 5), st.integers(0, 6), st.integers(0, 7)),
    spacing=st.tuples(*[st.floats(0.5, 4)] * 3),
)
@settings(max_examples=40, deadline=None)
def test_a_marker_lies_on_the_side_that_its_letter_says(axis, where, spacing):
    scan = volume(spacing=spacing)
    scan.voxels[where] = 1
    left, top, width, height = display.picture_box(scan, axis, 400)
    with pytest.MonkeyPatch.context() as patch:
        without_letters(patch)
        shown = gray(display.render(scan, View(axis, where[axis], BLACK_TO_WHITE), canvas=400))
    x, y = brightest(shown)
    column, row = [a for a in (0, 1, 2) if a != axis]
    # Every in-plane axis runs against its RAS direction: large R, A, S indices lie left and on top.
    assert x == pytest.approx(left + (1 - (where[column] + 0.5) / scan.shape[column]) * width, abs=width / 8)
    assert y == pytest.approx(top + (1 - (where[row] + 0.5) / scan.shape[row]) * height, abs=height / 8)


@pytest.mark.parametrize("codes", STORED)
def test_a_marker_on_disk_is_shown_where_the_patient_has_it(codes, tmp_path, monkeypatch):
    from pipeline.scans.find import read_volume

    without_letters(monkeypatch)
    voxels = np.random.default_rng(0).uniform(0, 100, (8, 10, 12)).astype(np.float32)
    voxels[6, 7, 2] = 1000  # right, anterior, inferior of the middle
    straight = nib.Nifti1Image(voxels, np.diag([1.5, 1.0, 2.0, 1.0]))
    turn = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(tuple(codes))
    )
    nib.save(straight.as_reoriented(turn), tmp_path / "scan.nii.gz")
    scan = read_volume(tmp_path / "scan.nii.gz")
    index = int(np.unravel_index(scan.voxels.argmax(), scan.voxels.shape)[2])
    x, y = brightest(gray(display.render(scan, View(2, index, Window("all", 0, 1000)), canvas=400)))
    assert x < 170
    assert y < 170
    x, y = brightest(gray(display.render(scan, View(1, 7, Window("all", 0, 1000)), canvas=400)))
    assert x < 170
    assert y > 230


def test_letters_of_a_turned_volume_name_both_directions():
    turned = np.eye(4)
    angle = np.radians(30)
    turned[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    assert display.edge_letters(turned, 2) == ("RA", "LP", "AL", "PR")
    slightly = np.eye(4)
    slightly[0, 1] = 0.1
    assert display.edge_letters(slightly, 2) == ("R", "L", "A", "P")


def test_letters_are_drawn_at_all_four_edges():
    shown = gray(display.render(volume(), View(2, 3, BLACK_TO_WHITE), canvas=400))
    for rows, columns in ((slice(180, 220), slice(0, 25)), (slice(180, 220), slice(375, 400)),
                          (slice(0, 25), slice(180, 220)), (slice(375, 400), slice(180, 220))):  # fmt: skip
        assert shown[rows, columns].max() > 100
    assert shown[100:300, 100:300].max() == 0


def test_a_picture_without_a_frame_gets_no_letters():
    shown = gray(display.render(volume((6, 7, 1)), View(2, 0, BLACK_TO_WHITE, has_frame=False), canvas=400))
    assert shown[:350].max() == 0
    assert shown[375:, :100].max() > 100  # the window's caption stays


def test_proportions_follow_the_spacing():
    scan = volume((10, 20, 5), (2.0, 1.0, 4.0))
    assert display.picture_box(scan, 2, 400) == (0, 0, 400, 400)
    assert display.picture_box(volume((10, 20, 5), (1.0, 1.0, 4.0)), 2, 400) == (100, 0, 200, 400)
    assert display.picture_box(volume((10, 20, 5), (1.0, 1.0, 1.0)), 1, 400) == (0, 100, 400, 200)


@pytest.mark.parametrize(
    ("shape", "expected"), [((4, 5, 6), [2, 1, 0]), ((4, 5, 1), [2]), ((1, 5, 6), [0]), ((4, 1, 1), [2])]
)
def test_a_single_slice_has_one_plane(shape, expected):
    assert display.planes(volume(shape)) == expected


def test_window_presets_fit_the_unit():
    names = [w.name for w in display.windows(volume(unit="HU"), RULES)]
    assert names == ["Model", "Lung", "Soft tissue", "Bone", "Brain", "Full range"]
    zscore = RULES.model_copy(update={"intensity": "zscore"})
    assert [w.name for w in display.windows(volume(), zscore)] == ["Full range", "Contrast"]
    pet = [w.name for w in display.windows(volume(unit="SUVbw"), zscore)]
    assert pet == ["SUV 5", "SUV 10", "Full range", "Contrast"]
    colour = Volume(np.zeros((4, 4, 1, 3), np.float32), np.eye(4))
    assert display.windows(colour, RULES) == [Window("As stored", 0, 255)]


def test_every_window_has_words():
    known = read("en")
    for unit in ("HU", "SUVbw", "a.u."):
        assert all(f"canvas.window_{window.key}" in known for window in display.windows(volume(unit=unit), RULES))
    assert "canvas.window_as_stored" in known


@pytest.mark.parametrize("shape", [(400, 300, 200), (5000, 4000, 1), (3, 2, 1)])
def test_a_sample_is_small_and_from_all_over(shape):
    voxels = np.broadcast_to(np.arange(shape[0], dtype=np.float32)[:, None, None], shape)
    found = display.sample(voxels)
    assert min(voxels.size, 100_000) <= found.size <= 1_100_000
    assert found.min() == 0
    assert found.max() > 0.98 * (shape[0] - 1)


@pytest.mark.parametrize(
    ("name", "low", "high"), [("Model", -1000, 400), ("Lung", -1350, 150), ("Soft tissue", -150, 250), ("Brain", 0, 80)]
)
def test_window_presets_have_the_customary_limits(name, low, high):
    found = {w.name: w for w in display.windows(volume(unit="HU"), RULES)}[name]
    assert (found.low, found.high) == (low, high)


def test_window_caption_says_width_and_level():
    assert Window("Lung", -1350, 150).caption == "W 1500  L -600"


def test_full_range_leaves_out_extremes_and_survives_a_blank_scan():
    scan = volume((10, 10, 10))
    scan.voxels.reshape(-1)[:] = np.arange(1000)
    scan.voxels[0, 0, 0] = 1e6
    full = next(window for window in display.windows(scan, RULES) if window.name == "Full range")
    assert 0 < full.low < 10
    assert 990 < full.high < 1010
    blank = display.windows(volume(), RULES)[-1]
    assert blank.high > blank.low


def test_window_maps_its_limits_to_black_and_white(monkeypatch):
    without_letters(monkeypatch)
    scan = volume(fill=-150)
    assert gray(display.render(scan, View(2, 0, Window("w", -150, 250)))).max() == 0
    scan.voxels[:] = 250
    assert gray(display.render(scan, View(2, 0, Window("w", -150, 250))))[360, 360] == 255
    scan.voxels[:] = 50
    assert gray(display.render(scan, View(2, 0, Window("w", -150, 250))))[360, 360] == 128


def test_overlay_colours_only_where_it_is_hot_and_as_opaque_as_asked(monkeypatch):
    without_letters(monkeypatch)
    scan = volume((8, 8, 8), fill=0.5)
    heat = np.zeros((8, 8, 8), dtype=np.uint8)
    heat[6, 6, 4] = 255
    view = View(2, 4, BLACK_TO_WHITE)
    plain = np.asarray(display.render(scan, view, canvas=400), dtype=float)
    shown = np.asarray(display.render(scan, view, heat, 1.0, canvas=400), dtype=float)
    changed = np.abs(shown - plain).sum(axis=-1)
    assert changed[75, 75] > 100  # right and anterior: left and on top
    assert changed[200:, 200:].max() == 0
    faint = np.asarray(display.render(scan, view, heat, 0.2, canvas=400), dtype=float)
    assert 0 < np.abs(faint - plain)[75, 75].sum() < changed[75, 75]
    assert np.array_equal(np.asarray(display.render(scan, view, heat, 0.0, canvas=400)), plain)


def test_colour_scans_keep_their_colours(monkeypatch):
    without_letters(monkeypatch)
    voxels = np.zeros((8, 8, 1, 3), dtype=np.float32)
    voxels[4:, :, 0, 0] = 255
    voxels[:4, :, 0, 2] = 255
    shown = np.asarray(display.render(Volume(voxels, np.eye(4)), View(2, 0, Window("w", 0, 255)), canvas=100))
    assert tuple(shown[50, 10]) == (255, 0, 0)
    assert tuple(shown[50, 90]) == (0, 0, 255)
