"""Random changes of training inputs, batched on the device: one function draws, others apply."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pipeline.model.warp import random_affine, warp
from pipeline.sections import AugmentSection

KERNEL_SIGMAS = 3
"""A Gaussian is cut off after this many standard deviations."""
SHARE = 0.5
"""How often blur, low resolution and cutout happen to a sample, where they are asked for."""
STILL = [k for k in range(16) if k not in (4, 5, 6)]
"""Random numbers of a sample without those of its mirror images: where they are 0.5, nothing turns, grows or moves."""


@dataclass(frozen=True, slots=True)
class Augmentation:
    """What was drawn for one batch; axes run x, y(, z).

    Attributes:
        theta: [batch, d, d + 1] affine for `affine_grid`, or None for no affine change.
        bend: [batch, d, 4, 4(, 4)] displacements at control points in half widths, or None.
        gain, offset, noise: [batch] factors and summands of the intensity, standard deviations of the noise.
        blur: [batch] standard deviations in voxels. coarse: [batch] factors by which the resolution falls.
        hole: [batch, 2, d] lowest and highest corner of a box, as shares of the width; None for no boxes.
        mix: [batch] share that a sample keeps when it is mixed with the next one of its batch, or None.
        seeds: One a sample, for its noise.
    """

    theta: Tensor | None
    bend: Tensor | None
    gain: Tensor
    offset: Tensor
    noise: Tensor
    blur: Tensor
    coarse: Tensor
    hole: Tensor | None
    mix: Tensor | None
    seeds: tuple[int, ...]


def sample_seed(seed: int, epoch: int, index: int) -> int:
    """A seed of its own for each (epoch, sample): worker count, batch order and resume do not change the stream."""
    return ((seed * 1_000_003 + epoch) * 1_000_003 + index) % 2**63


def draw(
    rules: AugmentSection, widths: Sequence[float] | Tensor, seed: int, epoch: int, indices: Sequence[int]
) -> Augmentation:
    """Random parameters for the samples `indices` of one batch.

    Args:
        widths: How wide the inputs are along x, y(, z), in any unit; [n, d] if each has widths of its own.
    """
    widths = torch.as_tensor(widths, dtype=torch.float32)
    d = widths.shape[-1]
    seeds = tuple(sample_seed(seed, epoch, int(index)) for index in indices)
    streams = [torch.Generator().manual_seed(s) for s in seeds]
    u = torch.stack([torch.rand(16, generator=stream) for stream in streams])
    v = torch.stack([torch.rand(3 + 2 * d, generator=stream) for stream in streams])
    bend = torch.stack([torch.rand(d, *[4] * d, generator=stream) for stream in streams]) if rules.elastic else None
    changed = torch.cat([torch.rand(1, generator=stream) for stream in streams]) < rules.probability
    u[:, STILL] = torch.where(changed.unsqueeze(1), u[:, STILL], 0.5)
    signed, sometimes = 2 * u - 1, (v[:, :3] < SHARE).float() * changed.unsqueeze(1)
    edge = rules.cutout * sometimes[:, 2:] * v[:, 3 : 3 + d]
    corner = v[:, 3 + d :] * (1 - edge)
    return Augmentation(
        theta=random_affine(rules, widths, u),
        bend=None if bend is None else 2 * rules.elastic * (2 * bend - 1) * changed.view(-1, *[1] * (d + 1)),
        gain=1 + rules.intensity * signed[:, 9],
        offset=rules.intensity * signed[:, 10],
        noise=rules.noise * u[:, 11] * changed,
        blur=rules.blur * sometimes[:, 0] * u[:, 15],
        coarse=1 + rules.low_resolution * sometimes[:, 1] * u[:, 7],
        hole=torch.stack([corner, corner + edge], dim=1) if rules.cutout else None,
        mix=_mixing_shares(rules.mixup, seeds) if rules.mixup else None,
        seeds=seeds,
    )


def apply(batch: Tensor, drawn: Augmentation) -> Tensor:
    """The batch [n, channel, (z,) y, x] after all that was drawn but the mixing; same parameters, same answer."""
    batch = warp(batch, drawn.theta, drawn.bend)
    if bool((drawn.blur > 0).any()):
        batch = blurred(batch, drawn.blur)
    if bool((drawn.coarse > 1).any()):
        batch = torch.cat([_coarsened(batch[k : k + 1], float(c)) for k, c in enumerate(drawn.coarse)])
    batch = torch.addcmul(_per_sample(drawn.offset, batch), batch, _per_sample(drawn.gain, batch))
    if bool((drawn.noise > 0).any()):
        batch = batch + _noise(batch, drawn.seeds) * _per_sample(drawn.noise, batch)
    return batch if drawn.hole is None else _cut_out(batch, drawn.hole.to(batch))


def mix(batch: Tensor, targets: Tensor, drawn: Augmentation) -> tuple[Tensor, Tensor]:
    """Inputs and targets [n, finding] of which each is a mixture with the next of its batch (Zhang 2018).

    A label that either of the two lacks (NaN) is missing in the mixture.
    """
    if drawn.mix is None:
        return batch, targets
    share = _per_sample(drawn.mix, batch)
    kept = drawn.mix.to(targets).unsqueeze(1)
    return (
        share * batch + (1 - share) * batch.roll(-1, 0),
        kept * targets + (1 - kept) * targets.roll(-1, 0),
    )


def blurred(batch: Tensor, sigmas: Tensor) -> Tensor:
    """Each sample [channel, (z,) y, x] smoothed by a Gaussian of its own standard deviation, in voxels."""
    radius = max(1, round(KERNEL_SIGMAS * float(sigmas.max())))
    at = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernels = torch.exp(-0.5 * (at / sigmas.clamp(min=1e-3).unsqueeze(1)) ** 2)
    kernels = (kernels / kernels.sum(1, keepdim=True)).to(batch).repeat_interleave(batch.shape[1], 0)
    spatial, d = batch.shape[2:], batch.ndim - 2
    convolve = functional.conv2d if d == 2 else functional.conv3d
    groups = batch.reshape(1, -1, *spatial)
    for axis in range(d):
        pad, shape = [0] * (2 * d), [len(kernels), 1, *[1] * d]
        pad[2 * (d - 1 - axis)] = pad[2 * (d - 1 - axis) + 1] = radius
        shape[2 + axis] = 2 * radius + 1
        groups = convolve(functional.pad(groups, pad, mode="replicate"), kernels.view(shape), groups=len(kernels))
    return groups.reshape(batch.shape)


def _coarsened(sample: Tensor, factor: float) -> Tensor:
    """One sample [1, channel, (z,) y, x] at a resolution lower by `factor`, back on its own grid."""
    if factor <= 1:
        return sample
    spatial = sample.shape[2:]
    mode = "bilinear" if len(spatial) == 2 else "trilinear"
    small = functional.interpolate(sample, [max(1, round(n / factor)) for n in spatial], mode="nearest-exact")
    return functional.interpolate(small, list(spatial), mode=mode, align_corners=False)


def _cut_out(batch: Tensor, hole: Tensor) -> Tensor:
    """The batch with a box of each sample set to that sample's mean (DeVries 2017)."""
    inside = torch.ones_like(batch[:, :1], dtype=torch.bool)
    for axis in range(hole.shape[-1]):
        dimension = batch.ndim - 1 - axis
        centres = (torch.arange(batch.shape[dimension], device=batch.device) + 0.5) / batch.shape[dimension]
        within = (centres >= hole[:, 0, axis, None]) & (centres < hole[:, 1, axis, None])
        shape = [len(batch), *[1] * (batch.ndim - 1)]
        shape[dimension] = batch.shape[dimension]
        inside = inside & within.view(shape)
    return torch.where(inside, batch.mean(tuple(range(1, batch.ndim)), keepdim=True), batch)


def _noise(batch: Tensor, seeds: Sequence[int]) -> Tensor:
    where = batch.device
    streams = [torch.Generator(where).manual_seed(s) for s in seeds]
    return torch.stack([torch.randn(batch.shape[1:], generator=g, device=where) for g in streams]).to(batch)


def _mixing_shares(alpha: float, seeds: Sequence[int]) -> Tensor:
    """Shares from Beta(alpha, alpha), folded so that each sample keeps at least half of itself."""
    shares = np.array([np.random.default_rng(s).beta(alpha, alpha) for s in seeds], dtype=np.float32)
    return torch.from_numpy(np.maximum(shares, 1 - shares))


def _per_sample(values: Tensor, batch: Tensor) -> Tensor:
    return values.to(batch).view(-1, *[1] * (batch.ndim - 1))
