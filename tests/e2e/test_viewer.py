"""The main path in a real browser: the link, a scan, its slices, window, overlay; and what the browser asked for."""

import re
import time
from collections.abc import Callable
from io import BytesIO
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from pipeline.scans.find import find_scans, read_identity
from tests.app.running import start_viewer, stop_viewer

pytestmark = [
    pytest.mark.e2e,
    # pytest-base-url 2.1 defines its fixture in a way that pytest 10 will refuse; nothing of ours.
    pytest.mark.filterwarnings("ignore:Session-scoped fixtures defined as instance methods"),
]

SECONDS = 60_000
"""Patience in milliseconds, for a busy machine."""


def settled(page: Page) -> None:
    """Wait until the script has run to its end."""
    page.wait_for_timeout(200)  # the click travels to the server before the state changes
    page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]', timeout=SECONDS)


def pixels(page: Page, good: Callable[[np.ndarray], bool]) -> np.ndarray:
    """The picture on show, as the screen has it ([row, column, colour], 0 to 255), once it is as expected."""
    shown = np.zeros((1, 1, 3))
    end = time.monotonic() + SECONDS / 1000
    while not good(shown):
        assert time.monotonic() < end, "the picture did not become what was expected"
        settled(page)
        picture = page.get_by_test_id("stImage").locator("img").screenshot()
        shown = np.asarray(Image.open(BytesIO(picture)).convert("RGB"), dtype=float)
    return shown


def other_than(before: np.ndarray) -> Callable[[np.ndarray], bool]:
    """Whether a picture of the same size differs."""
    return lambda shown: shown.shape == before.shape and float(np.abs(shown - before).mean()) > 1


def coloured(shown: np.ndarray) -> float:
    """Share of the pixels that are not gray."""
    return float((np.ptp(shown, axis=-1) > 40).mean())


def test_main_path(page: Page, viewer, output_path):
    requests: list[str] = []
    problems: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.set_default_timeout(SECONDS)
    scan = next(one for one in find_scans(viewer.scans)[0] if len(one.paths) > 1)
    who = read_identity(scan)

    page.goto(viewer.link)
    expect(page.get_by_text("Choose a scan on the left")).to_be_visible(timeout=SECONDS)
    expect(page.get_by_text("Research use only. Not a medical device.")).to_be_visible()
    assert urlsplit(page.url).query == ""

    page.get_by_role("combobox").first.click()
    page.get_by_role("option").filter(has_text=scan.path.relative_to(viewer.scans).as_posix()).first.click()
    expect(page.get_by_role("banner", name="Patient")).to_contain_text(who.patient_id, timeout=SECONDS)
    expect(page.get_by_text("calibrated probability")).to_be_visible()
    first = pixels(page, lambda shown: min(shown.shape[:2]) > 300 and shown.std() > 20)

    slider = page.get_by_role("slider", name="Slice")
    number = int(slider.input_value())
    slider.focus()
    for _ in range(3):
        slider.press("ArrowRight")
    expect(slider).to_have_value(str(number + 3))
    moved = pixels(page, other_than(first))

    page.get_by_text("Bone", exact=True).click()
    bone = pixels(page, other_than(moved))
    assert coloured(bone) < 0.05  # gray, but for the letters

    page.get_by_text("Show where the model looked").click()
    expect(page.get_by_text("Grad-CAM: bright regions")).to_be_visible(timeout=SECONDS)
    pixels(page, lambda shown: shown.shape == bone.shape and coloured(shown) > 0.1)
    page.screenshot(path=output_path / "viewer.png")

    assert problems == []
    assert {urlsplit(url).hostname for url in requests if not url.startswith(("data:", "blob:"))} == {"127.0.0.1"}
    said = " ".join(requests) + page.url + "".join(viewer.lines)
    assert not re.search(re.escape(who.patient_id), said)
    assert "Traceback" not in said
    expect(page.get_by_role("banner", name="Patient")).to_be_in_viewport()
    expect(page.get_by_text("Research use only. Not a medical device.")).to_be_in_viewport()


def test_a_reader_study_shows_no_name_of_an_upload(page: Page, tmp_path_factory, viewer):
    folder = tmp_path_factory.mktemp("study")
    hidden = start_viewer(viewer.model, viewer.scans, folder, "--hide-identity")
    try:
        page.set_default_timeout(SECONDS)
        page.goto(hidden.link)
        page.get_by_text("Upload", exact=True).click()
        broken = {"name": "DOE-JANE.png", "mimeType": "image/png", "buffer": b"MZ no picture"}
        page.locator("input[type=file]").set_input_files(broken)
        expect(page.get_by_text("Refused (not_an_image)")).to_be_visible(timeout=SECONDS)
        expect(page.get_by_text("DOE-JANE")).to_be_hidden()
        assert "DOE-JANE" not in "".join(hidden.lines)
    finally:
        stop_viewer(hidden)
