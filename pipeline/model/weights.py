"""Where pretrained weights come from, and what of them matched. Reading them never runs code."""

import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pipeline.domain import UsageError

PREFIXES = ("module.", "state_dict.", "model.", "net.", "network.", "backbone.", "encoder.", "trunk.", "image_encoder.")
"""Wrappers that training frameworks put before a tensor's name."""
HEADS = ("fc.", "classifier.", "head.", "last_linear.", "num_batches_tracked")
"""Tensors that belong to another task's output layer, or count batches: neither is asked for."""
NESTED = ("state_dict", "model_state_dict", "model", "net", "weights")
"""Keys under which checkpoints keep their tensors."""
HUB_TIMEOUT_S = 5.0
"""Longest wait for a hub's first answer; a machine without network gets its error within 10 s."""

HUB_CACHE: Path | None = None
"""Folder for downloaded weights; by default that of the hub's own client."""


@dataclass(frozen=True, slots=True)
class Match:
    """How a weights file fitted a backbone.

    Attributes:
        loaded: Tensors taken over. total: Tensors of the backbone.
        fresh: Names that keep their random start. foreign: Names in the file that fit nowhere.
    """

    source: str
    loaded: int
    total: int
    fresh: tuple[str, ...]
    foreign: tuple[str, ...]

    def __str__(self) -> str:
        """One line for logs and reports."""
        if self.source == "none":
            return f"no pretrained weights, {self.total} tensors start at random"
        rest = f"; fresh: {', '.join(self.fresh[:4])}{' ...' if len(self.fresh) > 4 else ''}" if self.fresh else ""
        return f"weights {self.source}: loaded {self.loaded} of {self.total} tensors{rest}"


def load_backbone(backbone: nn.Module, source: str, min_match: float = 0.9) -> Match:
    """Fill a backbone from a local file or a hub name and tell what matched; "none" leaves it random.

    The first convolution's kernels are summed over the colours when the backbone takes one channel.

    Raises:
        UsageError: If the file or hub can't be read, or less than `min_match` of the tensors matched.
    """
    wanted = {k: v for k, v in backbone.state_dict().items() if not k.endswith("num_batches_tracked")}
    if source == "none":
        return Match("none", 0, len(wanted), tuple(wanted), ())
    path = _locate(source)
    found = _strip(read_tensors(path), wanted)
    fitting = {k: t for k, v in wanted.items() if k in found and (t := _fit(found[k], v)) is not None}
    fresh = tuple(k for k in wanted if k not in fitting)
    foreign = tuple(k for k in found if k not in fitting and not any(h in k for h in HEADS))
    match = Match(source, len(fitting), len(wanted), fresh, foreign)
    if len(fitting) < min_match * len(wanted):
        raise UsageError(
            f"model.weights: only {match.loaded} of {match.total} tensors of the backbone matched {source} "
            f"(at least {min_match:.0%} are needed). First names that fit nowhere: {', '.join(foreign[:5]) or 'none'}; "
            f"first names still missing: {', '.join(fresh[:3])}. Check model.backbone and model.dimensions."
        )
    backbone.load_state_dict(fitting, strict=False)
    return match


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file or of a torch checkpoint (tensors only; pickled code is refused).

    Raises:
        UsageError: If the file is missing, no checkpoint, damaged, or holds anything but plain tensors.
    """
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError:
        raise UsageError(f"model.weights: no file {path}; give an existing .safetensors, .pth or .ckpt file") from None
    if start.startswith(b"version https://git-lfs"):
        raise UsageError(f"model.weights: {path} is a Git LFS pointer, not the weights; run `git lfs pull` first")
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError:
        raise UsageError(f"model.weights: {path} is damaged or no safetensors file") from None
    except Exception as error:
        # torch raises EOFError, RuntimeError, OSError or UnpicklingError on damaged and on unsafe files alike.
        raise UsageError(
            f"model.weights: {path} can't be loaded as plain tensors ({error.__class__.__name__}): it is damaged, or "
            "holds code, which is never run. Save its state_dict as .safetensors"
        ) from None
    return _tensors_in(content, path)


def _tensors_in(content: object, path: Path) -> dict[str, Tensor]:
    if isinstance(content, Mapping):
        tensors = {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
        if tensors:
            return tensors
        for key in NESTED:
            if isinstance(content.get(key), Mapping):
                return _tensors_in(content[key], path)
    raise UsageError(f"model.weights: {path} holds no tensors (expected a state_dict)")


def _strip(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under the backbone's own names: wrappers are peeled off until a name is known."""
    stripped = {}
    for name, tensor in found.items():
        short = name
        while f"network.{short}" not in wanted and (prefix := next((p for p in PREFIXES if short.startswith(p)), "")):
            short = short.removeprefix(prefix)
        stripped[f"network.{short}" if f"network.{short}" in wanted else short] = tensor
    return stripped


def _fit(tensor: Tensor, wanted: Tensor) -> Tensor | None:
    """The tensor in the wanted shape, colour kernels summed for one channel; None where it can't fit."""
    if tensor.ndim == wanted.ndim and tensor.ndim >= 4 and wanted.shape[1] == 1 and tensor.shape[1] == 3:
        tensor = tensor.float().sum(1, keepdim=True)
    return tensor.to(wanted.dtype) if tensor.shape == wanted.shape else None


def _locate(source: str) -> Path:
    """The local file a source means; hub names are downloaded first."""
    path = Path(source).expanduser()
    if path.is_file() or path.suffix in (".safetensors", ".pth", ".pt", ".ckpt", ".bin"):
        return path
    repository = source if "/" in source else f"timm/{source}"
    return _download(repository)


def _download(repository: str) -> Path:
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError

    cached = try_to_load_from_cache(repository, "model.safetensors", cache_dir=HUB_CACHE)
    if isinstance(cached, str):
        return Path(cached)
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    advice = (
        f"Download model.safetensors of {repository} where there is a network and give its path as model.weights, "
        "or use weights: none"
    )
    try:
        # The hub's client retries for most of a minute without a network; one short question first spares that.
        urllib.request.urlopen(f"{endpoint}/api/models/{repository}", timeout=HUB_TIMEOUT_S).close()
    except urllib.error.HTTPError as error:
        raise UsageError(f"model.weights: the hub answered {error.code} for {repository}. {advice}") from None
    except (OSError, ValueError):
        raise UsageError(
            f"model.weights: {repository} is no local file, and the hub can't be reached. {advice}"
        ) from None
    try:
        return Path(
            hf_hub_download(
                repository, "model.safetensors", endpoint=endpoint, etag_timeout=HUB_TIMEOUT_S, cache_dir=HUB_CACHE
            )
        )
    except (HfHubHTTPError, OSError) as error:
        raise UsageError(
            f"model.weights: downloading {repository} failed ({error.__class__.__name__}). {advice}"
        ) from None
