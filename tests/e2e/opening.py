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


TALK = """(() => {
    const talk = window.talk = { asked: 0, heard: 0 };
    window.WebSocket = class extends WebSocket {
        constructor(...given) {
            super(...given);
            this.addEventListener("message", () => { talk.heard = performance.now(); });
        }
        send(...given) {
            talk.asked = performance.now();
            super.send(...given);
        }
    };
})()"""
"""Run before a page's own scripts: notes when the page last told the server something, and when it last heard of it."""
QUIET = """() => document.querySelector('[data-testid="stApp"][data-test-script-state="notRunning"]') !== null
    && !(window.talk && (talk.heard < talk.asked || performance.now() - Math.max(talk.asked, talk.heard) < 200))"""


def settled(page: Page) -> None:
    """Wait until the server has answered what the page told it, and the script has run to its end."""
    page.wait_for_timeout(200)  # the page passes on what was clicked or typed
    page.wait_for_function(QUIET, timeout=SECONDS)


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
