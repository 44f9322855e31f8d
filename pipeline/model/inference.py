"""One network's outputs for many inputs, in padded batches of a fixed size, so that a row does not depend on others."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.domain import Reason, ScanError
from pipeline.model.backbone import Classifier
from pipeline.model.memory import is_out_of_memory

LOG = logging.getLogger(__name__)
Array: TypeAlias = NDArray[np.float32]
Outputs: TypeAlias = tuple[Array, Array]
"""Raw outputs [scan, finding] and pooled features [scan, feature]."""
Begun: TypeAlias = tuple[Tensor, Tensor]
"""The same on the device, which may still be at work on them."""

BATCH = 8
"""Scans in one forward pass. Fixed and padded, so that a prediction does not depend on its neighbours."""


def outputs_of(
    network: Classifier,
    arrays: NDArray[np.float32],
    device: torch.device,
    flips: Sequence[str] = (),
    bf16: bool = False,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Raw outputs [scan, finding] and pooled features [scan, feature] of inputs [scan, channel, (z,) y, x].

    Args:
        flips: Axes of the input ("x", "y", "z"): the outputs for all mirror images along them are averaged. Features
            are those of the input as it is.
        bf16: Whether the features are computed in it, as far as torch's autocast takes it; heads stay in fp32.
    """
    mirrored = mirrors(flips)[1:]
    parts = (np.asarray(arrays[start : start + BATCH]) for start in range(0, len(arrays), BATCH))
    begun = (_with_less(network, part, device, mirrored, bf16) for part in parts)
    logits, features = zip(*([one.cpu().numpy() for one in both] for both in _one_behind(begun)), strict=True)
    return np.concatenate(logits), np.concatenate(features)


def _one_behind(begun: Iterable[Begun]) -> Iterator[Begun]:
    """The same, each once the next is begun: a GPU works on that one while this one is waited for."""
    before: list[Begun] = []
    for one in begun:
        yield from before
        before = [one]
    yield from before


def _with_less(
    network: Classifier, part: Array, device: torch.device, mirrored: Sequence[tuple[int, ...]], bf16: bool
) -> Begun:
    """The outputs of at most BATCH inputs; where memory ends, in smaller batches, then on the CPU.

    Raises:
        ScanError: If one scan alone is too much for the CPU's memory, too.
    """
    size = BATCH
    while size:
        try:
            return _in_batches(network, part, device, mirrored, bf16, size)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        torch.cuda.empty_cache()  # outside of `except`, which still holds the tensors
        size //= 2
        LOG.warning("not enough memory on %s; next: %s", device, f"batches of {size}" if size else "another device")
    if device.type == "cpu":
        raise ScanError(Reason.TOO_LARGE, "the network needs more memory for this scan than there is")
    try:
        return _with_less(network.cpu(), part, torch.device("cpu"), mirrored, bf16)
    finally:
        network.to(device)


def _in_batches(
    network: Classifier, part: Array, device: torch.device, mirrored: Sequence[tuple[int, ...]], bf16: bool, size: int
) -> Begun:
    logits, features = [], []
    with torch.inference_mode():
        for padded, filled in padded_batches(part, size):
            batch = on_device(torch.from_numpy(padded), device)
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                embedded = [network.embed(image).float() for image in (batch, *(batch.flip(d) for d in mirrored))]
            logits.append(torch.stack([network.head(one) for one in embedded]).mean(0)[:filled])
            features.append(embedded[0][:filled])
    return torch.cat(logits), torch.cat(features)


def on_device(inputs: Tensor, device: torch.device) -> Tensor:
    """Inputs on a device; to a GPU out of pinned memory, so that nobody waits for the passes that it is still at."""
    if device.type != "cuda":
        return inputs.to(device)
    return inputs.pin_memory().to(device, non_blocking=True)


def padded_batches(arrays: Array, size: int = BATCH) -> Iterator[tuple[Array, int]]:
    """Batches of `size` inputs, the last one filled up with zeros, and how many inputs each holds."""
    for start in range(0, len(arrays), size):
        part = np.asarray(arrays[start : start + size])
        padded = np.zeros((size, *part.shape[1:]), dtype=np.float32)
        padded[: len(part)] = part
        yield padded, len(part)


def mirrors(flips: Sequence[str]) -> list[tuple[int, ...]]:
    """Array axes to flip for each mirror image along "x", "y", "z"; the first is the input as it is."""
    axes = [-1 - "xyz".index(name) for name in flips]
    return [dims for n in range(len(axes) + 1) for dims in combinations(axes, n)]
