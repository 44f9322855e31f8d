import http.server
import json
import pickle
import threading
import time
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from pipeline.domain import UsageError
from pipeline.model import weights
from pipeline.model.backbone import build_network
from pipeline.model.weights import load_backbone, read_tensors
from pipeline.sections import ModelSection


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(1)
    return timm.create_model("resnet18", pretrained=False).state_dict()


def trunk():
    torch.manual_seed(2)
    return build_network(ModelSection(dimensions=2, backbone="resnet18"), 1).trunk


@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "state_dict.model.", "module.encoder."])
@pytest.mark.parametrize("form", ["pth", "nested", "safetensors"])
def test_usual_files_load_whole(resnet, tmp_path, prefix, form) -> None:
    named = {prefix + k: v for k, v in resnet.items()}
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pth")
    if form == "safetensors":
        save_file(named, path)
    else:
        torch.save({"state_dict": named, "epoch": 3} if form == "nested" else named, path)
    backbone = trunk()
    match = load_backbone(backbone, str(path))
    assert (match.loaded, match.total, match.fresh, match.foreign) == (100, 100, (), ())
    torch.testing.assert_close(backbone.network.conv1.weight, resnet["conv1.weight"].sum(1, keepdim=True))
    torch.testing.assert_close(backbone.network.layer4[1].bn2.running_var, resnet["layer4.1.bn2.running_var"])


def test_monai_and_a_3d_file_load_alike(tmp_path) -> None:
    rules = ModelSection(dimensions=3, backbone="resnet10", width=0.25)
    source = build_network(rules, 1)
    torch.save({f"module.{k}": v for k, v in source.trunk.network.state_dict().items()}, tmp_path / "w.pth")
    target = build_network(rules, 2)
    assert load_backbone(target.trunk, str(tmp_path / "w.pth")).loaded == 60
    assert torch.equal(target.trunk.network.conv1.weight, source.trunk.network.conv1.weight)


def test_foreign_keys_are_refused_and_named(tmp_path) -> None:
    torch.save({f"other.{k}": torch.zeros(3) for k in "abcdef"}, tmp_path / "w.pth")
    with pytest.raises(UsageError, match=r"only 0 of 100 tensors .* fit nowhere: other\.a, other\.b"):
        load_backbone(trunk(), str(tmp_path / "w.pth"))


def test_a_deeper_network_is_refused(tmp_path) -> None:
    torch.save(timm.create_model("resnet50", pretrained=False).state_dict(), tmp_path / "w.pth")
    with pytest.raises(UsageError, match=r"model.weights: only \d+ of 100 tensors"):
        load_backbone(trunk(), str(tmp_path / "w.pth"))


class Payload:
    """Touches a file when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return (Path.touch, (self.canary,))


@pytest.mark.parametrize("form", ["torch", "raw", "nested"])
def test_code_in_a_checkpoint_is_never_run(tmp_path, form) -> None:
    canary, path = tmp_path / "canary", tmp_path / "evil.pth"
    evil = Payload(canary)
    if form == "raw":
        path.write_bytes(pickle.dumps(evil))
    else:
        torch.save(evil if form == "torch" else {"state_dict": {"conv1.weight": torch.zeros(1)}, "x": evil}, path)
    with pytest.raises(UsageError, match="holds code, which is never run"):
        read_tensors(path)
    assert not canary.exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.pth", None, "no file"),
        ("w.pth", b"", "can't be loaded as plain tensors"),
        ("w.pth", b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer"),
        ("w.safetensors", b"\xff" * 64, "damaged or no safetensors file"),
    ],
)
def test_files_that_are_no_weights(tmp_path, name, content, message) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=message):
        read_tensors(tmp_path / name)


def test_a_file_without_tensors(tmp_path) -> None:
    torch.save({"epoch": 3}, tmp_path / "w.pth")
    with pytest.raises(UsageError, match="holds no tensors"):
        read_tensors(tmp_path / "w.pth")


def test_without_a_network_the_error_comes_soon_and_says_what_to_do(monkeypatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    start = time.monotonic()
    with pytest.raises(UsageError, match=r"hub can't be reached. Download model.safetensors of timm/resnet18.a1_in1k"):
        load_backbone(trunk(), "resnet18.a1_in1k")
    assert time.monotonic() - start < 10


class Hub(http.server.BaseHTTPRequestHandler):
    """Answers like a model hub that holds one file."""

    content = b""

    def do_HEAD(self) -> None:
        self.answer(False)

    def do_GET(self) -> None:
        self.answer(True)

    def answer(self, with_body: bool) -> None:
        if "missing" in self.path:
            self.send_error(404)
            return
        api = self.path.startswith("/api/")
        body = json.dumps({"id": "x/y"}).encode() if api else self.content
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"0123456789"')
        self.send_header("X-Repo-Commit", "a" * 40)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *_) -> None:
        """Silent."""


@pytest.fixture
def hub(resnet, tmp_path, monkeypatch):
    save_file(resnet, tmp_path / "hub.safetensors")
    Hub.content = (tmp_path / "hub.safetensors").read_bytes()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(weights, "HUB_CACHE", tmp_path / "cache")
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.usefixtures("hub")
def test_a_hub_name_is_downloaded_once(resnet) -> None:
    backbone = trunk()
    assert load_backbone(backbone, "timm/resnet18.test").loaded == 100
    torch.testing.assert_close(backbone.network.bn1.weight, resnet["bn1.weight"])


@pytest.mark.usefixtures("hub")
def test_a_name_that_the_hub_does_not_have() -> None:
    with pytest.raises(UsageError, match="the hub answered 404 for timm/missing"):
        load_backbone(trunk(), "timm/missing")
