"""Many readers at once: nobody sees another's scan, and memory stays within bounds."""

import re
import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.app.conftest import save_tiny_model
from tests.app.running import Viewer, start_viewer, stop_viewer
from tests.app.volumes import resident_bytes, volumes

pytestmark = pytest.mark.slow

SESSIONS = 20
MOST_BYTES = 4 * 2**30
PATIENCE = 120_000


@pytest.fixture
def viewer(tmp_path) -> Iterator[Viewer]:
    scans = volumes(tmp_path / "scans", 1, 16)
    running = start_viewer(save_tiny_model(tmp_path / "model"), scans, tmp_path)
    yield running
    stop_viewer(running)


def test_twenty_readers_see_their_own_scan_only(viewer, browser, tmp_path):
    own = volumes(tmp_path / "own", SESSIONS, 96)
    contexts = [browser.new_context() for _ in range(SESSIONS)]
    pages = [_signed_in(context.new_page(), viewer) for context in contexts]
    for page in pages:
        page.get_by_role("radio", name="Upload", exact=True).click()
    for number, page in enumerate(pages):  # all are under way before the first one is waited for
        page.locator("input[type=file]").first.set_input_files(str(own / f"canary{number:02d}.nii"))
    shown = [_key(page) for page in pages]
    assert len(set(shown)) == SESSIONS
    for page in pages:
        page.get_by_text("Save this case").click()
    for page, key in zip(pages, shown, strict=True):
        assert _key(page) == key
        assert page.get_by_text(re.compile("A fault of this viewer|Refused:")).count() == 0
    assert resident_bytes(viewer.process.pid) < MOST_BYTES
    print(f"\n{SESSIONS} sessions: {resident_bytes(viewer.process.pid) / 2**20:.0f} MiB")
    for context in contexts:
        context.close()
    assert "fault:" not in "".join(viewer.lines)


def _signed_in(page: Page, viewer: Viewer) -> Page:
    page.set_default_timeout(PATIENCE)
    used = viewer.link
    page.goto(used)
    expect(page.get_by_text("not scored yet").first).to_be_visible(timeout=PATIENCE)
    end = time.monotonic() + 30
    while viewer.link == used and time.monotonic() < end:
        time.sleep(0.05)
    return page


def _key(page: Page) -> str:
    """What the tab shows, as the address of its volume: it tells the scan apart from every other."""
    canvas = page.locator('.slices[data-state="ready"]')
    expect(canvas).to_be_visible(timeout=PATIENCE)
    expect(page.get_by_text("calibrated probability")).to_be_visible(timeout=PATIENCE)
    return page.get_by_text(re.compile("^calibrated probability")).inner_text() + str(canvas.evaluate(PIXELS))


PIXELS = """canvas => [...canvas.querySelectorAll('canvas')].map(one => {
    const all = one.getContext('2d').getImageData(0, 0, one.width, one.height).data;
    let sum = 0;
    for (let n = 0; n < all.length; n += 997) sum = (sum * 31 + all[n]) % 1000003;
    return sum; }).join()"""
