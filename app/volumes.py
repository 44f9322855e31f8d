"""Voxels over HTTP: what a browser tab's canvas may fetch, and the routes that bring it.

The bytes of a scan are too many for Streamlit's websocket, which would also send them again at every rerun. So a page
puts them on its tab's `Shelf` and tells the canvas an address with a random token. The address holds no more than that,
works only behind the launch token's cookie (`app.access`), and ends when the shelf drops the entry or the tab's session
ends: the table of addresses holds no entry alive.
"""

import hashlib
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from weakref import WeakValueDictionary

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

VOLUMES = "/api/volume"
MODULES = "/canvas"
CANVAS = Path(__file__).parent / "canvas"
GONE = "No such volume: it was closed. Open the scan again.\n"


@dataclass(frozen=True)
class Packed:
    """Bytes that can be sent, and what the canvas has to know about them.

    Attributes:
        description: JSON for the canvas, without the address.
        size: Number of bytes.
        chunks: Makes the bytes, piece by piece, whenever they are asked for.
    """

    description: dict[str, object]
    size: int
    chunks: Callable[[], Iterator[bytes]]


_offered: WeakValueDictionary[str, Packed] = WeakValueDictionary()
"""Token -> what it stands for, of all tabs."""


class Shelf:
    """What one browser tab may fetch; few entries, so that memory stays bounded.

    Args:
        limit: Entries that are kept; the one that was asked for longest ago goes first.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: OrderedDict[object, tuple[dict[str, object], Packed]] = OrderedDict()

    def offer(self, key: object, pack: Callable[[], Packed]) -> dict[str, object]:
        """The description of the entry with its address (`url`); `pack` makes it where it is not there yet."""
        if key not in self._held:
            packed, token = pack(), secrets.token_urlsafe(24)
            while len(self._held) >= self._limit:
                self._held.popitem(last=False)
            self._held[key] = {**packed.description, "url": f"{VOLUMES}/{token}"}, packed
            _offered[token] = packed
        self._held.move_to_end(key)
        return self._held[key][0]


def routes() -> list[Route]:
    """The routes that the canvas needs: its volumes and its own source."""
    return [Route(f"{VOLUMES}/{{token}}", _volume), Route(f"{MODULES}/{{version}}/{{name}}", _module)]


def entry_module() -> str:
    """Address of the canvas' source; another one whenever the source changes, so that it may be cached."""
    return f"{MODULES}/{_version()}/element.js"


async def _volume(request: Request) -> Response:
    packed = _offered.get(request.path_params["token"])
    if packed is None:
        return PlainTextResponse(GONE, 404)
    # "identity" keeps Streamlit's gzip away: at its level 9 a CT would take half a minute.
    headers = {
        "Content-Length": str(packed.size), "Content-Encoding": "identity", "Cache-Control": "private, no-store",
    }  # fmt: skip
    return StreamingResponse(packed.chunks(), media_type="application/octet-stream", headers=headers)


async def _module(request: Request) -> Response:
    source = modules().get(request.path_params["name"])
    if source is None or request.path_params["version"] != _version():
        return PlainTextResponse("No such module.\n", 404)
    headers = {"Cache-Control": "private, max-age=31536000, immutable"}
    return Response(source, media_type="text/javascript", headers=headers)


@cache
def modules() -> dict[str, str]:
    """The canvas' JavaScript modules: file name -> source."""
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(CANVAS.glob("*.js"))}


@cache
def _version() -> str:
    return hashlib.sha256("".join(modules().values()).encode()).hexdigest()[:16]
