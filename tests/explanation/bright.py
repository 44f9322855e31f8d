"""A model that finds bright blocks without any training: all its weights are positive, and its norms do nothing."""

from pathlib import Path

import numpy as np
import torch

from pipeline.model.backbone import build_network
from pipeline.model.package import Settings, save_model
from pipeline.sections import PreprocessSection
from tests.model.tiny import SECTION, save_tiny


def save_bright(folder: Path, **changes) -> Path:
    """Its Grad-CAM maps peak where the scan is brightest."""
    rules = {
        "preprocess": PreprocessSection(size=(32, 32, 24), window=(-800, 400)),
        "test_time_flips": ("x", "y", "z"),
    } | changes
    save_tiny(folder, **rules)
    settings = Settings.model_validate_json((folder / "model.json").read_text())
    torch.manual_seed(0)
    network = build_network(SECTION, len(settings.findings))
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.copy_((1 + 0.1 * torch.rand_like(parameter)) / parameter[0].numel())
    save_model(folder, settings, [network])
    return folder


def lesion_scan(seed: int, shape=(40, 36, 20), spacing=(2.0, 2.0, 3.0)) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Voxels with one bright blur on dark noise, its mask (where it is above 0), and an affine in RAS mm."""
    rng = np.random.default_rng(seed)
    centre = [rng.integers(5, n - 5) for n in shape]
    away = [(np.arange(n) - at) * mm for n, at, mm in zip(shape, centre, spacing, strict=True)]
    squares = sum(axis**2 for axis in np.meshgrid(*away, indexing="ij"))
    voxels = rng.normal(-900, 10, shape) + 1300 * np.exp(-squares / (2 * 8**2))
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -31, 17, 40
    return voxels.astype(np.float32), voxels > 0, affine
