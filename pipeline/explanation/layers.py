"""Which feature map of a network a heat map is drawn from: the deepest one that is still fine enough."""

import math
from collections.abc import Mapping
from functools import lru_cache, partial

import torch
from torch import Tensor, nn

from pipeline.domain import UsageError
from pipeline.model.backbone import build_network
from pipeline.model.trunks import Trunk2D, Trunk3D
from pipeline.sections import ModelSection

LAST = "trunk"
"""The last feature map of every network."""
SHORT_AXIS = 28
"""Voxels; an axis of fewer needs fewer cells, in proportion."""


@lru_cache(maxsize=32)
def grids(rules: ModelSection, size: tuple[int, ...]) -> Mapping[str, tuple[int, ...]]:
    """Layer -> cells of its feature map along (z,) y, x, from the stem to the end of the backbone.

    They are measured on a network without weights, with an input that holds no numbers: it costs no memory.

    Args:
        rules: The network.
        size: Voxels of its input along x, y(, z), as `preprocess.size`.
    """
    with torch.device("meta"):
        network = build_network(rules, 1).eval()
        inputs = torch.zeros(1, rules.channels, *reversed(size))
    flat, found = rules.architecture == "slices", dict[str, tuple[int, ...]]()
    stages = _stages(network.trunk)
    for layer, channels in stages.items():
        network.get_submodule(module_name(layer)).register_forward_hook(partial(_note, found, layer, channels))
    with torch.no_grad():
        network(inputs)
    depth = inputs.shape[2:3] if flat else ()
    cells = {name: (*depth, *found[name][-2:]) if flat else found[name] for name in stages if name in found}
    return {name: grid for name, grid in cells.items() if len(grid) == len(size)}


def layer_for(rules: ModelSection, size: tuple[int, ...], fewest: int, wanted: str = "") -> str:
    """The layer that was asked for, else the deepest with enough cells along each axis, else the finest.

    Args:
        rules: The network.
        size: As in `grids`.
        fewest: Cells that are enough.
        wanted: The layer that was asked for.

    Raises:
        UsageError: If the network has no such layer.
    """
    found = grids(rules, size)
    if wanted and wanted not in found:
        known = ", ".join(f"{name} ({' x '.join(map(str, cells))})" for name, cells in found.items())
        raise UsageError(f"layer: {rules.backbone} has no feature map called {wanted!r}; it has {known}")
    enough = [math.ceil(min(n, SHORT_AXIS) * fewest / SHORT_AXIS) for n in reversed(size)]
    fine = [name for name, cells in found.items() if all(c >= e for c, e in zip(cells, enough, strict=True))]
    return wanted or (fine[-1] if fine else next(iter(found)))


def module_name(layer: str) -> str:
    """The layer's name within a `Classifier`."""
    return layer if layer == LAST else f"{LAST}.network.{layer}"


def _stages(trunk: nn.Module) -> dict[str, int]:
    """Stage -> its channels (0: not told), from the stem down."""
    if isinstance(trunk, Trunk3D):
        told = {name: 0 for name in trunk.path if name == "act" or name.startswith("layer")}
    elif isinstance(trunk, Trunk2D):
        modules = dict(trunk.network.named_modules())
        features = getattr(trunk.network, "feature_info", ())
        told = {one["module"]: int(one["num_chs"]) for one in features if one["module"] in modules}
    else:
        told = {}
    return told | {LAST: 0}


def _note(
    found: dict[str, tuple[int, ...]], layer: str, channels: int, _module: nn.Module, _inputs: object, output: Tensor
) -> None:
    """Keep the shape of a feature map; tokens, and maps with their channels last, are none."""
    if output.ndim >= 4 and channels in (0, output.shape[1]):
        found[layer] = tuple(output.shape[2:])
