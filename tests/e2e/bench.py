"""The canvas alone in a page, fed by the viewer's own routes: no Streamlit, no model, so that a test takes a second."""

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
import uvicorn
from PIL import Image
from playwright.sync_api import Locator, Page
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route

from app import canvas, volumes
from app.canvas.wire import pack_heat, pack_volume
from app.language import words
from app.volumes import Shelf, entry_module
from pipeline.domain import Volume

PAGE = """<!doctype html><html><body style="margin:0;background:#0b0e12;color:#e8edf2;font-family:sans-serif">
<div id="host"></div><script type="module">
import { mount } from "%s";
const root = document.getElementById("host").attachShadow({ mode: "open" });
root.innerHTML = `<style>%s</style>`;
const written = {};
const write = CanvasRenderingContext2D.prototype.fillText;
CanvasRenderingContext2D.prototype.fillText = function (text, x, y) {
  (written[this.canvas.dataset.pane] ??= []).push([text, x, y]);
  return write.call(this, text, x, y);
};
window.written = written;
const setStateValue = (...told) => { window.told = told; };
window.show = (data) => mount({ data, parentElement: root, setStateValue });
window.ready = true;
</script></body></html>"""


@dataclass
class Bench:
    """A running server with one shelf, and the page that shows what lies on it."""

    address: str
    shelf: Shelf = field(default_factory=lambda: Shelf(8))

    def open(self, page: Page, volume: Volume, has_frame: bool = True, **more: object) -> None:
        """Show a volume, once all of it has arrived, and its heat map."""
        page.goto(self.address)
        page.wait_for_function("() => window.ready")
        page.evaluate("data => { window.show(data); }", self.data(volume, has_frame, **more))
        page.locator(
            '.slices[data-state="ready"]' + ("" if more.get("heat") is None else '[data-map="ready"]')
        ).wait_for()
        settle(page)

    def data(self, volume: Volume, has_frame: bool = True, **more: object) -> dict[str, object]:
        """What Python tells the canvas, as the review page does."""
        heat = more.pop("heat", None)
        low, high = float(volume.voxels.min()), float(volume.voxels.max())
        everything: dict[str, object] = {
            "volume": self.shelf.offer(id(volume), lambda: pack_volume(volume, has_frame)),
            "heat": None if heat is None else self.shelf.offer(id(heat), lambda: pack_heat(np.asarray(heat))),
            "curve": None, "compact": False, "words": words("en").section("canvas"),
            "windows": [
                {"name": "all", "label": "All", "low": low, "high": high},
                {"name": "half", "label": "Half", "low": low, "high": (low + high) / 2},
            ],
        }  # fmt: skip
        return json.loads(json.dumps({**everything, **more}))


@contextmanager
def served() -> Iterator[Bench]:
    """The server, on a free port of 127.0.0.1."""
    html = PAGE % (entry_module(), Path(canvas.CSS).read_text(encoding="utf-8"))

    async def index(_: Request) -> HTMLResponse:
        return HTMLResponse(html)

    application = Starlette(routes=[Route("/", index), *volumes.routes()])
    server = uvicorn.Server(uvicorn.Config(application, "127.0.0.1", 0, log_level="error", ws="none", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield Bench(f"http://127.0.0.1:{port}/")
    finally:
        server.should_exit = True
        thread.join(10)


def settle(page: Page) -> None:
    """Wait until the next frame was painted."""
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def pane(page: Page, name: str) -> Locator:
    """A pane's canvas."""
    return page.locator(f'canvas[data-pane="{name}"]')


def pixels(page: Page, name: str) -> np.ndarray:
    """What a pane's canvas holds, [row, column, colour] 0 to 255."""
    settle(page)
    address = pane(page, name).evaluate("canvas => canvas.toDataURL('image/png')")
    content = base64.b64decode(address.split(",", 1)[1])
    return np.asarray(Image.open(BytesIO(content)).convert("RGB"), dtype=float)


def written(page: Page, name: str) -> list[str]:
    """The texts of a pane's newest picture, in the order in which they were written."""
    page.evaluate("() => { for (const pane of Object.keys(window.written)) window.written[pane] = []; }")
    pane(page, name).evaluate("canvas => canvas.dispatchEvent(new PointerEvent('pointerleave'))")
    settle(page)
    return [text for text, _, _ in page.evaluate("name => window.written[name]", name)]
