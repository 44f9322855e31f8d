"""A tilted stack on a straight grid: each slice shifted in its own plane until the slice axis is the normal."""

import numpy as np
from scipy import ndimage

from pipeline.domain import Affine, Voxels
from pipeline.scans.boundary import check_voxels


def straighten(slices: Voxels, affine: Affine, max_voxels: int) -> tuple[Voxels, Affine]:
    """The same slices on a grid whose third axis stands at right angles to them, linear between pixels.

    The grid grows in the direction of the tilt so that nothing is cut off; what no slice shows there takes the
    smallest value. Distances within and between the slices stay the same.

    Args:
        slices: float32 [slice, row, column], or [slice, row, column, 3] in colour.
        affine: 4x4, voxel index (column, row, slice) to RAS+ mm.
        max_voxels: Largest grid that is accepted.

    Raises:
        ScanError: too_large.
    """
    columns, rows, step = affine[:3, 0], affine[:3, 1], affine[:3, 2]
    normal = np.cross(columns, rows)
    upright = normal * (step @ normal) / (normal @ normal)
    # voxels (row, column) by which a slice lies beside the one before it
    shift = np.array([(step - upright) @ axis / (axis @ axis) for axis in (rows, columns)])
    last = shift * (len(slices) - 1)
    low, high = np.floor(np.minimum(last, 0)), np.ceil(np.maximum(last, 0))
    shape = (np.array(slices.shape[1:3]) + high - low).astype(int)
    check_voxels(len(slices) * int(shape.prod()), max_voxels)
    straight = np.empty((len(slices), *shape, *slices.shape[3:]), dtype=np.float32)
    fill, colours = float(slices.min()), slices.ndim - 3
    for index, (picture, out) in enumerate(zip(slices, straight, strict=True)):
        # rounded: a pixel beyond the edge by 1e-16 would be lost
        offset = np.concatenate([np.round(low - shift * index, 6), np.zeros(colours)])
        ndimage.affine_transform(
            picture, np.ones(2 + colours), offset, output_shape=out.shape, output=out, order=1, cval=fill
        )
    grid = affine.copy()
    grid[:3, 2] = upright
    grid[:3, 3] += columns * low[1] + rows * low[0]
    return straight, grid
