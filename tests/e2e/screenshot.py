"""The pictures of the README, made by the viewer and the report themselves: `make screenshots`.

    python -m tests.e2e.screenshot runs/demo data/demo/scans docs/images

worklist, viewer (the likeliest scan with its heat map), performance (another threshold), report. Palette PNG: a third
of the size, to the eye the same.
"""

import sys
import tempfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

from tests.app.running import start_viewer, stop_viewer
from tests.e2e.conftest import CHROMIUM, FLAGS, VIEWPORT
from tests.e2e.opening import SECONDS, open_scan, settled

LOWER = 0.42
"""The threshold that the performance page shows beside the frozen one."""
FADED_MS = 1500
"""Until spinners have faded out and charts are drawn."""


def worklist(page: Page) -> None:
    """The scans, the likeliest first."""
    page.get_by_test_id("stDataFrame").wait_for()
    settled(page)


def viewer(page: Page) -> None:
    """The likeliest scan, its heat map on the slice of its first peak, in the lung window."""
    open_scan(page, "")
    page.get_by_text("Show where the model looked").click()
    expect(page.get_by_label("Opacity")).to_be_visible(timeout=SECONDS)
    settled(page)
    page.locator('canvas[data-pane="axial"]').press("n")
    page.get_by_role("button", name="Lung").click()


def performance(page: Page) -> None:
    """What another threshold would make of the test set."""
    page.get_by_role("radio", name="Performance", exact=True).click()
    settled(page)
    track, thumb = page.get_by_test_id("stSlider").first.bounding_box(), page.get_by_role("slider").first.bounding_box()
    page.mouse.click(track["x"] + LOWER * track["width"], thumb["y"] + thumb["height"] / 2)
    settled(page)


PAGES: dict[str, Callable[[Page], None]] = {"worklist": worklist, "viewer": viewer, "performance": performance}


def save(page: Page, out: Path) -> None:
    """What the browser shows now."""
    page.mouse.move(0, 0)
    page.wait_for_timeout(FADED_MS)
    picture = Image.open(BytesIO(page.screenshot()))
    picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(out, optimize=True)


def main(work: Path, scans: Path, out: Path) -> None:
    """Start a viewer on the demo, take the pictures, stop the viewer.

    Args:
        work: Folder of the demo's `run` and `scores`.
        scans: The demo's.
        out: Where the pictures go.
    """
    out.mkdir(parents=True, exist_ok=True)
    options = ("--scores", str(work / "scores"), "--run", str(work / "run"))
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        running = start_viewer(work / "run" / "model", scans, Path(folder), *options)
        try:
            for name, show in PAGES.items():
                page = browser.new_context(viewport=VIEWPORT, color_scheme="dark").new_page()
                page.set_default_timeout(SECONDS)
                page.goto(running.link)
                settled(page)
                show(page)
                save(page, out / f"{name}.png")
                page.close()
        finally:
            stop_viewer(running)
        page = browser.new_page(viewport=VIEWPORT, color_scheme="light")
        page.goto((work / "run" / "report.html").as_uri())
        save(page, out / "report.png")
        browser.close()


if __name__ == "__main__":
    main(*(Path(word).resolve() for word in sys.argv[1:]))
