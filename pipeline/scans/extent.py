"""How many slices a volume has and how far apart they lie, as the headers tell it before anything is read."""

from collections.abc import Sequence

import numpy as np

from pipeline.domain import ScanError
from pipeline.scans.geometry import SAME_PLACE_MM, slice_normal
from pipeline.scans.instances import Extent, Plane

UNKNOWN = Extent(0, None)


def extent_of(planes: Sequence[Plane]) -> Extent:
    """Different places along the normal, and the median distance from one to the next, of slices of one volume.

    It serves to choose among scans; whether the slices make a volume, reading decides (`geometry.stack`).
    """
    placed = [plane.position for plane in planes if plane.position is not None]
    if len(placed) < len(planes) or len(planes) < 2 or planes[0].orientation is None:
        return Extent(len(planes), None)
    try:
        normal = slice_normal(planes[0].orientation)
    except ScanError:
        return Extent(len(planes), None)
    points = np.asarray(placed, dtype=np.float64)
    steps_mm = np.linalg.norm(np.diff(points[np.argsort(points @ normal)], axis=0), axis=1)
    steps_mm = steps_mm[steps_mm > SAME_PLACE_MM]
    if not len(steps_mm) or not np.isfinite(steps_mm).all():
        return Extent(1, None)
    return Extent(1 + len(steps_mm), float(np.median(steps_mm)))
