"""The review page in a real browser: a scan of the worklist, its slices, window, map; what the browser asked for."""

import re

import pytest
from playwright.sync_api import Page, expect

from pipeline.scans.find import find_scans, read_identity
from tests.e2e.bench import pane, pixels
from tests.e2e.opening import SECONDS, Watch, open_scan, settled

pytestmark = [
    pytest.mark.e2e,
    # pytest-base-url 2.1 defines its fixture in a way that pytest 10 will refuse; nothing of ours.
    pytest.mark.filterwarnings("ignore:Session-scoped fixtures defined as instance methods"),
]

FOOTER = 36
"""Height in pixels of the bar at the page's bottom."""


def test_from_the_worklist_through_40_slices_to_the_map(page: Page, viewer, output_path):
    watch = Watch(page)
    scan = next(one for one in find_scans(viewer.scans)[0] if len(one.paths) > 10)
    who = read_identity(scan)
    page.goto(viewer.link)
    open_scan(page, scan.path.relative_to(viewer.scans).as_posix())
    expect(page.get_by_role("banner", name="Patient")).to_contain_text(who.patient_id)
    expect(page.get_by_text("calibrated probability")).to_be_visible()

    count = len(scan.paths)
    pane(page, "axial").press("Home")
    pane(page, "axial").hover()
    expected = 0
    for n in range(40):  # up to the last slice, then down again
        up = n // (count - 1) % 2 == 0
        page.mouse.wheel(0, 120 if up else -120)
        expected += 1 if up else -1
    expect(pane(page, "axial")).to_have_attribute("aria-label", re.compile(rf" {expected + 1}/{count}$"))

    plain = pixels(page, "axial")
    assert plain.std() > 20
    page.get_by_role("button", name="Bone").click()
    bone = pixels(page, "axial")
    assert abs(bone - plain).mean() > 1

    with page.expect_response("**/api/volume/*", timeout=SECONDS) as map_sent:
        page.get_by_text("Show where the model looked").click()
    map_sent.value.finished()
    expect(page.get_by_label("Opacity")).to_be_visible(timeout=SECONDS)
    settled(page)
    page.locator('.slices[data-map="ready"]').wait_for()
    pane(page, "axial").press("n")
    half = pixels(page, "axial")
    page.get_by_label("Opacity").fill("0")
    assert abs(pixels(page, "axial") - half).max() > 20  # the map is small: most pixels stay as they are
    page.get_by_label("Opacity").fill("0.5")
    page.screenshot(path=output_path / "review.png")

    volumes = [url for url in watch.requests if "/api/volume/" in url]
    assert len(volumes) == 2  # the scan and its map, once each, whatever was clicked
    assert watch.faults == []
    assert watch.hosts == {"127.0.0.1"}
    said = " ".join(watch.requests) + page.url + "".join(viewer.lines)
    assert not re.search(re.escape(who.patient_id), said)
    assert "Traceback" not in said
    expect(page.get_by_role("banner", name="Patient")).to_be_in_viewport()
    expect(page.get_by_role("contentinfo")).to_contain_text("Research use only")
    expect(page.get_by_role("contentinfo")).to_be_in_viewport()


def test_a_volume_needs_the_cookie_and_is_never_stored(page: Page, viewer, browser):
    watch = Watch(page)
    page.goto(viewer.link)
    with page.expect_response("**/api/volume/*") as waiting:
        open_scan(page, "")
    answer = waiting.value
    assert answer.status == 200
    assert "no-store" in answer.headers["cache-control"]
    stranger = browser.new_context().request.get(answer.url)
    assert stranger.status == 401
    assert "voxel" not in stranger.text()
    assert watch.faults == []


@pytest.mark.parametrize("width", [1440, 1024])
def test_the_page_fits_the_screen(page: Page, viewer, output_path, width):
    Watch(page)
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(viewer.link)
    open_scan(page, "")
    for name in ("axial", "coronal", "sagittal"):
        box = pane(page, name).bounding_box()
        assert min(box["width"], box["height"]) > 180
        assert box["x"] + box["width"] <= width
        assert box["y"] + box["height"] <= 900 - FOOTER
    page.screenshot(path=output_path / f"review_{width}.png")
