"""Volume -> model input: one grid, one resampling, one intensity rule. No torch, so that readers stay light."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.domain import Affine, ReadRules, Reason, Scan, ScanError, Volume
from pipeline.scans.find import read_volume
from pipeline.sections import PreprocessSection

PLANES = {2: ((0, -1), (1, -1)), 1: ((0, -1), (2, -1)), 0: ((1, -1), (2, -1))}
"""Thin voxel axis -> (axis, sign) of the picture's columns and rows, as radiologists show axial (feet view, patient's
right on the left), coronal (from the front) and sagittal (anterior on the left) slices."""
VOLUME_AXES = ((0, -1), (1, -1), (2, 1))
"""(axis, sign) of x, y, z of a 3D input: Right->Left, Anterior->Posterior, Inferior->Superior."""


@dataclass(frozen=True, slots=True)
class ModelInput:
    """What the network sees.

    Attributes:
        array: float32 [channel, y, x] or [channel, z, y, x].
        affine: 4x4, index (x, y, z) of the array to RAS+ millimetres; in 2D z is the slice's own axis.
        warnings: Those of the volume.
    """

    array: NDArray[np.float32]
    affine: Affine
    warnings: tuple[str, ...] = ()


def read_input(scan: Scan | Path, read: ReadRules, rules: PreprocessSection, channels: int = 1) -> ModelInput:
    """The model input of a scan on disk.

    Raises:
        ScanError: If the scan is refused by the reader or does not fit the model.
    """
    return preprocess(read_volume(scan, read), rules, channels)


def preprocess(volume: Volume, rules: PreprocessSection, channels: int = 1) -> ModelInput:
    """The volume resampled on the model's grid (linear, block means where it shrinks), intensities scaled.

    Raises:
        ScanError: If the volume has too few or too many slices, no spacing where the rules need one, colour in front
            of a gray model, or nothing but one value.
    """
    _check(volume, rules, channels)
    colours = volume.voxels[..., np.newaxis] if volume.voxels.ndim == 3 else volume.voxels
    grid = grid_affine(volume, rules)
    layers = [resample(colours[..., c], volume.affine, grid, grid_shape(rules)) for c in range(colours.shape[-1])]
    array = scale_intensity(np.stack(layers), rules)
    if len(rules.size) == 2:
        array = array[:, 0]
    if channels > array.shape[0]:
        array = np.repeat(array, channels, axis=0)
    return ModelInput(np.ascontiguousarray(array, dtype=np.float32), grid, volume.warnings)


def grid_shape(rules: PreprocessSection) -> tuple[int, int, int]:
    """Voxels of the model's grid along x, y, z (z is 1 in 2D)."""
    x, y, *z = rules.size
    return x, y, z[0] if z else 1


def grid_affine(volume: Volume, rules: PreprocessSection) -> Affine:
    """4x4 of the model's grid: centred on the volume, along its own (straightened) axes, index (x, y, z) to RAS mm."""
    axes = _signed_axes(volume.shape, rules)
    directions = _straight_directions(volume.affine)
    columns = np.stack([sign * directions[:, axis] for axis, sign in axes], axis=1)
    low, high = _extent_mm(volume, columns)
    shape = np.array(grid_shape(rules), dtype=float)
    spacing = (high - low) / shape
    if rules.spacing_mm is not None:
        spacing[: len(rules.spacing_mm)] = rules.spacing_mm
    affine = np.eye(4)
    affine[:3, :3] = columns * spacing
    affine[:3, 3] = columns @ ((low + high) / 2 - spacing * (shape - 1) / 2)
    return affine


def input_widths(shape: Sequence[float], spacing_mm: Sequence[float], rules: PreprocessSection) -> NDArray[np.float32]:
    """Width in mm along x, y(, z) of the input that a scan of so many voxels, so far apart along i, j, k, becomes."""
    if rules.spacing_mm is not None:
        return np.asarray(np.multiply(rules.size, rules.spacing_mm), dtype=np.float32)
    axes = [axis for axis, _ in _signed_axes(shape, rules)[: len(rules.size)]]
    return np.asarray(np.multiply(shape, spacing_mm)[axes], dtype=np.float32)


def resample(
    voxels: NDArray[np.float32],
    source: Affine,
    target: Affine,
    shape: tuple[int, int, int],
    outside: float | None = None,
) -> NDArray[np.float32]:
    """`voxels` [i, j, k] of affine `source` on the grid of affine `target`, as [z, y, x].

    Linear interpolation; where the target is coarser by a factor of 2 or more, means over whole blocks come first.
    Positions more than one voxel outside the outermost centres take `outside` (default: the smallest voxel); up to
    there the edge is repeated.
    """
    fill = float(voxels.min()) if outside is None else outside
    steps = np.linalg.norm((np.linalg.inv(source) @ target)[:3, :3], axis=1)
    voxels, source = _block_means(voxels, source, tuple(max(1, int(s + 1e-6)) for s in steps))
    to_source = np.linalg.inv(source) @ target
    inner = np.pad(voxels, 1, mode="edge")
    out = ndimage.affine_transform(
        inner, to_source[:3, :3], to_source[:3, 3] + 1, output_shape=shape, order=1, mode="constant", cval=fill,
        output=np.float32,
    )  # fmt: skip
    result: NDArray[np.float32] = out.transpose(2, 1, 0)
    return result


def scale_intensity(array: NDArray[np.float32], rules: PreprocessSection) -> NDArray[np.float32]:
    """The array after the intensity rule: window and minmax give 0..1, zscore mean 0 and standard deviation 1."""
    if rules.intensity == "window":
        low, high = rules.window
        return (np.clip(array, low, high) - low) / np.float32(high - low)
    if rules.intensity == "minmax":
        low, high = float(array.min()), float(array.max())
        return (array - low) / np.float32(max(high - low, 1e-6))
    return np.asarray((array - array.mean()) / np.float32(max(float(array.std()), 1e-6)))


def _check(volume: Volume, rules: PreprocessSection, channels: int) -> None:
    if volume.voxels.ndim == 4 and channels == 1:
        raise ScanError(Reason.COLOUR_NOT_SUPPORTED, "the scan is in colour, the model takes gray scale")
    thin = min(volume.shape)
    if len(rules.size) == 2 and thin != 1:
        raise ScanError(
            Reason.NOT_ONE_SLICE, f"the model takes one slice or radiograph, the scan has {thin} slices; "
            "use a model with dimensions: 3",
        )  # fmt: skip
    if len(rules.size) == 3 and thin < 2:
        raise ScanError(Reason.TOO_FEW_SLICES, "the model takes volumes, the scan is a single slice")
    if rules.spacing_mm is not None and "no_spacing" in volume.warnings:
        raise ScanError(Reason.NO_SPACING, "the model works at a fixed voxel spacing, the scan does not tell its own")


def _signed_axes(shape: Sequence[float], rules: PreprocessSection) -> tuple[tuple[int, int], ...]:
    if len(rules.size) == 3:
        return VOLUME_AXES
    thin = next((axis for axis in (2, 1, 0) if shape[axis] == 1), 2)
    return (*PLANES[thin], (thin, 1))


def _straight_directions(affine: Affine) -> NDArray[np.float64]:
    """Orthonormal [3, 3] (columns i, j, k): i as it is, j in the i-j plane, k normal to it (undoes a gantry tilt)."""
    i = affine[:3, 0] / np.linalg.norm(affine[:3, 0])
    k = np.cross(i, affine[:3, 1])
    k *= np.sign(k @ affine[:3, 2]) / np.linalg.norm(k)
    j = np.cross(k, i)
    j *= np.sign(j @ affine[:3, 1])
    return np.stack([i, j, k], axis=1)


def _extent_mm(volume: Volume, columns: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lowest and highest position of the volume's outer faces along each column, in mm from the RAS origin."""
    corners = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in volume.shape], indexing="ij")).reshape(3, -1)
    along = columns.T @ (volume.affine[:3, :3] @ corners + volume.affine[:3, 3:])
    return along.min(axis=1), along.max(axis=1)


def _block_means(
    voxels: NDArray[np.float32], affine: Affine, blocks: tuple[int, ...]
) -> tuple[NDArray[np.float32], Affine]:
    """Means over blocks of voxels and the affine of the coarser grid; a block cut off by the edge repeats the edge."""
    if max(blocks) == 1:
        return voxels, affine
    whole = voxels
    for axis in sorted(range(3), key=lambda axis: -abs(voxels.strides[axis])):  # the farthest apart first: it is fast
        if blocks[axis] > 1:
            whole = _means_along(whole, axis, blocks[axis])
    coarse = affine.copy()
    coarse[:3, :3] = affine[:3, :3] * blocks
    coarse[:3, 3] = affine[:3, 3] + affine[:3, :3] @ ((np.array(blocks) - 1) / 2)
    return whole, coarse


def _means_along(voxels: NDArray[np.float32], axis: int, block: int) -> NDArray[np.float32]:
    """Means over blocks along one axis, without a copy of the whole; see `_block_means` for the last one."""
    along = np.moveaxis(voxels, axis, 0)
    full = len(along) // block * block
    out = np.empty_like(along, shape=(-(-len(along) // block), *along.shape[1:]))  # in the same order of memory
    means = np.add(along[0:full:block], along[1:full:block], out=out[: full // block])
    for i in range(2, block):  # one voxel of every block at a time: far faster than `mean` over a short axis
        means += along[i:full:block]
    means /= np.float32(block)
    if rest := len(along) % block:
        out[-1] = (along[-rest:].sum(axis=0, dtype=np.float32) + (block - rest) * along[-1]) / np.float32(block)
    return np.moveaxis(out, 0, axis)
