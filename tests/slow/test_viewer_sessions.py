"""Many readers at once, and one reader for long: nobody sees another's scan, and memory stays where it was."""

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from playwright.sync_api import Page, expect, sync_playwright

from app.session import OpenScans
from pipeline.scans.find import find_scans
from tests.app.conftest import fresh, open_page, save_tiny_model  # noqa: F401 - fixtures
from tests.app.pages import alerts, html, open_scan
from tests.app.running import Viewer, start_viewer, stop_viewer
from tests.e2e.conftest import CHROMIUM, FLAGS

pytestmark = pytest.mark.slow

SESSIONS = 20
CYCLES = 200
MOST_BYTES = 4 * 2**30
PATIENCE = 120_000


def volumes(folder: Path, count: int, size: int) -> Path:
    """NIfTI scans; each file's name is the canary that only its own reader may see."""
    folder.mkdir()
    for number in range(count):
        voxels = np.random.default_rng(number).normal(-500, 300, (size, size, size // 2)).astype(np.int16)
        nib.save(nib.Nifti1Image(voxels, np.diag([2.0, 2.0, 3.0, 1.0])), folder / f"canary{number:02d}.nii")
    return folder


def resident_bytes(process: int) -> int:
    """Memory that a process holds, as Linux counts it."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def viewer(tmp_path) -> Iterator[Viewer]:
    scans = volumes(tmp_path / "scans", 1, 16)
    running = start_viewer(save_tiny_model(tmp_path / "model"), scans, tmp_path)
    yield running
    stop_viewer(running)


def test_twenty_readers_see_their_own_scan_only(viewer, tmp_path):
    own = volumes(tmp_path / "own", SESSIONS, 96)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        pages = [_signed_in(browser.new_context().new_page(), viewer) for _ in range(SESSIONS)]
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
        browser.close()
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


def test_two_hundred_scans_opened_one_after_the_other(open_page, tmp_path):  # noqa: F811 - the fixture
    scans = volumes(tmp_path / "scans", 4, 96)
    page = open_page(save_tiny_model(tmp_path / "model"), scans)
    ids = [scan.scan_id for scan in find_scans(scans)[0]]
    warm = 0
    for number in range(CYCLES):
        page = open_scan(page, ids[number % len(ids)])
        assert alerts(page) == []
        assert "calibrated probability" in html(page)
        if number == CYCLES // 5:
            warm = resident_bytes(os.getpid())
    assert isinstance(page.session_state["opened"], OpenScans)
    now = resident_bytes(os.getpid())
    print(f"\n{CYCLES} scans opened: {warm / 2**20:.0f} MiB after {CYCLES // 5}, {now / 2**20:.0f} MiB at the end")
    assert now < 1.1 * warm
