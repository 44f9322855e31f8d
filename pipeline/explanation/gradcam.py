"""Grad-CAM of a finding, in the scan's own voxel grid."""

import numpy as np
import torch
from monai.visualize import GradCAM
from numpy.typing import NDArray
from torch import Tensor

from pipeline.domain import Volume
from pipeline.model.package import Model
from pipeline.model.pooling import SliceAttention
from pipeline.model.preprocess import ModelInput, preprocess, resample

TARGET_LAYER = "trunk"
"""The backbone's last feature map."""


def saliency(model: Model, volume: Volume, finding: str) -> NDArray[np.float32]:
    """Where the model looked: float32 [i, j, k] on the volume's voxels, 0 to 1 (1: the map's peak).

    The mean over the ensemble's members, brought back through the inverse of the preprocessing. Voxels outside the
    model's grid are 0; a map without any positive evidence is 0 everywhere.

    Raises:
        ScanError: If the volume does not fit the model.
        KeyError: If the model has no such finding.
    """
    if finding not in model.findings:
        raise KeyError(f"the model predicts {', '.join(model.findings)}, not {finding}")
    item = preprocess(volume, model.preprocess, model.channels)
    return to_volume(grid_saliency(model, item, model.findings.index(finding)), item, volume)


def grid_saliency(model: Model, item: ModelInput, output: int) -> NDArray[np.float32]:
    """Grad-CAM of one output on the model's grid, float32 [(z,) y, x], not negative, not scaled."""
    # The hooks of Grad-CAM want gradients to reach the input; torch warns where they do not.
    inputs = torch.from_numpy(item.array[np.newaxis]).to(model.device).requires_grad_()
    maps = []
    for network in model.networks:
        # MONAI's own post-processing rescales each map to 0..1 and would hide which member saw nothing.
        kind = SliceGradCAM if isinstance(network.pool, SliceAttention) else GradCAM
        cam = kind(nn_module=network, target_layers=TARGET_LAYER, postprocessing=lambda m: m)
        with torch.enable_grad():
            maps.append(cam(inputs, class_idx=output)[0, 0].detach().cpu().numpy())
    return np.asarray(np.maximum(np.mean(maps, axis=0), 0), dtype=np.float32)


class SliceGradCAM(GradCAM):  # type: ignore[misc]
    """Grad-CAM of a network that looks at slices one by one: each slice's features are weighed by its own gradients.

    The gradients hold the slice's attention, so that a slice that the network passed over stays dark.
    """

    def compute_map(
        self, x: Tensor, class_idx: int | None = None, retain_graph: bool = False, layer_idx: int = -1, **kwargs: object
    ) -> Tensor:
        """Map [batch, 1, z, y, x] on the grid of the feature map."""
        _, maps, gradients = self.nn_module(x, class_idx=class_idx, retain_graph=retain_graph, **kwargs)
        weights = gradients[layer_idx].mean((-2, -1), keepdim=True)
        return torch.relu((weights * maps[layer_idx]).sum(1, keepdim=True))


def to_volume(grid_map: NDArray[np.float32], item: ModelInput, volume: Volume) -> NDArray[np.float32]:
    """A map on the model's grid ([(z,) y, x]) resampled on the volume's voxels [i, j, k] and scaled to a peak of 1."""
    zyx = grid_map if grid_map.ndim == 3 else grid_map[np.newaxis]
    kji = resample(np.ascontiguousarray(zyx.transpose(2, 1, 0)), item.affine, volume.affine, volume.shape, outside=0.0)
    on_voxels = np.ascontiguousarray(kji.transpose(2, 1, 0))
    peak = float(on_voxels.max())
    return on_voxels / np.float32(peak) if peak > 0 else on_voxels
