"""The slice canvas in a real browser: what lies where, in the canvas' own pixels; every control; values and lengths."""

from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from playwright.sync_api import Page, expect

from app.display import edge_letters
from app.language import words
from pipeline.domain import Volume
from pipeline.scans.find import read_volume
from tests.e2e.bench import Bench, pane, pixels, served, settle, written

pytestmark = [
    pytest.mark.e2e,
    # pytest-base-url 2.1 defines its fixture in a way that pytest 10 will refuse; nothing of ours.
    pytest.mark.filterwarnings("ignore:Session-scoped fixtures defined as instance methods"),
]

ORIENTATIONS = ("RAS", "LPS", "LAS", "RPI", "PSR", "SAL", "ILP", "AIR")
SIZE = 40
MARKER = (30, 26, 33)
"""Voxel [i, j, k] in RAS order of the bright marker: to the Right, Anterior, Superior of the middle."""
INK = np.array([150, 200, 230])
"""Colour of the letters."""
PLANES = {"axial": (2, 0, 1), "coronal": (1, 0, 2), "sagittal": (0, 1, 2)}
"""Plane -> the RAS axis across it, along its columns, along its rows (all run against the picture's)."""


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with served() as running:
        yield running


@pytest.fixture(autouse=True)
def no_fault(page: Page) -> Iterator[None]:
    """No test passes over an error in the page."""
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    yield
    assert faults == []


def phantom() -> np.ndarray:
    """A gray cube with a bright marker, RAS."""
    voxels = np.full((SIZE, SIZE, SIZE), 100, np.int16)
    voxels[:2], voxels[-2:], voxels[:, :2], voxels[:, -2:], voxels[..., :2], voxels[..., -2:] = 0, 0, 0, 0, 0, 0
    i, j, k = MARKER
    voxels[i - 2 : i + 3, j - 2 : j + 3, k - 2 : k + 3] = 1000
    return voxels


def stored(folder: Path, codes: str) -> Path:
    """The phantom as a NIfTI file whose axes run as the codes say."""
    image = nib.Nifti1Image(phantom(), np.diag([2.0, 2.0, 2.0, 1.0]))
    transform = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(image.affine), nib.orientations.axcodes2ornt(tuple(codes))
    )
    path = folder / f"{codes}.nii"
    nib.save(image.as_reoriented(transform), path)
    return path


def gray(volume: np.ndarray, spacing: float = 1.0, unit: str = "HU") -> Volume:
    return Volume(np.asarray(volume, np.float32), np.diag([spacing, spacing, spacing, 1.0]), unit)


def show_marker(page: Page) -> None:
    """Bring the marker's slice into every pane, and hide the crosshair."""
    for name, (axis, _, _) in PLANES.items():
        # The canvas starts in the middle; its x and y count the other way, to the Left and to Posterior.
        steps = (MARKER[axis] if axis == 2 else SIZE - 1 - MARKER[axis]) - SIZE // 2
        for _ in range(abs(steps)):
            pane(page, name).press("ArrowUp" if steps > 0 else "ArrowDown")
    pane(page, "axial").press("x")


def marker_side(shown: np.ndarray) -> tuple[float, float]:
    """Where the white pixels' middle lies: share of the width, share of the height."""
    rows, columns = np.nonzero(shown.min(axis=-1) > 240)
    assert rows.size > 20, "no marker"
    return float(columns.mean() / shown.shape[1]), float(rows.mean() / shown.shape[0])


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_marker_and_letters_are_right_in_every_pane_however_the_scan_is_stored(page, bench, tmp_path, codes):
    volume = read_volume(stored(tmp_path, codes))
    assert volume.orientation == codes
    bench.open(page, volume)
    show_marker(page)
    for name, (axis, column_axis, row_axis) in PLANES.items():
        shown = pixels(page, name)
        x, y = marker_side(shown)
        height, width = shown.shape[:2]
        voxel = 0.94 * min(height, width) / SIZE
        # Right and Anterior lie to the left in the picture, Anterior (axial) and Superior at its top.
        right, down = ((SIZE - 1) / 2 - MARKER[one] for one in (column_axis, row_axis))
        assert x * width == pytest.approx(width / 2 + right * voxel, abs=0.6 * voxel)
        assert y * height == pytest.approx(height / 2 + down * voxel, abs=0.6 * voxel)
        assert written(page, name)[-4:] == list(edge_letters(np.eye(4), axis))
        assert_letter_pixels(shown)


def assert_letter_pixels(shown: np.ndarray) -> None:
    """Ink stands at the middle of each edge, where the letters belong."""
    height, width = shown.shape[:2]
    ink = np.abs(shown - INK).max(axis=-1) < 60
    middle = slice(height // 2 - 12, height // 2 + 12), slice(width // 2 - 12, width // 2 + 12)
    for edge in (ink[middle[0], :28], ink[middle[0], -28:], ink[:28, middle[1]], ink[-28:, middle[1]]):
        assert edge.sum() > 10


def test_pictures_do_not_depend_on_how_the_scan_is_stored(page, bench, tmp_path):
    found = {}
    for codes in ("RAS", "PSR", "ILP"):
        bench.open(page, read_volume(stored(tmp_path, codes)))
        show_marker(page)
        found[codes] = [pixels(page, name) for name in PLANES]
    for codes in ("PSR", "ILP"):
        for ours, reference in zip(found[codes], found["RAS"], strict=True):
            np.testing.assert_array_equal(ours, reference)


def test_the_neurological_convention_exchanges_left_and_right(page, bench, tmp_path):
    bench.open(page, read_volume(stored(tmp_path, "LPS")))
    show_marker(page)
    before = {name: marker_side(pixels(page, name)) for name in PLANES}
    pane(page, "axial").press("r")
    expect(page.get_by_role("button", name="Radiological: the patient's right")).to_have_text("Neurological")
    for name in PLANES:
        x, y = marker_side(pixels(page, name))
        mirrored = before[name][0] if name == "sagittal" else 1 - before[name][0]
        assert (x, y) == pytest.approx((mirrored, before[name][1]), abs=0.01)
    assert written(page, "axial")[-4:] == ["L", "R", "A", "P"]
    assert written(page, "coronal")[-4:] == ["L", "R", "S", "I"]
    assert written(page, "sagittal")[-4:] == ["A", "P", "S", "I"]


def test_an_oblique_scan_has_two_letters_where_it_is_turned(page, bench):
    turn = np.radians(35)
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    affine[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    bench.open(page, Volume(np.zeros((30, 20, 10), np.float32), affine, "HU"))
    for name, (axis, _, _) in PLANES.items():
        assert written(page, name)[-4:] == list(edge_letters(affine, axis))
    assert written(page, "axial")[-4:] == ["RA", "LP", "AL", "PR"]


def test_a_picture_without_a_frame_has_no_letters(page, bench):
    bench.open(page, gray(np.arange(1200).reshape(40, 30, 1), unit="a.u."), has_frame=False)
    said = written(page, "axial")
    assert not {"R", "L", "A", "P", "S", "I"} & set(said)
    assert not any("Axial" in text for text in said)
    expect(pane(page, "coronal")).to_be_hidden()
    expect(page.get_by_role("button", name="Radiological")).to_have_count(0)


@pytest.mark.parametrize(("plane", "axis"), [("coronal", 1), ("sagittal", 0)])
def test_a_scan_of_one_slice_fills_the_stage_in_its_own_plane(page, bench, plane, axis):
    shape = np.array([30, 30, 30])
    shape[axis] = 1
    bench.open(page, gray(np.full(shape, 300), 2.0))
    assert page.locator("canvas[data-pane]:visible").evaluate_all("all => all.map((one) => one.dataset.pane)") == [
        plane
    ]
    assert written(page, plane)[0] == f"{plane.title()} 1/1"


def test_a_caption_that_would_run_into_the_letter_takes_two_lines(page, bench):
    page.set_viewport_size({"width": 620, "height": 700})
    bench.open(page, gray(np.full((200, 200, 200), 300)))
    assert written(page, "coronal")[:2] == ["Coronal", "101/200"]
    assert written(page, "axial")[0] == "Axial 101/200"


def test_wheel_and_keys_leaf_through_40_slices(page, bench):
    ramp = np.broadcast_to(np.arange(100), (64, 64, 100))
    bench.open(page, gray(ramp))
    axial = pane(page, "axial")
    axial.hover()
    for _ in range(40):
        page.mouse.wheel(0, -120)
        settle(page)
    # A slice further down (deltaY < 0) is a slice further to the feet.
    expect(axial).to_have_attribute("aria-label", "Axial 11/100")
    axial.press("End")
    expect(axial).to_have_attribute("aria-label", "Axial 100/100")
    axial.press("ArrowUp")
    expect(axial).to_have_attribute("aria-label", "Axial 100/100")
    axial.press("PageDown")
    axial.press("ArrowDown")
    expect(axial).to_have_attribute("aria-label", "Axial 89/100")
    shown = pixels(page, "axial")
    level = shown[shown.shape[0] // 4, shown.shape[1] // 2 - 60, 0]
    assert level == pytest.approx(255 * 88 / 99, abs=2)


def test_a_click_moves_the_crosshair_in_all_planes_and_tells_value_and_place(page, bench):
    voxels = np.arange(20 * 30 * 10).reshape(20, 30, 10)
    bench.open(page, gray(voxels, spacing=2.0))
    axial = pane(page, "axial")
    box = axial.bounding_box()
    side = 0.94 * min(box["width"] / 20, box["height"] / 30)
    # Voxel x=3 (i=16), y=4 (j=25): 3.5 columns and 4.5 rows from the picture's corner.
    x, y = box["width"] / 2 + (3.5 - 10) * side, box["height"] / 2 + (4.5 - 15) * side
    axial.click(position={"x": x, "y": y})
    expect(pane(page, "sagittal")).to_have_attribute("aria-label", "Sagittal 4/20")
    expect(pane(page, "coronal")).to_have_attribute("aria-label", "Coronal 5/30")
    expect(page.locator(".status")).to_have_text(f"{voxels[16, 25, 5]} HU   at R 32.0  A 50.0  S 10.0 mm")
    axial.press("p")
    assert page.evaluate("window.told") == ["point", [3, 4, 5]]


def test_a_drag_with_the_right_button_changes_the_window_and_a_preset_sets_it(page, bench):
    bench.open(page, gray(np.random.default_rng(0).integers(0, 1000, (32, 32, 8))))
    assert written(page, "axial")[1] == "W 999  L 500"
    before = pixels(page, "axial")
    pane(page, "axial").hover()
    page.mouse.down(button="right")
    box = pane(page, "axial").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2 + 100, box["y"] + box["height"] / 2 - 60)
    page.mouse.up(button="right")
    assert written(page, "axial")[1] == "W 1394  L 300"
    assert np.abs(pixels(page, "axial") - before).mean() > 5
    half = page.get_by_role("button", name="Half")
    half.click()
    expect(half).to_have_attribute("aria-pressed", "true")
    assert written(page, "axial")[1] == "W 500  L 250"
    pane(page, "axial").press("w")
    np.testing.assert_array_equal(pixels(page, "axial"), before)
    pane(page, "axial").press("i")
    pane(page, "axial").press("x")  # the crosshair is no part of what is inverted
    after = pixels(page, "axial")
    pane(page, "axial").press("i")
    place = slice(80, 160), slice(after.shape[1] // 2 - 80, after.shape[1] // 2 + 80)
    np.testing.assert_allclose(255 - after[place], pixels(page, "axial")[place], atol=2)


def hot(shown: np.ndarray) -> float:
    """Share of the pixels that the map colours: red far above blue."""
    return float((shown[..., 0] - shown[..., 2] > 40).mean())


def test_the_map_lies_over_its_place_with_opacity_threshold_and_a_view_without_it(page, bench):
    voxels, heat = np.full((32, 32, 16), 100), np.zeros((32, 32, 16), np.uint8)
    heat[20:28, 4:12, 8] = 200  # right and posterior: left and low in the picture
    heat[2:6, 2:6, 12] = 120
    curve = [float(heat[..., k].max() / 255) for k in range(16)]
    bench.open(page, gray(voxels), heat=heat, curve=curve)
    axial = pane(page, "axial")
    axial.press("x")
    shown = pixels(page, "axial")
    rows, columns = np.nonzero(shown[..., 0] - shown[..., 2] > 40)
    assert columns.mean() < shown.shape[1] * 0.4
    assert rows.mean() > shown.shape[0] * 0.6
    page.get_by_label("Opacity").fill("0.1")
    weak, place = pixels(page, "axial"), (int(rows.mean()), int(columns.mean()))
    assert 0 < np.ptp(weak[place]) < np.ptp(shown[place]) / 2
    page.get_by_label("Threshold").fill("0.9")
    assert hot(pixels(page, "axial")) == 0
    page.get_by_label("Threshold").fill("0.1")
    page.get_by_label("Opacity").fill("0.9")
    assert hot(pixels(page, "axial")) > 0.02
    axial.press("m")
    assert hot(pixels(page, "axial")) == 0
    axial.press("m")
    axial.press("c")
    assert hot(pixels(page, "plain")) == 0
    assert hot(pixels(page, "axial")) > 0.01


def test_keys_step_from_peak_to_peak_and_a_click_on_the_curve_leads_to_its_slice(page, bench):
    curve = [0.0] * 20
    curve[4], curve[11], curve[12], curve[17] = 0.9, 0.6, 0.6, 0.1
    bench.open(page, gray(np.zeros((8, 8, 20))), curve=curve)
    axial = pane(page, "axial")
    axial.press("Home")
    for key, number in (("n", 5), ("n", 12), ("n", 5), ("Shift+N", 12), ("Shift+N", 5)):
        axial.press(key)
        expect(axial).to_have_attribute("aria-label", f"Axial {number}/20")
    expect(page.locator("canvas.curve")).to_have_attribute("aria-label", "Evidence by slice; peaks: 5, 12")
    width = page.locator("canvas.curve").bounding_box()["width"]
    page.locator("canvas.curve").click(position={"x": width * 17.5 / 20, "y": 20})
    expect(axial).to_have_attribute("aria-label", "Axial 18/20")


def test_at_a_peak_the_three_planes_meet_where_the_map_is_hottest(page, bench):
    heat = np.zeros((32, 24, 16), np.uint8)
    heat[20, 4, 8] = 255  # right and posterior: x = 31 - 20, y = 23 - 4 on the canvas
    bench.open(
        page, gray(np.zeros((32, 24, 16))), heat=heat, curve=[float(heat[..., k].max() / 255) for k in range(16)]
    )
    pane(page, "axial").press("n")
    expect(pane(page, "axial")).to_have_attribute("aria-label", "Axial 9/16")
    expect(pane(page, "coronal")).to_have_attribute("aria-label", "Coronal 20/24")
    expect(pane(page, "sagittal")).to_have_attribute("aria-label", "Sagittal 12/32")


def test_a_ruler_measures_in_the_patient(page, bench):
    affine = np.diag([0.5, 0.5, 2.0, 1.0])
    bench.open(page, Volume(np.zeros((200, 200, 10), np.float32), affine, "HU"))
    box = pane(page, "axial").bounding_box()
    side = 0.94 * min(box["width"], box["height"]) / 200
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.keyboard.down("Shift")
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + 60 * side, middle[1] + 80 * side)
    page.mouse.up()
    page.keyboard.up("Shift")
    length = next(text for text in written(page, "axial") if text.endswith(" mm") and "." in text)
    assert float(length.split()[0]) == pytest.approx(50, abs=0.6)
    pane(page, "axial").press("Escape")
    assert not any(text.endswith(" mm") and "." in text for text in written(page, "axial"))


def test_zoom_and_pan_stay_under_the_pointer(page, bench):
    voxels = np.zeros((64, 64, 4))
    voxels[12:16, 44:48] = 1000  # left, anterior: right and up in the picture
    bench.open(page, gray(voxels))
    pane(page, "axial").press("x")
    x, y = marker_side(pixels(page, "axial"))
    box = pane(page, "axial").bounding_box()
    page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
    page.keyboard.down("Control")
    page.mouse.wheel(0, -300)
    page.keyboard.up("Control")
    zoomed = pixels(page, "axial")
    assert marker_side(zoomed) == pytest.approx((x, y), abs=0.02)
    page.mouse.down(button="middle")
    page.mouse.move(box["x"] + x * box["width"] - 50, box["y"] + y * box["height"] + 30)
    page.mouse.up(button="middle")
    moved = marker_side(pixels(page, "axial"))
    assert moved[0] == pytest.approx(x - 50 / box["width"], abs=0.02)
    assert moved[1] == pytest.approx(y + 30 / box["height"], abs=0.02)
    pane(page, "axial").press("0")
    assert marker_side(pixels(page, "axial")) == pytest.approx((x, y), abs=0.01)


def test_colour_stays_colour(page, bench):
    voxels = np.zeros((30, 30, 1, 3), np.float32)
    voxels[15:, :, 0, 0] = 255  # red at the patient's right: left in the picture
    voxels[:15, :, 0, 2] = 255
    bench.open(page, Volume(voxels, np.eye(4), "a.u."), has_frame=False)
    shown = pixels(page, "axial")
    height, width = shown.shape[:2]
    assert shown[height // 3, width // 2 - 60].tolist() == [255, 0, 0]
    assert shown[height // 3, width // 2 + 60].tolist() == [0, 0, 255]
    pane(page, "axial").hover(position={"x": width / 2 - 60, "y": height / 3})
    expect(page.locator(".status")).to_contain_text("255 0 0")


def test_fractions_are_shown_with_their_decimals(page, bench):
    voxels = np.random.default_rng(0).normal(100, 20, (20, 20, 20))
    voxels[0, 0, 0] = 1e7
    bench.open(page, gray(voxels, unit="SUVbw"))
    value = float(page.locator(".status").inner_text().split()[0])
    assert value == pytest.approx(float(voxels[9, 9, 10]), abs=0.06)


def test_the_help_lists_the_keys_and_closes(page, bench):
    bench.open(page, gray(np.zeros((8, 8, 8))))
    pane(page, "axial").press("?")
    dialog = page.get_by_role("dialog", name="Keyboard and mouse")
    expect(dialog).to_contain_text("next, previous peak")
    page.get_by_role("button", name="Close").click()
    expect(dialog).to_be_hidden()


def test_a_volume_that_is_gone_is_said_aloud(page, bench):
    page.goto(bench.address)
    page.wait_for_function("() => window.ready")
    data = bench.data(gray(np.zeros((8, 8, 8))))
    page.evaluate("data => { window.show(data); }", {**data, "volume": {**data["volume"], "url": "/api/volume/none"}})
    failed = "The scan could not be loaded (404). Open it again."
    expect(page.locator(".status")).to_contain_text(failed)
    expect(page.locator(".spoken")).to_have_text(failed)


def test_fingers_scroll_place_and_zoom(browser, bench):
    context = browser.new_context(viewport={"width": 820, "height": 1180}, has_touch=True)
    page = context.new_page()
    voxels = np.zeros((64, 64, 40))
    voxels[24:40, 24:40] = 1000
    bench.open(page, gray(voxels))
    axial = pane(page, "axial")
    finger = """(canvas, [type, id, x, y]) => canvas.dispatchEvent(new PointerEvent(type, { pointerId: id,
        pointerType: 'touch', isPrimary: id === 1, button: 0, buttons: 1, bubbles: true,
        clientX: canvas.getBoundingClientRect().x + x, clientY: canvas.getBoundingClientRect().y + y }))"""
    axial.evaluate("canvas => { canvas.setPointerCapture = () => {}; }")
    for event in (["pointerdown", 1, 100, 200], ["pointermove", 1, 100, 120], ["pointerup", 1, 100, 120]):
        axial.evaluate(finger, event)
    expect(axial).to_have_attribute("aria-label", "Axial 31/40")
    before = (pixels(page, "axial").min(axis=-1) > 240).mean()
    for event in (
        ["pointerdown", 1, 180, 200], ["pointerdown", 2, 220, 200], ["pointermove", 1, 160, 200],
        ["pointermove", 2, 240, 200], ["pointerup", 2, 240, 200], ["pointerup", 1, 160, 200],
    ):  # fmt: skip
        axial.evaluate(finger, event)
    assert (pixels(page, "axial").min(axis=-1) > 240).mean() > 2 * before
    context.close()


def test_another_language_keeps_slice_window_and_voxels(page, bench):
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    volume = gray(np.random.default_rng(0).integers(0, 1000, (16, 16, 30)))
    bench.open(page, volume)
    axial = pane(page, "axial")
    axial.press("Home")
    axial.press("w")
    page.evaluate("data => { window.show(data); }", bench.data(volume, words=words("it").section("canvas")))
    expect(axial).to_have_attribute("aria-label", "Assiale 1/30")
    expect(page.get_by_role("button", name="Half")).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".spoken")).to_have_text("L'esame è caricato.")
    expect(page.locator(".slices")).to_have_count(1)
    assert sum("/api/volume/" in url for url in asked) == 1
