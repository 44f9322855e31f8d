import asyncio
from collections.abc import Callable

import pytest

from app.access import HEALTH, Gate, LaunchToken


async def inner(scope, receive, send):
    """Stands for Streamlit: answers 200 with a PNG."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"image/png")]})
    await send({"type": "http.response.body", "body": b"patient"})


class Visitor:
    """A browser in front of one LaunchToken."""

    def __init__(self) -> None:
        self.announced: list[str] = []
        self.gate = Gate(self.announced.append)
        self.gate.renew()
        self.app = LaunchToken(inner, self.gate)

    def ask(self, path="/", query="", cookie="", kind="http") -> list[dict]:
        sent: list[dict] = []
        scope = {
            "type": kind, "path": path, "query_string": query.encode(), "method": "GET",
            "headers": [(b"cookie", cookie.encode())],
        }  # fmt: skip

        async def receive():
            return {"type": f"{kind}.connect" if kind == "websocket" else "http.request", "body": b""}

        async def send(message):
            sent.append(message)

        asyncio.run(self.app(scope, receive, send))
        return sent

    @property
    def cookie(self) -> str:
        return f"{self.gate.cookie}={self.gate.pass_phrase}"


def headers(messages: list[dict]) -> dict[str, str]:
    return {k.decode().lower(): v.decode() for k, v in messages[0]["headers"]}


@pytest.mark.parametrize("query", ["", "token=", "token=bad", "token=%C3%A9"])
def test_without_the_link_nothing_is_shown(query):
    answer = Visitor().ask(query=query)
    assert answer[0]["status"] == 401
    assert b"patient" not in answer[1]["body"]


def test_the_link_gives_a_cookie_that_opens_everything():
    visitor = Visitor()
    answer = visitor.ask(query=f"token={visitor.announced[0]}")
    assert answer[0]["status"] == 303
    given = headers(answer)["set-cookie"]
    assert visitor.cookie in given
    assert "HttpOnly" in given
    assert "samesite=strict" in given.lower()
    assert visitor.announced[0] not in given
    assert visitor.ask("/media/abc.png", cookie=visitor.cookie)[0]["status"] == 200


def test_a_link_works_once_and_the_next_one_is_announced():
    visitor = Visitor()
    first = visitor.announced[0]
    visitor.ask(query=f"token={first}")
    assert visitor.ask(query=f"token={first}")[0]["status"] == 401
    assert len(visitor.announced) == 2
    assert visitor.ask(query=f"token={visitor.announced[1]}")[0]["status"] == 303


def test_websocket_needs_the_cookie():
    visitor = Visitor()
    assert visitor.ask("/_stcore/stream", kind="websocket")[0] == {"type": "websocket.close", "code": 4401}
    accepted = visitor.ask("/_stcore/stream", kind="websocket", cookie=visitor.cookie)
    assert accepted[0]["type"] == "websocket.accept"


def test_a_cookie_of_another_start_is_refused():
    assert Visitor().ask(cookie=Visitor().cookie)[0]["status"] == 401


def test_health_is_open_and_nothing_else_below_its_folder():
    assert Visitor().ask(HEALTH)[0]["status"] == 200
    assert Visitor().ask("/_stcore/host-config")[0]["status"] == 401


def test_pictures_stay_out_of_caches_frames_and_referrers():
    visitor = Visitor()
    found = headers(visitor.ask("/media/abc.png", cookie=visitor.cookie))
    assert found["cache-control"] == "no-store"
    assert found["referrer-policy"] == "no-referrer"
    assert found["x-frame-options"] == "DENY"


def test_lifespan_passes_through():
    seen: list[str] = []

    async def app(scope: dict, receive: Callable, send: Callable) -> None:
        seen.append(scope["type"])

    asyncio.run(LaunchToken(app, Gate(lambda _: None))({"type": "lifespan"}, None, None))
    assert seen == ["lifespan"]
