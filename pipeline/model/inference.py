"""One network's outputs for many inputs, in padded batches of a fixed size, so that a row does not depend on others."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.model.backbone import Classifier

BATCH = 8
"""Scans in one forward pass. Fixed and padded, so that a prediction does not depend on its neighbours."""


def outputs_of(
    network: Classifier, arrays: NDArray[np.float32], device: torch.device, flips: Sequence[str] = ()
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Raw outputs [scan, finding] and pooled features [scan, feature] of inputs [scan, channel, (z,) y, x].

    Args:
        flips: Axes of the input ("x", "y", "z"): the outputs for all mirror images along them are averaged. Features
            are those of the input as it is.
    """
    mirrored = mirrors(flips)[1:]
    logits, features = [], []
    with torch.inference_mode():
        for start in range(0, len(arrays), BATCH):
            part = np.asarray(arrays[start : start + BATCH])
            padded = np.zeros((BATCH, *part.shape[1:]), dtype=np.float32)
            padded[: len(part)] = part
            batch = torch.from_numpy(padded).to(device)
            embedded = network.embed(batch)
            answers = [network.head(embedded), *(network(batch.flip(dims)) for dims in mirrored)]
            logits.append(torch.stack([answer.float() for answer in answers]).mean(0).cpu().numpy()[: len(part)])
            features.append(embedded.float().cpu().numpy()[: len(part)])
    return np.concatenate(logits), np.concatenate(features)


def mirrors(flips: Sequence[str]) -> list[tuple[int, ...]]:
    """Array axes to flip for each mirror image along "x", "y", "z"; the first is the input as it is."""
    axes = [-1 - "xyz".index(name) for name in flips]
    return [dims for n in range(len(axes) + 1) for dims in combinations(axes, n)]
