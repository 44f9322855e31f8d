"""Where a heat map is hottest, for pictures of one slice or three."""

import numpy as np
from numpy.typing import NDArray

HOT = 0.95
"""Share of the peak from which on voxels are hot: maps are coarse, and their peak is a plateau over many voxels."""
WIDE = 0.25
"""A map of which so large a share is hot points to no place, and says so."""


def key_slice(heat: NDArray[np.float32] | NDArray[np.uint8], axis: int) -> int:
    """The hot slice that lies most in the middle of the hot voxels; the middle slice where the map is dark."""
    others = tuple(other for other in range(3) if other != axis)
    counts = (heat >= HOT * heat.max()).sum(axis=others)
    if not heat.max() > 0:
        return len(counts) // 2
    slices = np.flatnonzero(counts)
    middle = np.average(slices, weights=counts[slices])
    return int(slices[np.argmin(np.abs(slices - middle))])


def key_voxel(heat: NDArray[np.float32] | NDArray[np.uint8]) -> tuple[int, int, int]:
    """The hot voxel (i, j, k) nearest to the middle of the hot voxels; the middle voxel where the map is dark."""
    if not heat.max() > 0:
        i, j, k = (count // 2 for count in heat.shape)
        return i, j, k
    hot = np.argwhere(heat >= HOT * heat.max())
    i, j, k = hot[np.argmin(((hot - hot.mean(axis=0)) ** 2).sum(axis=1))]
    return int(i), int(j), int(k)


def place_of(heat: NDArray[np.float32], axis: int, index: int) -> list[str]:
    """What is written of a heat map: which slice it is, and whether the map points to a place at all."""
    if not heat.max() > 0:
        return [f"slice {index + 1} of {heat.shape[axis]}", "The heat map is dark everywhere"]
    share = float((heat >= 0.5 * heat.max()).mean())
    wide = [f"The heat map points to no place: {share:.0%} of the scan is hot"] if share > WIDE else []
    return [f"slice {index + 1} of {heat.shape[axis]}", *wide]
