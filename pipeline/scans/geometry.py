"""Where slices lie: their order, their affine, or the reason why they are no volume. Pure numpy, no files."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from pipeline.domain import Affine, Reason, ScanError, Voxels

Array = NDArray[np.float64]

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])
"""DICOM's patient frame has x to the Left and y to Posterior; ours has Right and Anterior."""

PICTURE = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
"""Orientation of a picture without a patient frame: as an axial slice seen from the feet."""

UNIT_TOLERANCE = 1e-3
"""How far ImageOrientationPatient may be from two orthogonal unit vectors (values are written with few decimals)."""

STEP_TOLERANCE = (0.01, 0.01)
"""Slice steps may differ by 1 % or 0.01 mm from their median, whichever is more."""

DRIFT_TOLERANCE_MM = 0.1
"""How far a slice may lie beside the straight line through all slice positions."""

OFF_GRID = (0.1, 0.1)
"""Small differences may add up: a slice may lie 10 % of a step or 0.1 mm off its place on the even grid."""

MADE_UP = 2
"""A grid over gaps has at most so many times as many slices as there are: else most of them would be made up."""

SAME_PLACE_MM = 0.01
"""Positions nearer than this are the same position."""

TILT = 0.01
"""In-plane shift per slice, as a share of the step, above which a stack counts as tilted (0.6 degrees)."""


@dataclass(frozen=True, slots=True)
class Stack:
    """Slices in order, and their grid.

    Attributes:
        order: Indices of the slices as given, along the normal.
        affine: 4x4, voxel index (column, row, slice) to RAS+ mm.
        warnings: `gantry_tilt` and `gaps_filled` where they hold.
        places: Where each slice of the even grid lies among the ordered slices (2.5: midway between the third and
            the fourth); None when the slices are the grid.
    """

    order: NDArray[np.intp]
    affine: Affine
    warnings: tuple[str, ...] = ()
    places: Array | None = None


def slice_normal(orientation: Sequence[float]) -> Array:
    """Unit vector at right angles to a slice, LPS+: row direction x column direction.

    Raises:
        ScanError: bad_geometry, unless the six cosines are two orthogonal unit vectors.
    """
    cosines = np.asarray(orientation, dtype=np.float64)
    if cosines.shape != (6,) or not np.isfinite(cosines).all():
        raise ScanError(Reason.BAD_GEOMETRY, "ImageOrientationPatient needs six finite numbers")
    row, column = cosines[:3], cosines[3:]
    errors = (abs(row @ row - 1) / 2, abs(column @ column - 1) / 2, abs(row @ column))
    if max(errors) > UNIT_TOLERANCE:
        raise ScanError(
            Reason.BAD_GEOMETRY,
            f"ImageOrientationPatient must hold two orthogonal unit vectors; they are off by {max(errors):.3g}",
        )
    normal: Array = np.cross(row, column)
    return normal / np.linalg.norm(normal)


def plane_affine(
    orientation: Sequence[float],
    spacing_mm: Sequence[float],
    position_mm: Sequence[float],
    step_mm: Sequence[float] | Array,
) -> Affine:
    """Map voxel index (column, row, slice) to RAS+ millimetres.

    Args:
        orientation: ImageOrientationPatient: direction of the rows, then of the columns, LPS+.
        spacing_mm: PixelSpacing: distance between rows, then between columns.
        position_mm: ImagePositionPatient of the first slice: centre of its first pixel, LPS+.
        step_mm: Vector from one slice position to the next, LPS+; never SliceThickness.

    DICOM PS3.3 C.7.6.2.1.1, equation C.7.6.2.1-1, then x and y negated.
    """
    spacing = np.asarray(spacing_mm, dtype=np.float64)
    if spacing.shape != (2,) or not np.isfinite(spacing).all() or (spacing <= 0).any():
        raise ScanError(Reason.BAD_SPACING, "PixelSpacing needs two positive numbers")
    cosines = np.asarray(orientation, dtype=np.float64)
    affine = np.eye(4)
    affine[:3, 0] = LPS_TO_RAS @ cosines[:3] * spacing[1]
    affine[:3, 1] = LPS_TO_RAS @ cosines[3:] * spacing[0]
    affine[:3, 2] = LPS_TO_RAS @ np.asarray(step_mm, dtype=np.float64)
    affine[:3, 3] = LPS_TO_RAS @ np.asarray(position_mm, dtype=np.float64)
    return affine


def same_place(positions_mm: Sequence[Sequence[float]] | Array) -> list[list[int]]:
    """Indices of positions that coincide (to 0.01 mm), each group in the order given; most groups hold one."""
    places: dict[tuple[int, ...], list[int]] = {}
    points = np.asarray(positions_mm, dtype=np.float64).reshape(-1, 3)
    if not np.isfinite(points).all() or (np.abs(points) > 1e7).any():
        raise ScanError(Reason.BAD_GEOMETRY, "ImagePositionPatient needs finite numbers")
    for index, point in enumerate(np.rint(points / SAME_PLACE_MM).astype(np.int64)):
        places.setdefault(tuple(point.tolist()), []).append(index)
    return _merged(list(places.values()), points)


def _merged(places: list[list[int]], points: Array) -> list[list[int]]:
    """The same groups, those as one that rounding alone has put on two sides of a border."""
    firsts = points[[group[0] for group in places]]
    along = np.sort(firsts[:, np.ptp(firsts, axis=0).argmax()]) if len(firsts) else firsts[:, 0]
    if len(along) < 2 or np.diff(along).min() > SAME_PLACE_MM / 2:
        return places
    from scipy.spatial import cKDTree  # rarely needed

    home = list(range(len(places)))
    for low, high in sorted(cKDTree(firsts).query_pairs(SAME_PLACE_MM / 2)):
        home[high] = min(home[high], home[low])
    merged: dict[int, list[int]] = {}
    for group, first in zip(places, home, strict=True):
        merged.setdefault(first, []).extend(group)
    return [sorted(group) for group in merged.values()]


def stack(
    orientation: Sequence[float],
    positions_mm: Sequence[Sequence[float]] | Array,
    spacing_mm: Sequence[float],
    thickness_mm: float = 1.0,
    allow_gaps: bool = False,
) -> Stack:
    """Put slices of one orientation in order and find their affine, from positions alone.

    Args:
        orientation: ImageOrientationPatient of all slices.
        positions_mm: ImagePositionPatient of each slice, in any order, no two at one place; [n, 3], LPS+.
        spacing_mm: PixelSpacing of all slices.
        thickness_mm: Extent along the normal of a lone slice; not used for two or more.
        allow_gaps: Lay an even grid over uneven steps instead of refusing them.

    Raises:
        ScanError: missing_slices, bad_spacing (uneven steps), bad_geometry (positions that don't follow the normal),
            conflicting_slices (two slices at one place), ambiguous_volume (volumes in each other, with allow_gaps).
    """
    normal = slice_normal(orientation)
    positions = np.asarray(positions_mm, dtype=np.float64).reshape(-1, 3)
    if any(len(group) > 1 for group in same_place(positions)):
        raise ScanError(Reason.CONFLICTING_SLICES, "two slices lie at the same position")
    heights = positions @ normal
    order = np.argsort(heights, kind="stable")
    positions, heights = positions[order], heights[order]
    if len(positions) == 1:
        return Stack(order, plane_affine(orientation, spacing_mm, positions[0], normal * thickness_mm))
    steps = np.diff(heights)
    _check_along_normal(positions, heights)
    places = None
    if not _even(steps):
        if not allow_gaps:
            raise _uneven(steps)
        places = _even_places(heights)
    step = (positions[-1] - positions[0]) / ((len(positions) if places is None else len(places)) - 1)
    affine = plane_affine(orientation, spacing_mm, positions[0], step)
    warnings = ("gantry_tilt",) * is_tilted(affine) + ("gaps_filled",) * (places is not None)
    return Stack(order, affine, warnings, places)


def is_tilted(affine: Affine) -> bool:
    """Whether the third voxel axis leans from the normal of the first two by more than 0.6 degrees."""
    normal, step = np.cross(affine[:3, 0], affine[:3, 1]), affine[:3, 2]
    upright = normal * (step @ normal) / (normal @ normal)
    return bool(np.linalg.norm(step - upright) > TILT * np.linalg.norm(step))


def _even(steps: Array) -> bool:
    median = float(np.median(steps))
    if np.abs(steps - median).max() > max(STEP_TOLERANCE[0] * median, STEP_TOLERANCE[1]):
        return False
    off = np.abs(np.cumsum(steps - steps.mean())).max()
    return bool(off <= max(OFF_GRID[0] * median, OFF_GRID[1]))


def _check_along_normal(positions: Array, heights: Array) -> None:
    """Refuse stacks that lean by more than 45 degrees or whose slices leave the straight line."""
    span, rise = positions[-1] - positions[0], heights[-1] - heights[0]
    if rise <= SAME_PLACE_MM or np.diff(heights).min() <= 0 or rise < np.linalg.norm(span) * np.sqrt(0.5):
        raise ScanError(Reason.BAD_GEOMETRY, "slice positions don't advance along the slice normal")
    line = positions[0] + np.outer((heights - heights[0]) / rise, span)
    drift = float(np.linalg.norm(positions - line, axis=1).max())
    if drift > DRIFT_TOLERANCE_MM:
        raise ScanError(
            Reason.BAD_GEOMETRY,
            f"slice positions leave a straight line by {drift:.3g} mm (at most {DRIFT_TOLERANCE_MM} mm)",
        )


def _uneven(steps: Array) -> ScanError:
    usual, largest = float(np.median(steps)), float(steps.max())
    multiples = steps / steps.min()
    if largest >= 1.5 * usual or (np.abs(multiples - np.rint(multiples)).max() < 0.1 and multiples.max() >= 1.5):
        return ScanError(
            Reason.MISSING_SLICES,
            f"slice positions step by {usual:.4g} mm, but by {largest:.4g} mm after slice {int(steps.argmax()) + 1} of "
            f"{len(steps) + 1}; export the series again, or set read.allow_gaps",
        )
    return ScanError(
        Reason.BAD_SPACING,
        f"slice steps vary from {float(steps.min()):.4g} to {largest:.4g} mm; expected within 1 % or 0.01 mm of "
        f"{usual:.4g} mm, and on an even grid. Set read.allow_gaps to resample on one",
    )


def _even_places(heights: Array) -> Array:
    """Places of an even grid from the first to the last slice, about as fine as the usual step.

    Raises:
        ScanError: missing_slices, if most of its slices would be made up; ambiguous_volume for volumes in each other.
    """
    rise = heights[-1] - heights[0]
    usual = float(np.median(np.diff(heights)))
    n_slices = round(rise / usual) + 1
    if any(_in_each_other(heights, n) for n in (2, 3)):
        raise ScanError(
            Reason.AMBIGUOUS_VOLUME, "the slices lie like those of several volumes in each other; separate them first"
        )
    if n_slices > MADE_UP * len(heights):
        raise ScanError(
            Reason.MISSING_SLICES,
            f"an even grid would have {n_slices} slices, of which {len(heights)} exist; export the series again",
        )
    even = np.linspace(heights[0], heights[-1], max(n_slices, 2))
    places: Array = np.interp(even, heights, np.arange(len(heights), dtype=np.float64))
    return places


def _in_each_other(heights: Array, n: int) -> bool:
    """Whether uneven slices are n even stacks of at least three slices, each shifted against the others."""
    steps = np.diff(heights)
    shifted = len(heights) >= 3 * n and steps.min() < 0.8 * steps.max()
    return bool(shifted and all(_even(np.diff(heights[i::n])) for i in range(n)))


def spread_evenly(slices: Voxels, places: Array) -> Voxels:
    """Slices [slice, ...] at fractional places, linear between neighbours; float32 [place, ...]."""
    below = np.clip(np.floor(places + 1e-9).astype(np.intp), 0, len(slices) - 1)
    above = np.minimum(below + 1, len(slices) - 1)
    share = np.clip(places - below, 0, 1).astype(np.float32)
    even: Voxels = np.empty((len(places), *slices.shape[1:]), np.float32)
    for one, i, j, part in zip(even, below, above, share, strict=True):  # all at once would take four volumes' memory
        np.multiply(slices[i], 1 - part, out=one)
        np.add(one, slices[j] * part, out=one)
    return even


def to_closest_ras(voxels: Voxels, affine: Affine) -> tuple[Voxels, Affine, str]:
    """The same voxels with i, j, k as near as possible to Right, Anterior, Superior, and the axis codes before.

    Axes are only flipped and swapped (the array is a view of the one given): every voxel keeps its place.

    Args:
        voxels: [i, j, k], or [i, j, k, 3] in colour.
        affine: 4x4, voxel index to RAS+ mm.

    Raises:
        ScanError: bad_geometry, if the affine is singular or not finite.
    """
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        raise ScanError(Reason.BAD_GEOMETRY, "the affine needs 4x4 finite numbers")
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if lengths.min() <= 0 or abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-6:
        raise ScanError(
            Reason.BAD_GEOMETRY, "the affine is singular: two voxel axes run in one direction, or an axis has no length"
        )
    cosines = affine[:3, :3] / lengths
    # world axis of each voxel axis: the one assignment of the six that lies nearest
    world = max(permutations(range(3)), key=lambda axes: sum(abs(cosines[axes[i], i]) for i in range(3)))
    code = "".join(("LPI" if cosines[axis, i] < 0 else "RAS")[axis] for i, axis in enumerate(world))
    change = np.zeros((4, 4))
    change[3, 3] = 1
    flips: list[slice] = []
    for i, axis in enumerate(world):
        backwards = bool(cosines[axis, i] < 0)
        flips.append(slice(None, None, -1 if backwards else 1))
        change[i, axis] = -1 if backwards else 1
        change[i, 3] = voxels.shape[i] - 1 if backwards else 0
    axes = [world.index(axis) for axis in range(3)] + list(range(3, voxels.ndim))
    return voxels[tuple(flips)].transpose(axes), affine @ change, code
