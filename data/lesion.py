"""A lung nodule: where it lies, its shape, density and texture. The numbers below set how hard it is to find."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from data.shapes import Field, Grid, Point, fill, tube_distance, waves

NODULE_DIAMETER_MM = (30.0, 46.0)
"""Smallest and largest nodule: large ones, so that a small network learns them from scratch in a minute or two."""
NODULE_HU = (-20.0, 90.0)
"""Mean density of a nodule; overlaps that of the vessels."""
NODULE_DEPTH = 1.1
"""How far inside the lung a nodule's centre lies at least, in nodule radii; below 1 it may touch the pleura."""
SPICULATED_SHARE = 0.5
"""Share of the nodules with spicules."""


def add_nodule(hu: Field, grid: Grid, lung: Callable[[Grid], Field], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Draw one nodule at a random place in the lungs, in place; its mask [i, j, k].

    Args:
        lung: Gives the signed distance in mm to the lungs' border at the points of a grid.
    """
    radius = rng.uniform(*NODULE_DIAMETER_MM) / 2
    centre = _place(grid, lung, radius, rng)
    cut, local = grid.box(centre - 2.2 * radius, centre + 2.2 * radius)
    share = local.share(_lumpy_distance(local, centre, radius, rng))
    if rng.random() < SPICULATED_SHARE:
        for _ in range(rng.integers(8, 16)):
            away = rng.normal(size=3)
            tip = centre + away / np.linalg.norm(away) * radius * rng.uniform(1.4, 2.0)
            share = np.maximum(share, local.share(tube_distance(local, (centre, tip, 2.4, 0.8))))
    share *= local.share(lung(local) - 1)
    fill(hu[cut], share, rng.uniform(*NODULE_HU) + waves(local, 18.0, rng))
    mask = np.zeros(hu.shape, dtype=bool)
    mask[cut] = share > 0.5 * share.max()
    return mask


def _place(grid: Grid, lung: Callable[[Grid], Field], radius: float, rng: np.random.Generator) -> Point:
    """The centre of a nodule: the first of many random points that is deep enough in the lung and on the grid.

    Points are drawn in mm, so that the nodule stays where it is when the same patient is sampled on another grid.
    """
    points = rng.uniform(-1, 1, (2000, 3)) * (150, 110, 125)
    z = points[:, 2]
    distance = lung(grid.at(points)).ravel()
    on_grid = (z >= grid.z.min() + 0.6 * radius) & (z <= grid.z.max() - 0.6 * radius)
    allowed = np.flatnonzero((distance < -NODULE_DEPTH * radius) & on_grid)
    return np.asarray(
        points[allowed[0] if len(allowed) else np.where(on_grid, distance, np.inf).argmin()], dtype=np.float64
    )


def _lumpy_distance(grid: Grid, centre: Point, radius: float, rng: np.random.Generator) -> Field:
    """Signed distance (about) to an ellipsoid with a slightly irregular surface."""
    stretch = rng.uniform(0.85, 1.15, 3)
    dx, dy, dz = (
        (axis - np.float32(at)) / np.float32(s)
        for axis, at, s in zip((grid.x, grid.y, grid.z), centre, stretch, strict=True)
    )
    distance = np.sqrt(dx**2 + dy**2 + dz**2)
    lumps = waves(Grid(dx / radius, dy / radius, dz / radius, 1.0), 0.12, rng, length=2.2)
    return np.asarray(distance - radius * (1 + lumps), dtype=np.float32)
