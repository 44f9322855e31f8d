"""A small untrained model and volumes with a marker, for the tests of this room."""

from pathlib import Path

import numpy as np
import torch

from pipeline.domain import OperatingPoint, ReadRules, Volume
from pipeline.evaluation.calibration import uncalibrated
from pipeline.model.backbone import build_network
from pipeline.model.package import Settings, save_model
from pipeline.sections import ModelSection, PreprocessSection

SECTION = ModelSection(dimensions=3, backbone="resnet10", width=0.125, stem_size=3, stem_pool=False)


def save_tiny(folder: Path, members: int = 1, **changes) -> Path:
    torch.manual_seed(0)
    settings = Settings(
        name="tiny", task="binary", findings=("nodule",), read=ReadRules(), model=SECTION,
        preprocess=PreprocessSection(size=(24, 24, 16)), calibration=uncalibrated("binary", 1),
        operating_points={"nodule": OperatingPoint("nodule", 0.5, "youden")},
    ).model_copy(update=changes)  # fmt: skip
    save_model(folder, settings, [build_network(SECTION, 1) for _ in range(members)])
    return folder


def marked(shape: tuple[int, int, int], affine: np.ndarray, at: tuple[int, int, int], radius: int = 1) -> Volume:
    """Air with one bright block around voxel `at`."""
    voxels = np.full(shape, -1000, dtype=np.float32)
    low, high = np.maximum(np.array(at) - radius, 0), np.array(at) + radius + 1
    voxels[low[0] : high[0], low[1] : high[1], low[2] : high[2]] = 400
    return Volume(voxels, affine, "HU")
