"""Models and checkpoints made to hurt (class I): each is refused with its code, and nothing in them runs."""

import contextlib
import io
import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline import load_model
from pipeline.files import write_sums
from pipeline.model.backbone import build_network
from pipeline.model.tensor_files import MAX_BYTES, ModelError, WeightsError, read_tensors
from pipeline.model.weights import load_backbone
from tests.model.tiny import SECTION, save_tiny


class Payload:
    """Touches a file when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return (Path.touch, (self.canary,))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "model")


@pytest.fixture
def canary(tmp_path):
    path = tmp_path / "canary"
    yield path
    assert not path.exists(), "code in a file was run"


def test_the_payload_would_run(tmp_path) -> None:
    pickle.loads(pickle.dumps(Payload(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()


# Files that hold code (I1 to I6)


def torch_zip(content: object) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def numpy_file(save, content: object) -> bytes:
    file = io.BytesIO()
    save(file, np.array([content], dtype=object), allow_pickle=True)
    return file.getvalue()


def script() -> bytes:
    """What torch.jit.save writes, as far as a reader can tell (its own writer is going away)."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in ("m/data.pkl", "m/constants.pkl", "m/code/__torch__.py", "m/version"):
            archive.writestr(name, b"")
    return file.getvalue()


UNSAFE = {
    "zip pickle": lambda evil: torch_zip({"state_dict": {"conv1.weight": torch.zeros(1)}, "x": evil}),
    "zip pickle, bare": torch_zip,
    "raw pickle": pickle.dumps,
    "raw pickle, protocol 0": lambda evil: pickle.dumps(evil, protocol=0),
    "legacy torch": lambda evil: _legacy({"a": evil}),
    "npy": lambda evil: numpy_file(np.save, evil),
    "npz": lambda evil: numpy_file(lambda f, a, allow_pickle: np.savez(f, a=a), evil),
    "whole module": lambda _: torch_zip(torch.nn.Linear(2, 2)),
    "torchscript": lambda _: script(),
    "7z": lambda evil: b"7z\xbc\xaf\x27\x1c" + pickle.dumps(evil),
    "zip of a pickle": lambda evil: _zipped(pickle.dumps(evil)),
}


def _legacy(content: object) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def _zipped(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("model.pkl", content)
    return file.getvalue()


@pytest.mark.parametrize("kind", UNSAFE)
@pytest.mark.parametrize("suffix", [".pth", ".ckpt"])
def test_weights_that_hold_code(tmp_path, canary, kind, suffix) -> None:
    path = tmp_path / f"w{suffix}"
    path.write_bytes(UNSAFE[kind](Payload(canary)))
    with pytest.raises(WeightsError, match=r"model\.weights refused \(unsafe_model\)"):
        load_backbone(_trunk(), SECTION.model_copy(update={"weights": str(path)}))


@pytest.mark.parametrize("name", ["m.pkl", "m.joblib", "m.npy", "m.npz", "m.pt", "m.7z", "M.PKL"])
def test_a_model_that_is_a_file_or_holds_one(folder, tmp_path, canary, name) -> None:
    evil = pickle.dumps(Payload(canary))
    (tmp_path / name).write_bytes(evil)
    with pytest.raises(ModelError, match=rf"folder refused \(unsafe_model\): {name} is a file, which is not opened"):
        load_model(tmp_path / name)
    (folder / name).write_bytes(evil)
    write_sums(folder)
    with pytest.raises(ModelError, match=rf"\(unsafe_model\): {name} is a type of file that may run code"):
        load_model(folder)


@pytest.mark.parametrize("name", ["weights.safetensors", "model.json", "evaluation.json"])
def test_a_pickle_under_a_safe_name_is_not_unpickled(folder, canary, name) -> None:
    (folder / name).write_bytes(torch_zip(Payload(canary)))
    write_sums(folder)
    with pytest.raises(ModelError, match=r"\(corrupt_model\)"):
        load_model(folder)


# Damage (I7 to I10, I15)


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("form", ["pth", "safetensors"])
def test_cut_short(folder, tmp_path, share, form) -> None:
    path = tmp_path / f"w.{form}"
    state = load_file(folder / "weights.safetensors")
    torch.save(state, path) if form == "pth" else save_file(state, path)
    os.truncate(path, int(path.stat().st_size * share))
    with pytest.raises(WeightsError, match=r"model\.weights refused \(corrupt_model\)"):
        read_tensors(path)
    os.truncate(folder / "weights.safetensors", int((folder / "weights.safetensors").stat().st_size * share))
    with pytest.raises(ModelError, match=r"\(checksum\): weights\.safetensors was changed"):
        load_model(folder)
    write_sums(folder)
    with pytest.raises(ModelError, match=r"\(corrupt_model\)"):
        load_model(folder)


def test_bits_flipped_anywhere_are_seen(folder) -> None:
    path = folder / "weights.safetensors"
    whole = path.read_bytes()
    for at in np.random.default_rng(0).integers(0, len(whole), 20):
        content = bytearray(whole)
        content[at] ^= 1 << int(at) % 8
        path.write_bytes(content)
        with pytest.raises(ModelError, match=r"\(checksum\)"):
            load_model(folder)


def _safetensors(header: str, body: int, length: int | None = None) -> bytes:
    head = header.encode()
    return (length or len(head)).to_bytes(8, "little") + head + bytes(body)


LIES = {
    "header of 2^62 bytes": _safetensors("{}", 0, 2**62),
    "header larger than the file": _safetensors("{}", 0, 10**6),
    "shape larger than the content": _safetensors('{"w":{"dtype":"F32","shape":[1000,1000],"data_offsets":[0,4]}}', 4),
    "content beyond the end": _safetensors('{"w":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}', 4),
    "one name twice": _safetensors(
        '{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', 4
    ),
    "a zip behind it": _safetensors('{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', 4) + script(),
    "a zip before it": script() + _safetensors("{}", 0),
    "endless nesting": _safetensors('{"w":' * 100_000, 0),
    "no JSON": _safetensors("\x00\x01", 0),
    "nothing": b"",
}


@pytest.mark.parametrize("kind", LIES)
def test_safetensors_that_lie(tmp_path, folder, kind) -> None:
    (tmp_path / "w.safetensors").write_bytes(LIES[kind])
    with pytest.raises(WeightsError, match=r"model\.weights refused \(corrupt_model\)"):
        read_tensors(tmp_path / "w.safetensors")
    shutil.copy(tmp_path / "w.safetensors", folder / "weights.safetensors")
    write_sums(folder)
    with pytest.raises(ModelError, match=r"\(corrupt_model\)"):
        load_model(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers(folder, tmp_path, value) -> None:
    state = load_file(folder / "weights.safetensors")
    state["trunk.network.conv1.weight"].view(-1)[7] = value
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=r"\(non_finite_weights\): .* \(first: network\.conv1\.weight\)"):
        load_backbone(_trunk(), SECTION.model_copy(update={"weights": str(tmp_path / "w.safetensors")}))
    save_file(state, folder / "weights.safetensors")
    write_sums(folder)
    with pytest.raises(ModelError, match=r"\(non_finite_weights\)"):
        load_model(folder)


# Another network's weights (I11, I12, I14)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda s: s.pop("head.weight"), r"Missing key.*head\.weight"),
        (lambda s: s.update({"extra.weight": torch.zeros(1)}), r"Unexpected key.*extra\.weight"),
        (lambda s: s.update({"head.bias": torch.zeros(2)}), r"size mismatch for head\.bias"),
        (lambda s: s.update({"trunk.network.conv1.weight": torch.zeros(8, 3, 3, 3, 3)}), r"mismatch .*conv1\.weight"),
    ],
)
def test_keys_and_shapes_that_do_not_fit_are_listed(folder, change, named) -> None:
    state = load_file(folder / "weights.safetensors")
    change(state)
    save_file(state, folder / "weights.safetensors")
    write_sums(folder)
    with pytest.raises(ModelError, match=rf"(?s)\(architecture\): weights\.safetensors does not fit.*{named}"):
        load_model(folder)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"backbone": "resnet18"}, "architecture"),
        ({"backbone": "no_such_network"}, "architecture"),
        ({"backbone": "hf-hub:owner/name", "dimensions": 2, "width": 1.0}, "architecture"),
        ({"backbone": "resnet200", "width": 8.0}, r"architecture\): .* it needs \d{10} numbers, the file holds \d{6}"),
        ({"width": 1e9}, r"corrupt_model\)"),
        ({"channels": 3}, "architecture"),
    ],
)
def test_settings_of_another_network(folder, keys, message) -> None:
    _rewrite(folder, model=json.loads((folder / "model.json").read_text())["model"] | keys)
    with pytest.raises(ModelError, match=rf"\({message}"):
        load_model(folder)


def test_a_newer_format(folder) -> None:
    _rewrite(folder, schema_version=2)
    with pytest.raises(ModelError, match=r"\(format_version\): made for format 2"):
        load_model(folder)


# No manifest, too large, names that lead elsewhere (I13, I16, I17); downloads (I18) are in tests/model/test_hub.py


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00nonsense", b"abc", f"{'0' * 64}  ../../etc/passwd\n".encode()])
def test_without_a_manifest_nothing_is_loaded(folder, content) -> None:
    (folder / "SHA256SUMS").unlink()
    if content is not None:
        (folder / "SHA256SUMS").write_bytes(content)
    with pytest.raises(ModelError, match=r"\(manifest\)"):
        load_model(folder)


def test_huge_files_and_tensors(folder, tmp_path) -> None:
    huge = tmp_path / "w.safetensors"
    huge.touch()
    with contextlib.suppress(OSError):  # a file system may refuse even a sparse file of this size
        os.truncate(huge, MAX_BYTES + 1)
        with pytest.raises(WeightsError, match=r"\(too_large\): w\.safetensors has more than 16 GiB"):
            read_tensors(huge)
        huge.replace(folder / "extra.safetensors")
        with pytest.raises(ModelError, match=r"\(too_large\): extra\.safetensors"):
            load_model(folder)
    torch.save({"w": torch.zeros(1).expand(10**6, 10**6)}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"\(too_large\): the tensors of w\.pth have more than 4e\+09 values"):
        read_tensors(tmp_path / "w.pth")


def test_a_zip_of_a_version_yet_to_come(tmp_path) -> None:
    raw = bytearray(torch_zip({"w": torch.zeros(1)}))
    raw[raw.rindex(b"PK\x01\x02") + 6] = 99
    (tmp_path / "w.pth").write_bytes(raw)
    with pytest.raises(WeightsError, match=r"\(corrupt_model\): w\.pth is cut short or damaged"):
        read_tensors(tmp_path / "w.pth")


def test_inputs_too_large_to_hold(folder) -> None:
    _rewrite(folder, preprocess=json.loads((folder / "model.json").read_text())["preprocess"] | {"size": [9000] * 3})
    with pytest.raises(ModelError, match=r"\(too_large\): model\.json asks for inputs"):
        load_model(folder)


@pytest.mark.parametrize("name", ["../../x", "owner/../../x", "owner/name@../../x", "a/b/c", "https://x.org/w", "a\nb"])
def test_names_that_lead_elsewhere(monkeypatch, name) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(WeightsError, match=r"model\.weights refused \(bad_name\)"):
        load_backbone(_trunk(), SECTION.model_copy(update={"weights": name}))


@pytest.mark.parametrize(("name", "ok"), [("w-{0}.pth", True), ("w-00000000.pth", False), ("w-20240131.pth", True)])
def test_a_hash_in_a_files_name_is_held_to(tmp_path, name, ok) -> None:
    torch.save({"w": torch.zeros(1)}, tmp_path / "w.pth")
    digest = read_tensors(tmp_path / "w.pth")[1]
    path = (tmp_path / "w.pth").rename(tmp_path / name.format(digest[:8]))
    if ok:
        assert read_tensors(path)[1] == digest
        return
    with pytest.raises(WeightsError, match=rf"\(checksum\): {name} names a SHA-256 of 00000000"):
        read_tensors(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"\(missing\): no file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", r"\(corrupt_model\): .* Git LFS pointer"),
        (torch_zip({"epoch": 3}), r"\(architecture\): .* holds no tensors"),
    ],
)
def test_files_that_are_no_weights(tmp_path, content, message) -> None:
    if content is not None:
        (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        read_tensors(tmp_path / "w.pth")


def _trunk() -> torch.nn.Module:
    return build_network(SECTION, 1).trunk


def _rewrite(folder: Path, **keys: object) -> None:
    content = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(content | keys))
    write_sums(folder)
