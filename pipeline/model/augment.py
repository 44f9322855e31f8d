"""Random changes of training inputs, batched on the device: one function draws, another applies."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.config import AugmentSection

AXIS = {"x": 0, "y": 1, "z": 2}


@dataclass(frozen=True, slots=True)
class Augmentation:
    """What was drawn for one batch.

    Attributes:
        theta: [batch, d, d + 1] affine for `affine_grid`, axes x, y(, z), or None for no geometric change.
        gain: [batch] factors of the intensity. offset: [batch] summands. noise: [batch] standard deviations.
        seeds: One a sample, for its noise.
    """

    theta: Tensor | None
    gain: Tensor
    offset: Tensor
    noise: Tensor
    seeds: tuple[int, ...]


def sample_seed(seed: int, epoch: int, index: int) -> int:
    """A seed of its own for each (epoch, sample): worker count, batch order and resume do not change the stream."""
    return (seed * 1_000_003 + epoch) * 1_000_003 + index


def draw(rules: AugmentSection, size: Sequence[int], seed: int, epoch: int, indices: Sequence[int]) -> Augmentation:
    """Random parameters for the samples `indices` of one batch of inputs of `size` voxels (x, y(, z))."""
    rows, seeds = [], []
    for index in indices:
        seeds.append(sample_seed(seed, epoch, int(index)) % 2**63)
        rows.append(torch.rand(16, generator=torch.Generator().manual_seed(seeds[-1])))
    u = torch.stack(rows)
    signed = 2 * u - 1
    moves = rules.flip_axes or rules.rotate_degrees or rules.scale or rules.translate
    return Augmentation(
        theta=_theta(rules, torch.tensor(size, dtype=torch.float32), u, signed) if moves else None,
        gain=1 + rules.intensity * signed[:, 9],
        offset=rules.intensity * signed[:, 10],
        noise=rules.noise * u[:, 11],
        seeds=tuple(seeds),
    )


def apply(batch: Tensor, drawn: Augmentation) -> Tensor:
    """The batch [n, channel, (z,) y, x] after what was drawn; the same parameters give the same answer."""
    if drawn.theta is not None:
        grid = functional.affine_grid(drawn.theta.to(batch), list(batch.shape), align_corners=False)
        batch = functional.grid_sample(batch, grid, padding_mode="border", align_corners=False)
    per_sample = (-1, *[1] * (batch.ndim - 1))
    batch = batch * drawn.gain.to(batch).view(per_sample) + drawn.offset.to(batch).view(per_sample)
    if not bool((drawn.noise > 0).any()):
        return batch
    noise = torch.stack(
        [
            torch.randn(batch.shape[1:], generator=torch.Generator(batch.device).manual_seed(s), device=batch.device)
            for s in drawn.seeds
        ]
    )
    return batch + noise.to(batch) * drawn.noise.to(batch).view(per_sample)


def _theta(rules: AugmentSection, size: Tensor, u: Tensor, signed: Tensor) -> Tensor:
    n, dimensions = len(u), len(size)
    matrix = torch.eye(dimensions).expand(n, -1, -1)
    angles = math.radians(rules.rotate_degrees) * signed
    planes = [(0, 1)] if dimensions == 2 else [(0, 1), (0, 2), (1, 2)]
    for column, (a, b) in enumerate(planes):
        turn = torch.eye(dimensions).repeat(n, 1, 1)
        turn[:, a, a] = turn[:, b, b] = torch.cos(angles[:, column])
        turn[:, a, b] = -torch.sin(angles[:, column])
        turn[:, b, a] = torch.sin(angles[:, column])
        matrix = matrix @ turn
    # affine_grid measures each axis in half widths: turn in voxels, so that an oblong input is not sheared.
    matrix = torch.diag(1 / size) @ matrix @ torch.diag(size)
    matrix = matrix * (1 + rules.scale * signed[:, 3]).view(-1, 1, 1)
    mirror = torch.ones(n, dimensions)
    for name in rules.flip_axes:
        if AXIS[name] < dimensions:
            mirror[:, AXIS[name]] = torch.where(u[:, 4 + AXIS[name]] < 0.5, -1.0, 1.0)
    matrix = matrix @ torch.diag_embed(mirror)
    # affine_grid works in units of half the input's width: a shift by a share s of the width is 2 s.
    shift = 2 * rules.translate * signed[:, 12 : 12 + dimensions]
    return torch.cat([matrix, shift.unsqueeze(-1)], dim=-1)
