"""The way of a reader in a real browser: from the worklist to a scan, and what the page then asks of whom."""

import time
from contextlib import suppress
from dataclasses import dataclass, field

from playwright.sync_api import Error as BrowserError
from playwright.sync_api import Locator, Page, Request, expect

SECONDS = 60_000
"""Patience in milliseconds, for a busy machine."""


@dataclass
class Watch:
    """What a page asked for and what went wrong in it."""

    requests: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def __call__(self, page: Page) -> "Watch":
        def asked(request: Request) -> None:
            if not request.url.startswith(("data:", "blob:")):
                self.requests.append(request.url)

        page.on("request", asked)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.set_default_timeout(SECONDS)
        return self


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
