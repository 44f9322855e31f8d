"""A chest as numbers: body, lungs, bones, heart, vessels and, if asked, a lung nodule. Knows nothing of files.

Everything is drawn in millimetres in the patient's RAS+ frame (x Right, y Anterior, z Superior; the origin is the
middle of the chest), so that the same chest can be sampled on any grid. Each organ draws from a random stream of its
own: a nodule more or less shifts no other draw, and two visits of one patient differ in their noise only.
"""

from dataclasses import dataclass
from enum import IntEnum
from functools import partial

import numpy as np
from numpy.typing import NDArray

from data.lesion import add_nodule
from data.shapes import Field, Grid, Point, Tube, fill, oval, tubes_share, waves
from pipeline.domain import Affine, Voxels

VESSEL_RADIUS_MM = (3.4, 4.6)
"""Radius of the lobar vessels at the hilum; it shrinks by `VESSEL_TAPER` at each branching."""
VESSEL_TAPER = 0.78
VESSEL_GENERATIONS = 4
VESSEL_HU = (10.0, 110.0)
"""Density of blood, from plain to weakly enhanced."""
LUNG_HU = (-880.0, -820.0)
LUNG_GRADIENT_HU_PER_MM = 0.45
"""The lung is denser towards the back."""
NOISE_HU = (12.0, 35.0)
"""Standard deviation of the pixel noise."""
AIR_HU, FAT_HU, MUSCLE_HU, ORGAN_HU, MARROW_HU, BONE_HU = -1000.0, -100.0, 45.0, 55.0, 220.0, 620.0
SPINE = 0.72
"""How far behind the middle the vertebral bodies lie, as a share of the cage's depth."""


class Stream(IntEnum):
    """Independent random streams of one phantom."""

    BODY = 0
    VESSELS = 1
    NODULE = 2
    NOISE = 3


@dataclass(frozen=True)
class Body:
    """One patient's build, all lengths in mm."""

    half_width: float
    half_depth: float
    fat: float
    cage_width: float
    cage_depth: float
    apex: float
    base: float
    domes: tuple[float, float]
    heart: tuple[float, float, float]
    blood_hu: float
    lung_hu: float
    shift: tuple[float, float, float]
    """How far off the middle of the picture the patient lies."""

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> "Body":
        """A body of random build."""
        half_width, half_depth = rng.uniform(146, 170), rng.uniform(102, 120)
        fat = rng.uniform(7, 20)
        height = rng.uniform(195, 235)
        return cls(
            half_width=half_width,
            half_depth=half_depth,
            fat=fat,
            cage_width=half_width - fat - rng.uniform(10, 16),
            cage_depth=half_depth - fat - rng.uniform(7, 12),
            apex=height / 2,
            base=-height / 2,
            domes=(rng.uniform(45, 65), rng.uniform(35, 55)),
            heart=(rng.uniform(48, 58), rng.uniform(38, 46), rng.uniform(42, 52)),
            blood_hu=rng.uniform(*VESSEL_HU),
            lung_hu=rng.uniform(*LUNG_HU),
            shift=(rng.uniform(-8, 8), rng.uniform(-8, 8), rng.uniform(-10, 10)),
        )


def phantom(
    seed: int,
    nodule: bool,
    shape: tuple[int, int, int] = (160, 160, 32),
    spacing_mm: tuple[float, float, float] = (2.1, 2.1, 7.0),
    visit: int = 0,
) -> tuple[Voxels, Affine, NDArray[np.bool_]]:
    """A chest CT: voxels in HU float32 [i, j, k], the affine voxel -> RAS+ mm, and the nodule's mask [i, j, k].

    The same seed is the same patient: only the noise changes with `visit`. The mask of a control is empty.
    """
    affine = centred_affine(shape, spacing_mm)
    body = Body.drawn(np.random.default_rng([seed, Stream.BODY]))
    grid = Grid.of(shape, affine, body.shift)
    lung = _lungs(grid, body)
    inside = grid.share(lung)
    hu = _chest(grid, body, inside)
    fill(hu, inside * _vessel_tree(grid, np.random.default_rng([seed, Stream.VESSELS])), body.blood_hu)
    mask = np.zeros(shape, dtype=bool)
    if nodule:
        before = float(hu.sum(dtype=np.float64))
        mask = add_nodule(hu, grid, partial(_lungs, body=body), np.random.default_rng([seed, Stream.NODULE]))
        _widen_lungs(hu, grid, lung, body.lung_hu, float(hu.sum(dtype=np.float64)) - before)
    _add_noise(hu, grid, inside, np.random.default_rng([seed, Stream.NOISE, visit]))
    return np.clip(hu, -1024, 2000), affine, mask


def _widen_lungs(hu: Field, grid: Grid, lung: Field, lung_hu: float, mass: float) -> None:
    """Move the lungs' border outwards until as much tissue became lung as a nodule made of lung, in place.

    So neither mean and standard deviation of HU nor the density of the lungs give the label away; a border that moves
    by a fraction of a millimetre is lost among the sizes of bodies.
    """
    inside = grid.share(lung)

    def gained(distance_mm: float) -> Field:
        """Share of what is not yet lung in a voxel that becomes lung."""
        grown = grid.share(lung - np.float32(distance_mm)) - inside
        return np.asarray(grown / np.maximum(1 - inside, 1e-3), dtype=np.float32)

    mass_per_mm = float((gained(1.0) * (hu - lung_hu)).sum(dtype=np.float64))
    fill(hu, gained(mass / mass_per_mm if mass_per_mm > 0 else 0.0), lung_hu)


def centred_affine(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> Affine:
    """Axis-aligned RAS+ affine whose grid has its middle at the origin."""
    affine = np.diag([*spacing_mm, 1.0])
    affine[:3, 3] = -(np.array(shape) - 1) / 2 * np.array(spacing_mm)
    return affine


def _chest(grid: Grid, body: Body, lung_share: Field) -> Field:
    """HU without vessels, nodule and noise."""
    x, y = grid.x, grid.y
    hu = np.full((grid.x.size, grid.y.size, grid.z.size), AIR_HU, dtype=np.float32)
    skin = oval(x, y, body.half_width, body.half_depth, 2.3)
    cage = _cage(grid, body)
    fill(hu, grid.share(skin), FAT_HU)
    fill(hu, grid.share(np.minimum(skin + body.fat, cage - 6)), MUSCLE_HU)
    fill(hu, grid.share(cage), ORGAN_HU)
    fill(hu, lung_share, body.lung_hu - np.float32(LUNG_GRADIENT_HU_PER_MM) * y)
    fill(hu, grid.share(_heart(grid, body)), body.blood_hu * 0.8 + 10)
    _add_airways(hu, grid)
    _add_bones(hu, grid, body, cage)
    return hu


def _cage(grid: Grid, body: Body) -> Field:
    """Signed distance to the inner chest wall: an oval that closes at the apex like a dome."""
    upper = np.clip((grid.z + 10) / (body.apex + 10), 0, 0.999)
    scale = np.sqrt(1 - upper**2.6)
    plane = oval(grid.x, grid.y, body.cage_width, body.cage_depth, 2.4)
    return np.asarray(plane + (1 - scale) * body.cage_depth, dtype=np.float32)


def _heart(grid: Grid, body: Body) -> Field:
    """Signed distance (about) to the heart, on the patient's left above the diaphragm."""
    a, b, c = body.heart
    u, v, w = (grid.x + 22) / a, (grid.y - 22) / b, (grid.z - body.base - 78) / c
    return np.asarray((np.sqrt(u**2 + v**2 + w**2) - 1) * b, dtype=np.float32)


def _lungs(grid: Grid, body: Body) -> Field:
    """Signed distance to both lungs: the cage without mediastinum, spine, heart and what lies under the diaphragm."""
    x, y = grid.x, grid.y
    middle = 10 + 22 * np.exp(-(((y + 8) / 42) ** 2)) - np.abs(x + 3)
    spine = np.maximum(27 - np.hypot(x, y + SPINE * body.cage_depth), 14 - np.hypot(x + 24, y + 0.5 * body.cage_depth))
    right, left = (
        height * np.exp(-(((x - side * 68) / 62) ** 2) - ((y - 8) / 75) ** 2)
        for side, height in zip((1, -1), body.domes, strict=True)
    )
    dome = body.base + np.maximum(right, left) - grid.z
    inner = np.maximum(np.maximum(middle, spine), -_heart(grid, body) - 2)
    return np.asarray(np.maximum(np.maximum(_cage(grid, body) + 3, inner), dome), dtype=np.float32)


def _add_airways(hu: Field, grid: Grid) -> None:
    """Trachea and main bronchi."""
    fork = np.array([0.0, -12.0, 28.0])
    tubes = [(fork, np.array([0.0, -4.0, 130.0]), 8.5, 8.5)]
    tubes += [(fork, np.array([side * 42.0, -16.0, 2.0]), 6.5, 5.0) for side in (1, -1)]
    fill(hu, tubes_share(grid, tubes), AIR_HU)


def _add_bones(hu: Field, grid: Grid, body: Body, cage: Field) -> None:
    """Ribs (rings that fall towards the front), vertebrae with discs and canal, sternum."""
    x, y, z = grid.x, grid.y, grid.z
    level = (z + 0.75 * y) / 29
    along = np.abs(level - np.round(level)) * 29 - 6.5
    ribs = np.maximum(np.maximum(along, np.abs(cage - 3.5) - 4), 16 - np.abs(x))
    fill(hu, grid.share(ribs.astype(np.float32)), BONE_HU)
    back = y + SPINE * body.cage_depth
    vertebra = np.asarray(np.hypot(x, back) - 17, dtype=np.float32)
    arch = oval(x, back + 25, 20.0, 8.0)
    disc = np.abs(z / 24 - np.round(z / 24)) * 24 < 3.5
    column = np.broadcast_to(np.minimum(vertebra, arch), hu.shape)
    marrow = np.where(disc, np.float32(90), np.where(column > -3, np.float32(BONE_HU * 0.8), np.float32(MARROW_HU)))
    fill(hu, grid.share(column), marrow)
    fill(hu, grid.share(np.broadcast_to(oval(x, back + 21, 8.0, 6.5), hu.shape)), 20.0)
    sternum = np.maximum(oval(x, y - body.cage_depth - 5, 19.0, 5.5), np.abs(z - 25) - 75)
    fill(hu, grid.share(sternum.astype(np.float32)), MARROW_HU + 60)


def _vessel_tree(grid: Grid, rng: np.random.Generator) -> Field:
    """Share of each voxel that lies in a vessel: in both lungs five lobar vessels that branch and taper."""
    tubes: list[Tube] = []
    for side in (1.0, -1.0):
        for lobe in range(5):
            start = np.array([side * 30.0, -6.0, 10.0]) + rng.normal(0, 6, 3)
            towards = np.array([side, rng.uniform(-1, 1), 1.1 - 0.55 * lobe + rng.normal(0, 0.2)])
            _grow(tubes, start, towards, rng.uniform(*VESSEL_RADIUS_MM), VESSEL_GENERATIONS, rng)
    return tubes_share(grid, tubes)


def _grow(
    tubes: list[Tube],
    start: Point,
    towards: Point,
    radius: float,
    generations: int,
    rng: np.random.Generator,
) -> None:
    """Add one vessel and, recursively, its two branches."""
    towards = towards / np.linalg.norm(towards)
    end = start + towards * rng.uniform(20, 34)
    thinner = radius * VESSEL_TAPER
    tubes.append((start, end, radius, thinner))
    if generations > 1:
        turn = rng.normal(0, 0.55, 3)
        for sign in (1.0, -1.0):
            _grow(tubes, end, towards + sign * turn + rng.normal(0, 0.2, 3), thinner, generations - 1, rng)


def _add_noise(hu: Field, grid: Grid, inside: Field, rng: np.random.Generator) -> None:
    """Add the texture of the parenchyma and pixel noise that correlates between neighbours, in place."""
    hu += inside * waves(grid, 14.0, rng)
    white = rng.standard_normal(hu.shape, dtype=np.float32)
    grainy = white + np.roll(white, 1, axis=0) + np.roll(white, 1, axis=1)
    hu += grainy * np.float32(rng.uniform(*NOISE_HU) / np.sqrt(3))
