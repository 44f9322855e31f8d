"""Occlusion sensitivity: how much the output falls where a part of the input is hidden."""

import math
import warnings

import torch
from monai.visualize import OcclusionSensitivity
from torch import Tensor

from pipeline.domain import UsageError
from pipeline.explanation.cam import KINDS
from pipeline.model.backbone import Classifier
from pipeline.model.inference import BATCH

PARTS = 6
"""What is hidden is a sixth of the input wide along each axis; windows lie half a width apart: some 1,300 in 3D."""
MOST_VOXELS = 2**20
"""Larger inputs would take many minutes."""


def occlusion_maps(network: Classifier, inputs: Tensor, output: int) -> Tensor:
    """Maps [scan, (z,) y, x]: by how much the output falls where each voxel is hidden, 0 where it rises.

    What is hidden fades towards 0: the lowest value of the window, or the mean under zscore.

    Args:
        network: In evaluation mode.
        inputs: [scan, channel, (z,) y, x].
        output: Which of the network's outputs.

    Raises:
        UsageError: If the inputs are too large.
    """
    if math.prod(inputs.shape[2:]) > MOST_VOXELS:
        raise UsageError(
            f"method: occlusion looks at a scan some thousand times and takes inputs of up to {MOST_VOXELS:,} voxels; "
            f"this model's have {math.prod(inputs.shape[2:]):,}. Give pipeline.explain --method {' or '.join(KINDS)}; "
            "with --check it becomes the model's own way"
        )
    size = [math.ceil(n / PARTS) for n in inputs.shape[2:]]
    occlusion = OcclusionSensitivity(network, size, BATCH, verbose=False, overlap=0.5, activate=False)
    found = torch.zeros(len(inputs), *inputs.shape[2:])
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Using a non-tuple sequence")  # MONAI indexes with lists
        for row in range(len(inputs)):
            one = inputs[row : row + 1]
            hidden, _ = occlusion(one)
            found[row] = torch.relu(network(one)[0, output] - hidden[0, output])
    return found
