"""Who may open the viewer: a link with a one-time token, then a cookie. Guards every page, file and websocket."""

import hmac
import secrets
from collections.abc import Callable

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit import runtime

from app.received import room_for

UPLOADS = "/_stcore/upload_file"
"""Where Streamlit takes uploads."""
FULL = "The viewer holds as many uploads as it can. Close a browser tab that holds some, then try again.\n"
UNSIZED = "An upload must say how large it is.\n"
HEALTH = "/_stcore/health"
"""The only address that answers without a cookie; it says no more than that the server runs."""
REFUSED = (
    "This viewer opens by the link that it printed in its terminal. A link works once; the terminal shows a new one.\n"
)


class Gate:
    """The secrets of one start of the viewer: the cookie that lets in, and the link's token that is good for one use.

    Args:
        announce: Called with a fresh token at the start, and again whenever one was used (for another browser).
    """

    def __init__(self, announce: Callable[[str], None]) -> None:
        self.cookie = f"viewer_{secrets.token_hex(4)}"
        self.pass_phrase = secrets.token_urlsafe(32)
        self._announce = announce
        self._token = ""

    def renew(self) -> None:
        """Make a new token, which ends the old one, and announce it."""
        self._token = secrets.token_urlsafe(24)
        self._announce(self._token)

    def redeem(self, token: str) -> bool:
        """Whether the token is the one that was announced last; if so, it is used up."""
        if not self._token or not _same(token, self._token):
            return False
        self.renew()
        return True

    def admits(self, connection: HTTPConnection) -> bool:
        """Whether the browser shows the cookie of this start."""
        return _same(connection.cookies.get(self.cookie, ""), self.pass_phrase)


class LaunchToken:
    """ASGI middleware: asks `Gate` before anything reaches Streamlit; keeps patients' pictures out of disk caches."""

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        self._app, self._gate = app, gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the connection on, answer the link, or refuse."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        if scope["path"] == HEALTH or self._gate.admits(connection):
            await self._app(scope, receive, _private(send))
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 4401})
        elif self._gate.redeem(connection.query_params.get("token", "")):
            answer = RedirectResponse("/", 303)
            answer.set_cookie(self._gate.cookie, self._gate.pass_phrase, httponly=True, samesite="strict")
            await answer(scope, receive, _private(send))
        else:
            await PlainTextResponse(REFUSED, 401)(scope, receive, _private(send))


class UploadCap:
    """ASGI middleware: refuses an upload (429) that would make all browser tabs together hold more than a limit.

    Args:
        app: What comes next.
        most: Bytes.
    """

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app, self._most = app, most
        self._coming = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http" or scope["method"] != "PUT" or not scope["path"].startswith(UPLOADS):
            await self._app(scope, receive, send)
            return
        said = HTTPConnection(scope).headers.get("content-length", "")
        if not said.isdecimal():
            await PlainTextResponse(UNSIZED, 411)(scope, receive, send)
        elif not room_for(int(said), stored_bytes(), self._coming, self._most):
            await PlainTextResponse(FULL, 429)(scope, receive, send)
        else:
            self._coming += int(said)
            try:
                await self._app(scope, receive, send)
            finally:
                self._coming -= int(said)


def stored_bytes() -> int:
    """What Streamlit holds in memory for the upload controls of all browser tabs."""
    if not runtime.exists():
        return 0
    families = runtime.get_instance().uploaded_file_mgr.get_stats()
    return sum(int(getattr(stat, "byte_length", 0)) for stats in families.values() for stat in stats)


def _private(send: Send) -> Send:
    async def guarded_send(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["Referrer-Policy"] = "no-referrer"
            headers["X-Frame-Options"] = "DENY"
            headers["X-Content-Type-Options"] = "nosniff"
            if headers.get("Content-Type", "").startswith(("image/", "application/octet-stream", "text/plain")):
                headers["Cache-Control"] = "no-store"
        await send(message)

    return guarded_send


def _same(found: str, expected: str) -> bool:
    return hmac.compare_digest(found.encode(), expected.encode())
