"""Where a model looked for a finding, in the scan's own voxel grid."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.domain import Reason, ScanError, UsageError, Volume
from pipeline.explanation.cam import KINDS, activation_maps
from pipeline.explanation.layers import layer_for
from pipeline.explanation.occlusion import occlusion_maps
from pipeline.explanation.trust import map_trust
from pipeline.model.backbone import Classifier
from pipeline.model.inference import BATCH, mirrors, on_device
from pipeline.model.memory import is_out_of_memory
from pipeline.model.package import Model
from pipeline.model.preprocess import ModelInput, preprocess, resample

OCCLUSION = "occlusion"
FEWEST_CELLS = {"hirescam": 14, "gradcam": 7, "gradcampp": 7}
"""Cells that a map needs along each axis. ResNets end with 7 at the 224 pixels that they were made for; HiResCAM keeps
what the gradients say of each place, and points best from one stage earlier."""
METHODS = (*KINDS, OCCLUSION)
"""The first is what is used where nothing else is asked for: docs/decisions/0010-heat-maps.md says why."""


@dataclass(frozen=True)
class Way:
    """How maps are made.

    Attributes:
        method: One of `METHODS`.
        layer: The feature map that they are drawn from (`layers.grids`); "" for occlusion.
    """

    method: str
    layer: str


def way_of(model: Model, method: str = "", layer: str = "") -> Way:
    """How this model's maps are made: as asked for, else as they were checked, else the first method, layer by rule.

    Raises:
        UsageError: If there is no such method, or the network has no such layer.
    """
    if method and method not in METHODS:
        raise UsageError(f"method: expected one of {', '.join(METHODS)}, got {method!r}")
    checked = map_trust(model.folder)
    if checked and method in ("", checked.method) and not layer:
        return Way(checked.method, checked.layer)
    method = method or METHODS[0]
    if method == OCCLUSION:
        if layer:
            raise UsageError("layer: occlusion looks at no layer; leave it out")
        return Way(method, "")
    return Way(method, layer_for(model.settings.model, model.preprocess.size, FEWEST_CELLS[method], layer))


def saliency(model: Model, volume: Volume, finding: str, way: Way | None = None) -> NDArray[np.float32]:
    """Where the model looked: float32 [i, j, k] on the volume's voxels, 0 to 1 (1: the map's peak).

    The mean over the ensemble's members, brought back through the inverse of the preprocessing. Voxels outside the
    model's grid are 0; a map without any positive evidence is 0 everywhere.

    Raises:
        ScanError: If the volume does not fit the model, or too_large as in `grid_saliency`.
        KeyError: If the model has no such finding.
    """
    if finding not in model.findings:
        raise KeyError(f"the model predicts {', '.join(model.findings)}, not {finding}")
    item = preprocess(volume, model.preprocess, model.channels)
    (found,) = grid_saliency(model, item.array[np.newaxis], model.findings.index(finding), way)
    return to_volume(found, item, volume)


def grid_saliency(
    model: Model, arrays: NDArray[np.float32], output: int, way: Way | None = None
) -> NDArray[np.float32]:
    """Maps of one output on the model's grid, float32 [scan, (z,) y, x], not negative, not scaled.

    Where the model averages its answers to mirror images, so is the map, turned back; occlusion shows the input as
    it is.

    Args:
        model: Its members' maps are averaged.
        arrays: Inputs [scan, channel, (z,) y, x].
        output: Which finding, by position.
        way: By default `way_of(model)`.

    Raises:
        ScanError: too_large, if there is not enough memory, on the CPU neither.
    """
    way = way or way_of(model)
    flips = () if way.method == OCCLUSION else model.settings.test_time_flips
    images = [(row, dims) for row in range(len(arrays)) for dims in mirrors(flips)]
    total = torch.zeros(len(arrays), *arrays.shape[2:])
    for start in range(0, len(images), BATCH):
        part = images[start : start + BATCH]
        batch = torch.stack([torch.from_numpy(arrays[row].copy()).flip(dims) for row, dims in part])
        for network in model.networks:
            with model.in_use:
                found = _with_less(network, batch, output, way, model.device)
            for (row, dims), one in zip(part, found, strict=True):
                total[row] += one.flip(dims)
    return np.asarray(total / (len(model.networks) * len(mirrors(flips))), dtype=np.float32)


def _with_less(network: Classifier, batch: Tensor, output: int, way: Way, device: torch.device) -> Tensor:
    """One network's maps of a batch, on the CPU; where memory ends, made in smaller batches, then on the CPU.

    Gradients take more memory than answers do: a scan that could be scored may have no map.

    Raises:
        ScanError: If one scan alone is too much for the CPU's memory, too.
    """
    size = len(batch)
    while size:
        try:
            return torch.cat(
                [_maps(network, on_device(some, device), output, way).cpu() for some in torch.split(batch, size)]
            )
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        torch.cuda.empty_cache()  # outside of `except`, which still holds the tensors
        size //= 2
    if device.type == "cpu":
        raise ScanError(Reason.TOO_LARGE, "the heat map needs more memory for this scan than there is")
    try:
        return _with_less(network.cpu(), batch, output, way, torch.device("cpu"))
    finally:
        network.to(device)


def _maps(network: Classifier, batch: Tensor, output: int, way: Way) -> Tensor:
    if way.method == OCCLUSION:
        return occlusion_maps(network, batch, output)
    return activation_maps(network, batch, output, way.method, way.layer)


def to_volume(grid_map: NDArray[np.float32], item: ModelInput, volume: Volume) -> NDArray[np.float32]:
    """A map on the model's grid ([(z,) y, x]) resampled on the volume's voxels [i, j, k] and scaled to a peak of 1."""
    zyx = grid_map if grid_map.ndim == 3 else grid_map[np.newaxis]
    kji = resample(np.ascontiguousarray(zyx.transpose(2, 1, 0)), item.affine, volume.affine, volume.shape, outside=0.0)
    on_voxels = np.ascontiguousarray(kji.transpose(2, 1, 0))
    peak = float(on_voxels.max())
    return on_voxels / np.float32(peak) if peak > 0 else on_voxels
