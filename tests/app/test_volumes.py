"""What a tab may fetch, for how long, and what the routes answer."""

import gc

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from app import volumes
from app.volumes import Packed, Shelf, entry_module, modules, routes


def packed(content: bytes = b"voxels") -> Packed:
    return Packed({"kind": "int16"}, len(content), lambda: iter((content[:3], content[3:])))


@pytest.fixture
def client() -> TestClient:
    return TestClient(Starlette(routes=routes()))


def test_a_volume_is_answered_while_the_shelf_holds_it(client):
    shelf = Shelf(1)
    url = str(shelf.offer("a", packed)["url"])
    answer = client.get(url)
    assert (answer.status_code, answer.content) == (200, b"voxels")
    assert answer.headers["content-length"] == "6"
    assert answer.headers["cache-control"] == "private, no-store"
    assert answer.headers["content-encoding"] == "identity"
    shelf.offer("b", packed)
    gc.collect()
    gone = client.get(url)
    assert (gone.status_code, gone.text) == (404, volumes.GONE)


def test_an_entry_is_packed_once_and_keeps_its_address():
    shelf, made = Shelf(2), []
    first = shelf.offer("a", lambda: made.append(1) or packed())
    assert shelf.offer("a", lambda: made.append(1) or packed()) == first
    assert made == [1]


def test_the_entry_that_was_asked_for_longest_ago_goes_first():
    shelf = Shelf(2)
    urls = {key: shelf.offer(key, packed)["url"] for key in "ab"}
    shelf.offer("a", packed)
    shelf.offer("c", packed)
    assert shelf.offer("a", packed)["url"] == urls["a"]
    assert shelf.offer("b", packed)["url"] != urls["b"]


def test_tokens_are_long_random_and_hold_nothing_of_the_key():
    shelf = Shelf(9)
    tokens = [str(shelf.offer(f"DOE-{n}", packed)["url"]).rsplit("/", 1)[1] for n in range(9)]
    assert len(set(tokens)) == 9
    assert all(len(token) == 32 and "DOE" not in token for token in tokens)


def test_a_closed_tab_takes_its_addresses_with_it(client):
    shelf = Shelf(2)
    url = str(shelf.offer("a", packed)["url"])
    del shelf
    gc.collect()
    assert client.get(url).status_code == 404


def test_the_canvas_source_is_served_under_its_version_only(client):
    answer = client.get(entry_module())
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/javascript")
    assert "export function mount" in answer.text
    assert client.get(entry_module().replace("element.js", "volume.js")).status_code == 200
    assert client.get("/canvas/0/element.js").status_code == 404
    for name in ("__init__.py", "..%2Faccess.py", "canvas.css"):
        assert client.get(entry_module().replace("element.js", name)).status_code == 404


def test_every_module_that_another_imports_is_there():
    imported = {part.split('"')[0] for source in modules().values() for part in source.split('from "./')[1:]}
    assert imported <= set(modules())
