"""Random movements of inputs: one affine and, if asked, one elastic change in a single interpolation."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.sections import AugmentSection

AXIS = {"x": 0, "y": 1, "z": 2}
MOST_ROWS = 2**14
"""Of a volume's slices one below the other: up to here float32 tells a row to a thousandth (128 slices of 128 rows)."""


def warp(batch: Tensor, theta: Tensor | None, bend: Tensor | None) -> Tensor:
    """The batch [n, channel, (z,) y, x] sampled where the affine and the control points lead; edges are repeated.

    Args:
        theta: [n, d, d + 1] for `affine_grid`, or None.
        bend: [n, d, 4, 4(, 4)] displacements along x, y(, z) in half widths, smooth between the points; or None.
    """
    if theta is None and bend is None:
        return batch
    d = batch.ndim - 2
    whole = torch.eye(d, d + 1).expand(len(batch), -1, -1) if theta is None else theta
    grid = affine_grid(whole.to(batch), batch.shape[2:])
    if bend is not None:
        grid = grid + _field(bend.to(batch), batch.shape[2:]).movedim(1, -1)
    if d == 3 and batch.device.type == "cpu" and batch.shape[2] * batch.shape[3] <= MOST_ROWS:
        return torch.stack([_sampled(volume, places) for volume, places in zip(batch, grid, strict=True)])
    return functional.grid_sample(batch, grid, padding_mode="border", align_corners=False)


def _sampled(volume: Tensor, grid: Tensor) -> Tensor:
    """A volume [channel, z, y, x] at places [z, y, x, 3], as `grid_sample` has it, in half of its CPU time.

    On a CPU torch samples pictures with vector instructions, volumes without. So the slices are put one below the
    other as a tall picture, with each slice's upper neighbour as a further channel; what is found there in both is
    mixed by height.
    """
    channels, depth, height, width = volume.shape
    x, y, z = grid.unbind(-1)
    level = ((z + 1) * (depth / 2)).sub_(0.5).clamp_(0, depth - 1)
    below = level.floor()
    row = ((y + 1) * (height / 2)).sub_(0.5).clamp_(0, height - 1).add_(below, alpha=height)
    places = torch.stack([x, (2 * row + 1).div_(depth * height).sub_(1)], dim=-1).view(1, -1, width, 2)
    pairs = torch.cat([volume, volume[:, 1:], volume[:, -1:]], dim=1).view(1, 2 * channels, depth * height, width)
    found = functional.grid_sample(pairs, places, padding_mode="border", align_corners=False)
    lower, upper = found.view(channels, 2, depth, height, width).unbind(1)
    return torch.lerp(lower, upper, level.sub_(below))


def _field(bend: Tensor, shape: Sequence[int]) -> Tensor:
    """Displacements [n, d, (z,) y, x] between control points: cubic in pictures, linear in volumes.

    As torch's `interpolate` with align_corners=True, which reads eight points for every voxel of a volume; one axis
    after the other takes a seventh of the time.
    """
    if len(shape) == 2:
        return functional.interpolate(bend, list(shape), mode="bicubic", align_corners=True)
    points = torch.arange(bend.shape[-1], device=bend.device, dtype=bend.dtype)
    for n in shape:
        at = torch.linspace(0, len(points) - 1, n, device=bend.device, dtype=bend.dtype)
        weights = (1 - (at.unsqueeze(1) - points).abs()).clamp(min=0)
        bend = torch.tensordot(bend, weights, dims=([2], [1]))  # the axis leaves its place and comes back as the last
    return bend


def affine_grid(theta: Tensor, shape: Sequence[int]) -> Tensor:
    """[n, (z,) y, x, d] coordinates of theta [n, d, d + 1], as torch's `affine_grid` with align_corners=False.

    Torch multiplies a matrix for every voxel, which in 3D takes half as long as the sampling itself; the sum of one
    line an axis is the same in a twentieth of the time.
    """
    d = len(shape)
    grid = theta[:, :, d].reshape(len(theta), d, *[1] * d)
    for axis, n in enumerate(reversed(shape)):
        centres = (2 * torch.arange(n, device=theta.device, dtype=theta.dtype) + 1) / n - 1
        line = theta[:, :, axis, None] * centres
        grid = grid + line.view(len(theta), d, *[1] * (d - 1 - axis), n, *[1] * axis)
    return grid.movedim(1, -1)


def random_affine(rules: AugmentSection, widths: Tensor, u: Tensor) -> Tensor | None:
    """[batch, d, d + 1] flips, turns, scalings and shifts; None where none is asked for.

    Args:
        widths: [d] or [batch, d] widths of the inputs along x, y(, z), in any unit.
        u: [batch, 16] random numbers, uniform in 0 to 1.
    """
    if not (rules.flip_axes or rules.rotate_degrees or rules.scale or rules.translate):
        return None
    n, dimensions, signed = len(u), widths.shape[-1], 2 * u - 1
    matrix = torch.eye(dimensions).expand(n, -1, -1)
    angles = math.radians(rules.rotate_degrees) * signed
    planes = [(0, 1)] if dimensions == 2 else [(0, 1), (0, 2), (1, 2)]
    for column, (a, b) in enumerate(planes):
        turn = torch.eye(dimensions).repeat(n, 1, 1)
        turn[:, a, a] = turn[:, b, b] = torch.cos(angles[:, column])
        turn[:, a, b] = -torch.sin(angles[:, column])
        turn[:, b, a] = torch.sin(angles[:, column])
        matrix = matrix @ turn
    # affine_grid measures each axis in half widths: turn in true lengths, so that an oblong input is not sheared.
    matrix = torch.diag_embed(1 / widths) @ matrix @ torch.diag_embed(widths)
    matrix = matrix * (1 + rules.scale * signed[:, 3]).view(-1, 1, 1)
    mirror = torch.ones(n, dimensions)
    for name in rules.flip_axes:
        if AXIS[name] < dimensions:
            mirror[:, AXIS[name]] = torch.where(u[:, 4 + AXIS[name]] < 0.5, -1.0, 1.0)
    matrix = matrix @ torch.diag_embed(mirror)
    # affine_grid works in units of half the input's width: a shift by a share s of the width is 2 s.
    shift = 2 * rules.translate * signed[:, 12 : 12 + dimensions]
    return torch.cat([matrix, shift.unsqueeze(-1)], dim=-1)
