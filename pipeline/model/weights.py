"""Pretrained weights for a backbone, and what of them matched."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from pipeline.model.sources import open_source
from pipeline.model.tensor_files import WeightsError
from pipeline.model.trunks import inflate_kernel
from pipeline.sections import ModelSection

PREFIXES = (
    "module.", "_orig_mod.", "state_dict.", "model.", "net.", "network.", "backbone.", "encoder.", "encoder_q.",
    "base_encoder.", "online_encoder.", "image_encoder.", "feature_extractor.", "student.", "teacher.", "trunk.",
    "visual.", "base_model.", "resnet.", "convnet.", "cnn.", "body.", "features.",
)  # fmt: skip
"""Wrappers that training frameworks put before a tensor's name."""
SEQUENTIAL = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
"""Names of a ResNet's parts where they were put into one nn.Sequential (RadImageNet)."""
SHORTCUT = "downsample."
"""What timm, torchvision and MONAI call the shortcut of a block that changes its shape."""
HEADS = ("fc.", "classifier.", "head.", "last_linear.", "num_batches_tracked")
"""Tensors that belong to another task's output layer, or count batches: neither is asked for."""


@dataclass(frozen=True, slots=True)
class Match:
    """How weights fitted a backbone.

    Attributes:
        loaded: Tensors taken over. total: Tensors of the backbone.
        fresh: Names that keep their random start. foreign: Names in the file that fit nowhere.
        adapted: Names whose kernels were summed over colours, shared out among them, or inflated.
        sha256: Of the file.
        notes: What else a reader should know: licence, which member of an ensemble.
    """

    source: str
    loaded: int
    total: int
    fresh: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()
    adapted: tuple[str, ...] = ()
    sha256: str = ""
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """One line for logs and reports."""
        if self.source == "none":
            return f"no pretrained weights, {self.total} tensors start at random"
        parts = [f"weights {self.source}: loaded {self.loaded} of {self.total} tensors"]
        for word, names in (("fresh", self.fresh), ("left out", self.foreign)):
            if names:
                parts.append(f"{word}: {', '.join(names[:4])}{' ...' if len(names) > 4 else ''}")
        if self.adapted:
            parts.append(f"{len(self.adapted)} adapted")
        return "; ".join((*parts, *self.notes))

    def as_json(self) -> dict[str, object]:
        """Plain values for the run folder."""
        return asdict(self)


def load_backbone(trunk: nn.Module, rules: ModelSection) -> Match:
    """Fill a trunk with the weights that `rules.weights` names and tell what matched; "none" leaves it random.

    The first convolution's kernels are summed over the colours when the trunk takes one channel, and shared out among
    them when the file has one; 2D kernels are inflated where the trunk is an inflated network.

    Raises:
        WeightsError: If the weights can't be had, are damaged or unsafe, or belong to another network.
    """
    wanted = {k: v for k, v in trunk.state_dict().items() if not k.endswith("num_batches_tracked")}
    if rules.weights == "none":
        return Match("none", 0, len(wanted), fresh=tuple(wanted))
    source = open_source(rules)
    found = _without_biases(_strip(source.tensors, wanted))
    fitting = {k: t for k, v in wanted.items() if k in found and (t := _fit(found[k], v, rules)) is not None}
    match = Match(
        source.name, len(fitting), len(wanted),
        fresh=_shown(k for k in wanted if k not in fitting),
        foreign=_shown(k for k in found if k not in fitting and not any(h in k for h in HEADS)),
        adapted=_shown(k for k, t in fitting.items() if t.shape != found[k].shape),
        sha256=source.sha256, notes=source.notes,
    )  # fmt: skip
    _check(match, fitting, rules)
    trunk.load_state_dict(fitting, strict=False)
    return match


def _shown(names: Iterable[str]) -> tuple[str, ...]:
    """Names as the network's library has them."""
    return tuple(name.removeprefix("network.") for name in names)


def _check(match: Match, fitting: Mapping[str, Tensor], rules: ModelSection) -> None:
    """Refuse weights of another network, or that are not finite."""
    parts = {name.split(".")[0] for name in (*_shown(fitting), *match.fresh)}
    deeper = [name for name in match.foreign if name.split(".")[0] in parts]
    if match.loaded < rules.min_match * match.total or len(deeper) > (1 - rules.min_match) * match.total:
        raise WeightsError(
            "architecture", f"{match.loaded} of {match.total} tensors of the backbone matched {match.source} (at "
            f"least {rules.min_match:.0%} are needed), and {len(match.foreign)} of its tensors fit nowhere. First of "
            f"these: {', '.join(match.foreign[:5]) or 'none'}; first still missing: "
            f"{', '.join(match.fresh[:3]) or 'none'}. Check model.backbone, model.dimensions and model.architecture",
        )  # fmt: skip
    shortcuts = [name for name in (*match.fresh, *match.foreign) if SHORTCUT in name]
    if shortcuts:  # few tensors, but every block behind them would get something that it never learned from
        raise WeightsError(
            "architecture", f"{match.source} has shortcuts of another kind than {rules.backbone} (first that does not "
            f"match: {shortcuts[0]}). Check model.shortcut in 3D (A or B), else model.backbone",
        )  # fmt: skip
    broken = [name for name, tensor in fitting.items() if not bool(torch.isfinite(tensor).all())]
    if broken:
        raise WeightsError(
            "non_finite_weights", f"{match.source} holds values that are not finite numbers (first: {broken[0]})"
        )


def _strip(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under the trunk's own names: wrappers are peeled off until a name is known.

    Raises:
        WeightsError: If two tensors come out under one name.
    """
    stripped: dict[str, Tensor] = {}
    for name, tensor in found.items():
        own = _own_name(name, wanted)
        if own in stripped and own in wanted:
            raise WeightsError("architecture", f"the file holds {own.removeprefix('network.')} twice, once as {name}")
        stripped[own] = tensor
    return stripped


def _without_biases(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same function without the bias that MONAI's shortcuts have by default: the norm behind takes it over."""
    for name in [n for n in found if n.endswith(f"{SHORTCUT}0.bias")]:
        mean = f"network.{name.removesuffix('0.bias')}1.running_mean"
        if mean in found:
            found[mean] = found[mean] - found.pop(name)
    return found


def _own_name(name: str, wanted: Mapping[str, Tensor]) -> str:
    short = name
    while f"network.{short}" not in wanted:
        prefix = next((p for p in PREFIXES if short.startswith(p)), "")
        if not prefix:
            part, dot, rest = short.partition(".")
            short = f"{SEQUENTIAL.get(part, part)}{dot}{rest}"
            break
        short = short.removeprefix(prefix)
    return f"network.{short}" if f"network.{short}" in wanted else short


def _fit(tensor: Tensor, wanted: Tensor, rules: ModelSection) -> Tensor | None:
    """The tensor in the wanted shape, its colours adapted and inflated where needed; None where it can't fit."""
    if tensor.ndim == 4 and wanted.ndim == 5 and rules.architecture == "inflated":
        tensor = inflate_kernel(tensor.float(), wanted.shape[2], rules.inflation)
    if tensor.ndim == wanted.ndim and tensor.ndim >= 4 and wanted.shape[1] == 1 and tensor.shape[1] == 3:
        tensor = tensor.float().sum(1, keepdim=True)
    if tensor.ndim == wanted.ndim and tensor.ndim >= 4 and wanted.shape[1] == 3 and tensor.shape[1] == 1:
        tensor = tensor.float().expand(-1, 3, *tensor.shape[2:]) / 3  # gives on gray in colour what it gave on gray
    return tensor.to(wanted.dtype) if tensor.shape == wanted.shape else None
