"""A small untrained model and volumes with a marker, for the tests of this room."""

from pathlib import Path

import numpy as np
import torch

from pipeline.domain import OperatingPoint, ReadRules, Volume
from pipeline.evaluation.calibration import uncalibrated
from pipeline.model.backbone import build_network
from pipeline.model.package import Model, Settings, load_model, save_model
from pipeline.sections import ModelSection, PreprocessSection

SECTION = ModelSection(dimensions=3, backbone="resnet10", width=0.125, stem_size=3, stem_pool=False)


def save_tiny(folder: Path, members: int = 1, **changes) -> Path:
    torch.manual_seed(0)
    settings = Settings(
        name="tiny", task="binary", findings=("nodule",), read=ReadRules(), model=SECTION,
        preprocess=PreprocessSection(size=(24, 24, 16)), calibration=uncalibrated("binary", 1),
        operating_points={"nodule": OperatingPoint("nodule", 0.5, "youden")},
    ).model_copy(update=changes)  # fmt: skip
    save_model(folder, settings, [build_network(settings.model, 1) for _ in range(members)])
    return folder


def marked(shape: tuple[int, int, int], affine: np.ndarray, at: tuple[int, int, int], radius: int = 1) -> Volume:
    """Air with one bright block around voxel `at`."""
    voxels = np.full(shape, -1000, dtype=np.float32)
    low, high = np.maximum(np.array(at) - radius, 0), np.array(at) + radius + 1
    voxels[low[0] : high[0], low[1] : high[1], low[2] : high[2]] = 400
    return Volume(voxels, affine, "HU")


def lively(network: torch.nn.Module) -> torch.nn.Module:
    """The network, in evaluation mode, with norms as after training: a fresh one hides mistakes in them."""
    for module in network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.2, 0.2)
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network.eval()


def lively_model(folder: Path, members: int = 1, **changes) -> Model:
    """A tiny model, saved and loaded, with norms as after training."""
    model = load_model(save_tiny(folder, members, **changes), "cpu")
    for network in model.networks:
        lively(network)
    return model
