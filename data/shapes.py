"""Soft shapes on a voxel grid, from signed distances in mm (negative inside)."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.domain import Affine

Field: TypeAlias = NDArray[np.float32]
"""One number a voxel [i, j, k]: signed distances in mm, or shares of a voxel in 0..1."""

Point: TypeAlias = NDArray[np.float64]
"""x, y, z in mm, RAS+."""

Tube: TypeAlias = tuple[Point, Point, float, float]
"""Start, end, radius at the start, radius at the end."""


@dataclass(frozen=True)
class Grid:
    """Voxel centres, and how soft an edge is on this grid."""

    x: Field
    y: Field
    z: Field
    soft_mm: float

    @classmethod
    def of(cls, shape: tuple[int, int, int], affine: Affine, shift: tuple[float, float, float]) -> "Grid":
        """The grid of an axis-aligned affine, seen from a patient who lies `shift` mm off its origin."""
        x, y, z = (
            (affine[axis, 3] - shift[axis] + affine[axis, axis] * np.arange(shape[axis])).astype(np.float32)
            for axis in range(3)
        )
        return cls(x[:, None, None], y[None, :, None], z[None, None, :], float(abs(affine[0, 0])))

    def at(self, points: Point) -> "Grid":
        """Single points [n, 3] in place of a box: what is computed on it has the shape [n, 1, 1]."""
        x, y, z = points.astype(np.float32).T[:, :, None, None]
        return Grid(x, y, z, self.soft_mm)

    def share(self, distance: Field) -> Field:
        """How much of each voxel lies inside, from the signed distance to the border."""
        return np.asarray(np.clip(0.5 - distance / self.soft_mm, 0, 1), dtype=np.float32)

    def box(self, low: Point, high: Point) -> tuple[tuple[slice, slice, slice], "Grid"]:
        """The index box of all voxels between two corners, and its grid."""
        axes = (self.x.ravel(), self.y.ravel(), self.z.ravel())
        cut = tuple(
            slice(int(np.searchsorted(axis, a)), int(np.searchsorted(axis, b, side="right")))
            for axis, a, b in zip(axes, low, high, strict=True)
        )
        i, j, k = cut
        return (i, j, k), Grid(self.x[i], self.y[:, j], self.z[:, :, k], self.soft_mm)


def fill(hu: Field, share: Field, value: float | NDArray[np.floating]) -> None:
    """Fill a share of each voxel with a tissue, in place."""
    hu += share * (np.float32(value) - hu)


def oval(u: Field, v: Field, half_u: float | Field, half_v: float, power: float = 2.0) -> Field:
    """Signed distance (about) to a super-ellipse in the plane of u and v."""
    radius = (np.abs(u / half_u) ** power + np.abs(v / half_v) ** power) ** (1 / power)
    return np.asarray((radius - 1) * half_v, dtype=np.float32)


def tubes_share(grid: Grid, tubes: list[Tube]) -> Field:
    """Share of each voxel that lies in any of the tubes (start, end, radius at the start, radius at the end)."""
    share = np.zeros((grid.x.size, grid.y.size, grid.z.size), dtype=np.float32)
    for tube in tubes:
        start, end, *radii = tube
        reach = max(radii) + grid.soft_mm
        cut, local = grid.box(np.minimum(start, end) - reach, np.maximum(start, end) + reach)
        part = share[cut]
        if part.size:
            np.maximum(part, local.share(tube_distance(local, tube)), out=part)
    return share


def tube_distance(grid: Grid, tube: Tube) -> Field:
    """Signed distance to a tapering tube with round ends."""
    start, end, wide, narrow = tube
    ax, ay, az = (end - start).tolist()
    dx, dy, dz = (axis - np.float32(at) for axis, at in zip((grid.x, grid.y, grid.z), start, strict=True))
    along = np.clip((dx * ax + dy * ay + dz * az) / np.float32(ax * ax + ay * ay + az * az), 0, 1)
    off = np.sqrt((dx - along * ax) ** 2 + (dy - along * ay) ** 2 + (dz - along * az) ** 2)
    return np.asarray(off - (wide + (narrow - wide) * along), dtype=np.float32)


def waves(grid: Grid, height: float, rng: np.random.Generator, length: float = 40.0) -> Field:
    """A smooth random field with values of about +-`height`: three plane waves of about the given length."""
    field = np.zeros((1, 1, 1), dtype=np.float32)
    for _ in range(3):
        kx, ky, kz = (rng.normal(size=3) * 2 * np.pi / length / np.sqrt(3)).astype(np.float32)
        phase = np.float32(rng.uniform(0, 2 * np.pi))
        field = field + np.cos(grid.x * kx + grid.y * ky + (grid.z * kz + phase))
    return np.asarray(field * np.float32(height / np.sqrt(3)), dtype=np.float32)
