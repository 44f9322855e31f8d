"""Which slices of a series belong to one volume: by geometry, echo, b-value, phase. Headers only, no files."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import TypeVar

import numpy as np

from pipeline.domain import Reason, ScanError
from pipeline.scans.geometry import same_place, slice_normal, stack
from pipeline.scans.instances import Plane
from pipeline.scans.moments import moment_labels

T = TypeVar("T")

ORIENTATION_TOLERANCE = 1e-3
"""Largest difference of a direction cosine within one volume."""

SPACING_TOLERANCE = 1e-3
"""Largest relative difference of PixelSpacing within one volume."""

MINORITY = 4
"""Slices of another geometry are strays when the rest has at least this many times as many."""

STACK = 3
"""Slices that a stack has at least, to be a volume beside others of its series."""

PASSES = ("kernel", "kvp", "pass")
"""Traits by which slices that lie between each other, not at one place, are volumes of their own."""

LOCALIZER_ANGLE = 20.0
"""Degrees between the normals of a series and of strays that are its localizer."""


def by_geometry(items: Sequence[T], plane: Callable[[T], Plane]) -> tuple[dict[str, list[T]], list[T]]:
    """Slices of one series by their geometry (label -> slices), and its localizers.

    The label names what differs, for example "size=64x64"; it is empty where all slices agree.

    Raises:
        ScanError: mixed_geometry, for a few slices of nearly the same orientation but another grid;
            bad_geometry, for an orientation that is none.
    """
    clusters: list[list[T]] = []
    for item in items:
        home = next((c for c in clusters if _alike(plane(c[0]), plane(item))), None)
        if home is None:
            clusters.append([item])
        else:
            home.append(item)
    main = max(clusters, key=len)
    localizers: list[T] = []
    kept: list[list[T]] = []
    for cluster in clusters:
        if cluster is main or len(cluster) * MINORITY > len(main):
            kept.append(cluster)
        elif _angle(plane(main[0]), plane(cluster[0])) > LOCALIZER_ANGLE:
            localizers += cluster
        else:
            raise ScanError(
                Reason.MIXED_GEOMETRY,
                f"of another orientation, spacing or size than the rest: {len(cluster)} of {len(items)} slices",
            )
    labels = _geometry_labels([min(map(plane, cluster), key=_geometry) for cluster in kept])
    return dict(zip(labels, kept, strict=True)), localizers


def by_traits(items: Sequence[T], plane: Callable[[T], Plane]) -> dict[str, list[T]]:
    """Slices of one geometry by volume: label -> slices.

    A property separates volumes only if slices at one and the same place differ in it; what changes only from place
    to place (acquisition time in a CT, for example) does not. Times count by their order at each place. Slices that
    nothing tells apart stay together, for `geometry.stack` to refuse or for the reader to find equal.
    """
    groups: dict[str, list[T]] = {"": list(items)}
    for name, _ in plane(items[0]).traits:
        groups = _split_all(groups, plane, name, _trait_labels)
    for name, _ in plane(items[0]).moments:
        groups = _split_all(groups, plane, name, moment_labels)
    return groups


def volumes_of(items: Sequence[T], plane: Callable[[T], Plane]) -> tuple[dict[str, list[T]], list[T]]:
    """Slices of one series by volume (label -> slices), and its localizers.

    `by_geometry`, then `by_traits`, then `by_pass`, then `by_stack`.
    """
    shapes, localizers = by_geometry(items, plane)
    volumes = {
        ";".join(filter(None, (shape, name, turn, slab))): volume
        for shape, group in shapes.items()
        for name, several in by_traits(group, plane).items()
        for turn, slices in by_pass(several, plane).items()
        for slab, volume in by_stack(slices, plane).items()
    }
    return volumes, localizers


def by_pass(items: Sequence[T], plane: Callable[[T], Plane]) -> dict[str, list[T]]:
    """Slices of a CT by kernel, tube voltage or acquisition, where these are whole volumes that lie in each other.

    Two contrast phases half a step apart would else make one volume of twice as many slices.
    """
    for name in PASSES:
        passes: dict[str, list[T]] = {}
        for item in items:
            passes.setdefault(dict(plane(item).traits).get(name, ""), []).append(item)
        slabs = [list(map(plane, members)) for members in passes.values()]
        whole = len(passes) > 1 and all(len(slab) >= STACK and _is_whole(slab) for slab in slabs)
        if whole and "" not in passes and _overlap(slabs):
            return {f"{name}={value}": members for value, members in passes.items()}
    return {"": list(items)}


def by_stack(items: Sequence[T], plane: Callable[[T], Plane]) -> dict[str, list[T]]:
    """Parallel slices by StackID (PS3.3 C.7.6.16.2.2.4) where these are whole volumes one behind the other.

    They stay together where they make one volume, and where StackID leaves doubt, for `geometry.stack` to refuse: a gap
    alone may be a lost slice.
    """
    stacks: dict[str, list[T]] = {}
    for item in items:
        stacks.setdefault(dict(plane(item).traits).get("stack", ""), []).append(item)
    slabs = [list(map(plane, members)) for members in stacks.values()]
    if len(stacks) < 2 or "" in stacks or _is_whole(list(map(plane, items))):
        return {"": list(items)}
    if not all(len(slab) >= STACK and _is_whole(slab) for slab in slabs) or _overlap(slabs):
        return {"": list(items)}
    return {f"stack={name}": members for name, members in stacks.items()}


def _is_whole(planes: Sequence[Plane]) -> bool:
    """Whether slices make a volume without a gap."""
    first, positions = planes[0], [one.position for one in planes if one.position is not None]
    if first.orientation is None or first.spacing is None or len(positions) < len(planes):
        return False
    try:
        stack(first.orientation, positions, first.spacing)
    except ScanError:
        return False
    return True


def _overlap(slabs: Sequence[Sequence[Plane]]) -> bool:
    """Whether slices of one slab lie among those of another along the normal, which all share."""
    normal = slice_normal(slabs[0][0].orientation or ())
    heights = sorted(sorted(float(np.dot(one.position or (), normal)) for one in slab) for slab in slabs)
    return any(before[-1] >= after[0] for before, after in pairwise(heights))


def _split_all(
    groups: Mapping[str, list[T]],
    plane: Callable[[T], Plane],
    name: str,
    label: Callable[[list[list[Plane]], str], dict[int, str]],
) -> dict[str, list[T]]:
    """Each group split by the labels that `label` gives to its planes (by id); groups without repeated places stay."""
    result: dict[str, list[T]] = {}
    for old, items in groups.items():
        planes = [plane(item) for item in items]
        places = [[planes[i] for i in place] for place in same_place([p.position or (0, 0, 0) for p in planes])]
        labels = label(places, name) if len(places) < len(planes) else {}
        for item, itsplane in zip(items, planes, strict=True):
            new = ";".join(filter(None, (old, labels.get(id(itsplane), ""))))
            result.setdefault(new, []).append(item)
    return result


def _trait_labels(places: list[list[Plane]], name: str) -> dict[int, str]:
    """Labels by value; none unless slices at one place differ in it.

    None either where each place has equally many slices, but of other values: those tell packages of slices apart
    (acquisition numbers) or wander a little (echo times), and would cut volumes into pieces.
    """
    values = [[dict(plane.traits).get(name, "") for plane in place] for place in places]
    if all(len(set(here)) == 1 for here in values):
        return {}
    if len({len(here) for here in values}) == 1 and any(sorted(here) != sorted(values[0]) for here in values):
        return {}
    return {
        id(p): f"{name}={v}"
        for place, here in zip(places, values, strict=True)
        for p, v in zip(place, here, strict=True)
    }


def _alike(a: Plane, b: Plane) -> bool:
    if _geometry(a) == _geometry(b):
        return True
    if a.size != b.size or (a.spacing is None) != (b.spacing is None):
        return False
    if a.spacing and b.spacing and not np.allclose(a.spacing, b.spacing, rtol=SPACING_TOLERANCE, atol=0):
        return False
    difference = np.subtract(a.orientation or (0,) * 6, b.orientation or (0,) * 6)
    return bool(np.abs(difference).max() <= ORIENTATION_TOLERANCE)


def _angle(a: Plane, b: Plane) -> float:
    """Degrees between two slices' normals, 0 to 90."""
    if a.orientation is None or b.orientation is None:
        return 0.0
    cosine = abs(float(slice_normal(a.orientation) @ slice_normal(b.orientation)))
    return float(np.degrees(np.arccos(min(cosine, 1.0))))


def _geometry(plane: Plane) -> tuple[tuple[float, ...], ...]:
    return (plane.size, plane.spacing or (), plane.orientation or ())


def _geometry_labels(planes: list[Plane]) -> list[str]:
    """What differs among the planes, in words that don't depend on their order."""
    parts = [
        (
            f"size={plane.size[1]}x{plane.size[0]}",
            "spacing=" + ",".join(f"{value:.4g}" for value in plane.spacing or ()),
            "orientation=" + ",".join(f"{value:.3f}" for value in plane.orientation or ()),
        )
        for plane in planes
    ]
    varying = [i for i in range(3) if len({part[i] for part in parts}) > 1]
    labels = [";".join(part[i] for i in varying) for part in parts]
    if len(set(labels)) < len(labels):
        raise ScanError(Reason.MIXED_GEOMETRY, "slices of one series differ slightly in orientation or spacing")
    return labels
