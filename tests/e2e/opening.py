"""The way of a reader in a real browser: from the worklist to a scan, and what the page then asks of whom."""

import time
from contextlib import suppress
from urllib.parse import urlsplit

from playwright.sync_api import Error as BrowserError
from playwright.sync_api import Locator, Page, expect

SECONDS = 60_000
"""Patience in milliseconds, for a busy machine."""


class Watch:
    """What a page asks for from now on, and what goes wrong in it. The page is given patience, too."""

    def __init__(self, page: Page) -> None:
        self.requests: list[str] = []
        self.faults: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.set_default_timeout(SECONDS)

    @property
    def hosts(self) -> set[str | None]:
        """The machines that were asked for something."""
        return {urlsplit(url).hostname for url in self.requests if not url.startswith(("data:", "blob:"))}


def settled(page: Page) -> None:
    """Wait until the script has run to its end."""
    page.wait_for_timeout(200)  # the click travels to the server before the state changes
    page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]', timeout=SECONDS)


def open_scan(page: Page, search: str) -> Locator:
    """Open the first scan of the worklist that the search finds; its canvas, once all of the scan is there."""
    box = page.locator(".st-key-kept-search input")
    box.fill(search)
    box.press("Enter")
    settled(page)
    table = page.get_by_test_id("stDataFrame").first
    table.wait_for()
    canvas, end = page.locator('.slices[data-state="ready"]'), time.monotonic() + SECONDS / 1000
    while table.is_visible() and time.monotonic() < end:  # a click is lost while the grid draws itself anew
        with suppress(BrowserError):  # the table went away: the click before it was enough
            table.click(position={"x": 120, "y": 53}, timeout=5000)
        page.wait_for_timeout(1500)
    expect(canvas).to_be_visible(timeout=SECONDS)
    settled(page)
    return canvas
