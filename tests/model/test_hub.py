import hashlib
import http.server
import json
import threading
import time
from typing import ClassVar

import pytest

from pipeline.domain import UsageError
from pipeline.model import hub
from pipeline.model.hub import HubFile, hub_file

COMMIT = "a" * 40


class Hub(http.server.BaseHTTPRequestHandler):
    """Answers like a model hub with one repository; `told` maps a file to the SHA-256 that the hub declares."""

    files: ClassVar[dict[str, bytes]] = {}
    told: ClassVar[dict[str, str]] = {}
    elsewhere: ClassVar[str] = ""
    asked: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        self.answer(False)

    def do_GET(self) -> None:
        self.answer(True)

    def answer(self, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        self.asked.append(path)
        name = path.rpartition("/")[2]
        if "missing" in path or ("/resolve/" in path and name not in self.files):
            self.send_error(404)
            return
        if "/api/" in path:
            siblings = [
                {"rfilename": f, "size": len(c), "lfs": {"sha256": self.told[f], "size": len(c), "pointerSize": 1}}
                for f, c in self.files.items()
            ]
            return self.send(json.dumps({"id": "x/y", "sha": COMMIT, "siblings": siblings}).encode(), with_body, name)
        if self.elsewhere and with_body:
            self.send_response(302)
            self.send_header("Location", f"{self.elsewhere}/{name}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return None
        return self.send(self.files[name], with_body, name)

    def send(self, body: bytes, with_body: bool, name: str) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{self.told.get(name, "0" * 64)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *_) -> None:
        """Silent."""


def serve(handler):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_port}"


@pytest.fixture
def holding(tmp_path, monkeypatch):
    """Let the hub hold these files."""
    server, address = serve(Hub)
    monkeypatch.setenv("HF_ENDPOINT", address)
    monkeypatch.setattr(hub, "CACHE", tmp_path / "cache")
    Hub.elsewhere, Hub.asked = "", []

    def hold(**files: bytes) -> None:
        Hub.files = {name.replace("__", "."): content for name, content in files.items()}
        Hub.told = {name: hashlib.sha256(content).hexdigest() for name, content in Hub.files.items()}

    yield hold
    server.shutdown()
    server.server_close()


def test_a_file_is_downloaded_once(holding) -> None:
    holding(model__safetensors=b"abc", README__md=b"")
    assert hub_file(HubFile("x/y")).read_bytes() == b"abc"
    asked = len(Hub.asked)
    assert hub_file(HubFile("x/y")).read_bytes() == b"abc"
    assert len(Hub.asked) == asked


@pytest.mark.parametrize(
    ("files", "wanted", "content"),
    [
        ({"pytorch_model__bin": b"1", "config__json": b""}, HubFile("x/y"), b"1"),
        ({"pytorch_model__bin": b"1", "model__safetensors": b"2"}, HubFile("x/y"), b"2"),
        ({"ResNet50__pt": b"3"}, HubFile("x/y"), b"3"),
        ({"a__pt": b"4", "b__pt": b"5"}, HubFile("x/y", None, "b.pt"), b"5"),
        ({"model__safetensors": b"6"}, HubFile("x/y", COMMIT), b"6"),
    ],
)
def test_which_file_of_a_repository(holding, files, wanted, content) -> None:
    holding(**files)
    assert hub_file(wanted).read_bytes() == content


def test_several_files_are_listed(holding) -> None:
    holding(a__pt=b"", b__pt=b"")
    with pytest.raises(UsageError, match=r"files of weights: a\.pt, b\.pt\. Name one .* x/y:a\.pt"):
        hub_file(HubFile("x/y"))


@pytest.mark.parametrize("where", ["hub", "redirect"])
def test_content_that_the_hub_did_not_declare_is_refused_and_not_kept(holding, tmp_path, where) -> None:
    holding(model__safetensors=b"abc")

    class Stranger(Hub):
        files: ClassVar = {"model.safetensors": b"evl"}  # of the same size
        elsewhere = ""

    server, address = serve(Stranger)
    if where == "redirect":
        Hub.elsewhere = address
    else:
        Hub.files = Stranger.files
    with pytest.raises(UsageError, match=r"\(checksum\): model\.safetensors is not what the hub declares"):
        hub_file(HubFile("x/y"))
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file() and p.read_bytes() == b"evl"]
    server.shutdown()
    server.server_close()


def test_a_name_that_the_hub_does_not_have(holding) -> None:
    holding()
    with pytest.raises(UsageError, match="the hub answered 404 for timm/missing"):
        hub_file(HubFile("timm/missing"))


def test_without_a_network_the_error_comes_soon_and_says_what_to_do(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(hub, "CACHE", tmp_path)
    start = time.monotonic()
    with pytest.raises(UsageError, match=r"hub can't be .* Download model.safetensors of timm/resnet18.a1_in1k"):
        hub_file(HubFile("timm/resnet18.a1_in1k"))
    assert time.monotonic() - start < 30  # the client's own patience is most of a minute
