"""What may happen to a scan on its way: noise, blur, contrast, resolution, rotation, lost slices; three strengths."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.domain import Volume
from pipeline.model.preprocess import resample

Changed = Callable[[Volume, float, NDArray[np.float64], np.random.Generator], Volume]
"""From a volume, a strength, the size of the model's voxels in voxels of the scan (along i, j, k), and chance."""


@dataclass(frozen=True, slots=True)
class Disturbance:
    """One kind of change.

    Attributes:
        strengths: Mild, medium, strong.
        unit: What a strength counts, as it is shown ("{:g} %").
        volumes_only: Needs slices.
    """

    change: Changed
    strengths: tuple[float, float, float]
    unit: str
    volumes_only: bool = False

    def shown(self, strength: float) -> str:
        """The strength in words."""
        return self.unit.format(strength)


def noise(volume: Volume, percent: float, _: NDArray[np.float64], rng: np.random.Generator) -> Volume:
    """Gaussian noise; its standard deviation is a share of the intensities' span."""
    sigma = percent / 100 * np.diff(span(volume))[0]
    return replace(volume, voxels=volume.voxels + rng.normal(0, sigma, volume.voxels.shape).astype(np.float32))


def blur(volume: Volume, voxels: float, steps: NDArray[np.float64], _: np.random.Generator) -> Volume:
    """A Gaussian blur, in voxels of the model: what it can't see anyway is no disturbance."""
    sigma = [voxels * step if n > 1 else 0.0 for step, n in zip(steps, volume.shape, strict=True)]
    sigma += [0.0] * (volume.voxels.ndim - 3)
    return replace(volume, voxels=ndimage.gaussian_filter(volume.voxels, sigma, mode="nearest"))


def contrast(volume: Volume, percent: float, _: NDArray[np.float64], __: np.random.Generator) -> Volume:
    """Less contrast about the middle of the span, and brighter by half as much."""
    low, high = span(volume)
    middle, share = (low + high) / 2, percent / 100
    changed = middle + (1 - share) * (volume.voxels - middle) + share / 2 * (high - low)
    return replace(volume, voxels=changed.astype(np.float32))


def coarser(volume: Volume, factor: float, steps: NDArray[np.float64], _: np.random.Generator) -> Volume:
    """The scan on a grid that is coarser than the model's by this factor."""
    per_axis = np.where(np.array(volume.shape) > 1, np.maximum(steps * factor, 1.0), 1.0)
    shape = np.maximum(np.round(np.array(volume.shape) / per_axis), 1).astype(int)
    per_axis = np.array(volume.shape) / shape
    grid = volume.affine.copy()
    grid[:3, :3] = volume.affine[:3, :3] * per_axis
    grid[:3, 3] += volume.affine[:3, :3] @ ((per_axis - 1) / 2)
    i, j, k = shape
    colours = volume.voxels[..., None] if volume.voxels.ndim == 3 else volume.voxels
    layers = [
        resample(np.ascontiguousarray(colours[..., c]), volume.affine, grid, (i, j, k)).transpose(2, 1, 0)
        for c in range(colours.shape[-1])
    ]
    voxels = np.stack(layers, axis=-1)
    return replace(volume, voxels=voxels[..., 0] if volume.voxels.ndim == 3 else voxels, affine=grid)


def rotation(volume: Volume, degrees: float, _: NDArray[np.float64], __: np.random.Generator) -> Volume:
    """A turn in the plane of the picture, or of the axial slices."""
    thin = [axis for axis in (2, 1, 0) if volume.shape[axis] == 1]
    first, second = (axis for axis in range(3) if axis != (thin[0] if thin else 2))
    turned = ndimage.rotate(
        volume.voxels, degrees, axes=(first, second), reshape=False, order=1, mode="constant",
        cval=float(volume.voxels.min()),
    )  # fmt: skip
    return replace(volume, voxels=turned)


def missing_slices(volume: Volume, percent: float, _: NDArray[np.float64], rng: np.random.Generator) -> Volume:
    """Some slices lost, filled in between their neighbours as `read.allow_gaps` does; the outermost two stay."""
    n = volume.shape[2]
    lost = rng.permutation(np.arange(1, n - 1))[: round(percent / 100 * n)]
    kept = np.setdiff1d(np.arange(n), lost)
    at = np.interp(np.arange(n), kept, np.arange(len(kept)))
    below = np.minimum(at.astype(int), max(len(kept) - 2, 0))
    share = (at - below).astype(np.float32).reshape(1, 1, n, *[1] * (volume.voxels.ndim - 3))
    left = volume.voxels[:, :, kept]
    above = np.minimum(below + 1, len(kept) - 1)
    return replace(volume, voxels=left[:, :, below] * (1 - share) + left[:, :, above] * share)


def span(volume: Volume) -> tuple[float, float]:
    """Where the middle 98 % of the intensities lie."""
    low, high = np.percentile(volume.voxels, (1, 99))
    return float(low), float(high)


DISTURBANCES = {
    "noise": Disturbance(noise, (2, 5, 10), "{:g} % of the span"),
    "blur": Disturbance(blur, (0.5, 1, 2), "{:g} model voxels"),
    "contrast": Disturbance(contrast, (10, 20, 40), "{:g} % less"),
    "resampling": Disturbance(coarser, (1.5, 2, 3), "{:g} times coarser"),
    "rotation": Disturbance(rotation, (3, 7, 15), "{:g} degrees"),
    "missing slices": Disturbance(missing_slices, (10, 25, 50), "{:g} % lost", volumes_only=True),
}
