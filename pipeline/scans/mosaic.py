"""Mosaics: the slices of a volume as tiles of one picture, as Siemens and United Imaging write them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from pipeline.console import count
from pipeline.domain import Affine, Reason, ScanError, Voxels
from pipeline.scans.geometry import plane_affine, slice_normal, stack
from pipeline.scans.headers import Header, numbers_in
from pipeline.scans.instances import Plane

SIEMENS_COUNT = 0x0019100A
UIH_TILES = 0x00651051
"""Sequence with an item a tile, in which each has its own ImagePositionPatient."""


@dataclass(frozen=True)
class Mosaic:
    """How the slices of a mosaic lie.

    Attributes:
        tiles: Tiles down and across.
        order: Tiles in the order of slices, counted row by row.
        affine: (column, row, slice) of the unpacked volume to RAS+ mm.
    """

    tiles: tuple[int, int]
    order: NDArray[np.intp]
    affine: Affine
    warnings: tuple[str, ...] = ()


def mosaic_of(header: Header, plane: Plane) -> Mosaic:
    """How a mosaic's slices lie.

    Raises:
        ScanError: no_geometry, if the header does not say so; what `geometry.stack` raises.
    """
    tiles = header.elements.get(UIH_TILES)
    if tiles is not None and tiles.VR == "SQ":
        return _united_imaging(tiles.value, plane)
    return _siemens(header, plane)


def _united_imaging(tiles: Sequence[Dataset], plane: Plane) -> Mosaic:
    """Each tile names its own position; rows of tiles that would be empty are left out."""
    positions = [numbers_in(tile, "ImagePositionPatient") for tile in tiles]
    if plane.orientation is None or plane.spacing is None or any(len(position) != 3 for position in positions):
        raise ScanError(Reason.NO_GEOMETRY, "the tiles of the mosaic do not say where they lie")
    grid = stack(plane.orientation, positions, plane.spacing)
    across = tiles_across(len(tiles))
    return Mosaic((-(-len(tiles) // across), across), grid.order, grid.affine, grid.warnings)


def _siemens(header: Header, plane: Plane) -> Mosaic:
    """The CSA header names count and direction (nibabel's documentation, "DICOM mosaic")."""
    from nibabel.nicom import csareader

    try:
        csa = csareader.get_csa_header(header.elements)
    except csareader.CSAError:
        raise ScanError(Reason.NO_GEOMETRY, "the mosaic's CSA header is damaged") from None
    count = csareader.get_n_mosaic(csa) if csa else int(next(iter(header.private_numbers(SIEMENS_COUNT)), 0))
    distance = header.number("SpacingBetweenSlices") or header.number("SliceThickness")
    if not count or not distance or plane.position is None or plane.orientation is None or plane.spacing is None:
        raise ScanError(Reason.NO_GEOMETRY, "the mosaic does not say how many slices it has or where they lie")
    normal = slice_normal(plane.orientation)
    stated = csareader.get_slice_normal(csa) if csa else None
    if stated is not None and float(normal @ stated) < 0:
        normal = -normal
    rows, columns = plane.size
    tiles = tiles_across(count)
    # ImagePositionPatient is that of the picture as if it were one large slice with the same centre
    shift = (
        np.asarray(plane.orientation[:3]) * plane.spacing[1] * (columns - columns / tiles) / 2
        + np.asarray(plane.orientation[3:]) * plane.spacing[0] * (rows - rows / tiles) / 2
    )
    position = np.asarray(plane.position) + shift
    affine = plane_affine(plane.orientation, plane.spacing, position.tolist(), normal * distance)
    return Mosaic((tiles, tiles), np.arange(count), affine)


def tiles_across(count: int) -> int:
    """Tiles in each row of a mosaic of so many slices."""
    return int(np.ceil(np.sqrt(count)))


def unpack(picture: Voxels, mosaic: Mosaic) -> Voxels:
    """The slices of a mosaic [row, column] as [slice, row, column].

    Raises:
        ScanError: bad_dimensions, if the picture can't be cut into equal tiles.
    """
    down, across = mosaic.tiles
    rows, columns = picture.shape
    if rows % down or columns % across:
        raise ScanError(
            Reason.BAD_DIMENSIONS,
            f"a mosaic of {count(len(mosaic.order), 'slice')} can't have {rows} x {columns} pixels",
        )
    cut = picture.reshape(down, rows // down, across, columns // across).swapaxes(1, 2)
    slices: Voxels = cut.reshape(down * across, rows // down, columns // across)[mosaic.order]
    return slices
