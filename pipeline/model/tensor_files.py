"""Tensors out of files from anywhere: safetensors and torch checkpoints. Nothing in such a file is ever run."""

import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from pipeline.domain import UsageError
from pipeline.files import sha256_of

MAX_BYTES = 16 * 2**30
"""No file of weights is larger (a ResNet-200 in 3D: 0.5 GB)."""
MAX_VALUES = 4 * 10**9
"""No network has more numbers; a tensor can claim any shape without a file that holds it."""
MAX_HEADER_BYTES = 100 * 10**6
"""The safetensors format's own limit."""
NESTED = (
    "state_dict", "model_state_dict", "model_state", "net_state_dict", "network_weights", "model", "net", "network",
    "module", "weights", "params", "backbone", "encoder", "state_dict_ema", "model_ema", "teacher", "student",
)  # fmt: skip
"""Keys under which checkpoints keep their tensors, the first that is there first."""
MOST_NESTED = 3
"""Levels of such keys, one within another, that are looked through."""
HASH_IN_NAME = re.compile(r"-(?!(?:19|20)\d{6}\.)([0-9a-f]{8,64})\.\w+$")
"""Start of the SHA-256 as torch.hub writes it into names (resnet18-f37072fd.pth); eight digits of a date are none."""


class WeightsError(UsageError):
    """Weights that are not used, with a stable code in the text."""

    what = "model.weights"

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{self.what} refused ({code}): {detail}")
        self.code = code


class ModelError(WeightsError):
    """A model folder that is not used, with a stable code in the text."""

    what = "model folder"


def read_tensors(path: Path) -> tuple[dict[str, Tensor], str]:
    """The tensors of a .safetensors file or a torch checkpoint, and the file's SHA-256.

    Raises:
        WeightsError: If the file is missing, damaged, too large, not what its name says, or holds anything but
            plain tensors.
    """
    if not path.is_file():
        raise WeightsError("missing", f"no file {path}; give an existing .safetensors, .pth or .ckpt file")
    if path.stat().st_size > MAX_BYTES:
        raise WeightsError("too_large", f"{path.name} has more than {MAX_BYTES >> 30} GiB")
    digest = sha256_of(path)
    if (named := HASH_IN_NAME.search(path.name)) and not digest.startswith(named[1]):
        raise WeightsError(
            "checksum",
            f"{path.name} names a SHA-256 of {named[1]} ..., its content has {digest[:8]} ...; copy it again",
        )
    with path.open("rb") as file:
        if file.read(64).startswith(b"version https://git-lfs"):
            raise WeightsError("corrupt_model", f"{path.name} is a Git LFS pointer, no weights; run `git lfs pull`")
    if path.suffix == ".safetensors":
        return read_safetensors(path, WeightsError), digest
    return read_torch(path.read_bytes(), path.name), digest


def read_safetensors(path: Path, error: type[WeightsError]) -> dict[str, Tensor]:
    """The tensors of a safetensors file; a name that stands there twice is refused, too (the library takes the last).

    Raises:
        WeightsError: (the type given) If the file is missing or damaged.
    """
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > MAX_HEADER_BYTES:
                raise ValueError("header too large")
            json.loads(file.read(length), object_pairs_hook=_no_twins)
        return dict(load_file(path))
    except (OSError, ValueError, RecursionError, SafetensorError):
        raise error("corrupt_model", f"{path.name} is missing, damaged or no safetensors file") from None


def read_torch(content: bytes, name: str) -> dict[str, Tensor]:
    """The tensors of a torch checkpoint, bare or under one of the usual keys.

    Raises:
        WeightsError: If it is damaged, too large, or holds anything but tensors and plain values.
    """
    if not content:
        raise WeightsError("corrupt_model", f"{name} is empty")
    if content.startswith(b"PK"):
        _check_archive(content, name)
    try:
        with warnings.catch_warnings(action="ignore"):  # torch advises on formats that are refused here anyway
            loaded = torch.load(BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise WeightsError(
            "unsafe_model", f"{name} holds more than tensors and plain values, which would have to be run as code: it "
            "is not opened. Save its state_dict as .safetensors where you trust it",
        ) from None  # fmt: skip
    except Exception as error:  # torch raises EOFError, RuntimeError, OSError, KeyError ... on damaged files
        raise WeightsError("corrupt_model", f"{name} is damaged or no checkpoint ({type(error).__name__})") from None
    tensors = _tensors_in(loaded, name)
    if sum(t.numel() for t in tensors.values()) > MAX_VALUES:
        raise WeightsError("too_large", f"the tensors of {name} have more than {MAX_VALUES:.0e} values")
    return tensors


def _check_archive(content: bytes, name: str) -> None:
    """Look at a zip's list of contents before torch does."""
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError):  # the last for a zip version yet to come
        raise WeightsError("corrupt_model", f"{name} is cut short or damaged (no complete zip archive)") from None
    names = [entry.filename for entry in entries]
    if any("/code/" in n or n.endswith("constants.pkl") for n in names):
        raise WeightsError("unsafe_model", f"{name} is a TorchScript program; save its state_dict as .safetensors")
    if not any(n.endswith("/data.pkl") for n in names):
        raise WeightsError("unsafe_model", f"{name} is an archive, but no torch checkpoint; it is not opened")
    if sum(entry.file_size for entry in entries) > MAX_BYTES:
        raise WeightsError("too_large", f"{name} would unpack to more than {MAX_BYTES >> 30} GiB")


def _tensors_in(content: object, name: str) -> dict[str, Tensor]:
    if found := _first_tensors(content, MOST_NESTED):
        return found
    raise WeightsError("architecture", f"{name} holds no tensors (expected a state_dict)")


def _first_tensors(content: object, levels: int) -> dict[str, Tensor]:
    """The tensors under the first of the usual keys that holds any, at most so many levels down, else those here."""
    if not isinstance(content, Mapping):
        return {}
    for key in NESTED if levels else ():
        if found := _first_tensors(content.get(key), levels - 1):
            return found
    return {str(k): v for k, v in content.items() if isinstance(v, Tensor) and v.layout == torch.strided}


def _no_twins(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands there twice")
    return found
