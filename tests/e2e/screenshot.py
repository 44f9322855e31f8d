"""The README's picture of the viewer, made by the viewer itself.

    python -m tests.e2e.screenshot runs/demo/run/model data/demo/scans P0001/study1 docs/images/viewer.png

Opens the first scan of the worklist that the given text finds, lays the heat map over its hottest slice and saves what
Chromium shows.
"""

import sys
import tempfile
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

from tests.app.running import start_viewer, stop_viewer
from tests.e2e.conftest import CHROMIUM, FLAGS, VIEWPORT
from tests.e2e.opening import SECONDS, open_scan, settled


def show_overlay(page: Page, link: str, label: str) -> None:
    """From the link to the heat map on the slice of its first peak, in the lung window."""
    page.set_default_timeout(SECONDS)
    page.goto(link)
    open_scan(page, label)
    page.get_by_text("Show where the model looked").click()
    expect(page.get_by_label("Opacity")).to_be_visible(timeout=SECONDS)
    settled(page)
    page.locator('canvas[data-pane="axial"]').press("n")
    page.get_by_role("button", name="Lung").click()
    page.mouse.move(0, 0)
    page.wait_for_timeout(1000)  # the spinner fades out


def main(model: str, scans: str, label: str, out: str) -> None:
    """Start a viewer, take the picture, stop the viewer."""
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    viewer = start_viewer(Path(model).resolve(), Path(scans).resolve(), Path(tempfile.gettempdir()))
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
            page = browser.new_page(viewport=VIEWPORT, color_scheme="dark")
            show_overlay(page, viewer.link, label)
            picture = Image.open(BytesIO(page.screenshot()))
            browser.close()
    finally:
        stop_viewer(viewer)
    picture.convert("RGB").quantize(256).save(out, optimize=True)  # a third of the size, to the eye the same


if __name__ == "__main__":
    main(*sys.argv[1:])
