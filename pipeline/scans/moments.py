"""Which slices at each place of a series belong to the first, the second ... volume in time; what is in doubt."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from pipeline.scans.instances import Plane

CLOCKS = ("time", "content")
DOUBTFUL = ("trigger", "acquisition", *CLOCKS)
"""Moments that change for other reasons than a next volume, too: heart beats, the order of reconstruction, midnight."""

DAY_S = 86_400.0
"""Times below carry no date."""


def moment_labels(places: list[list[Plane]], name: str) -> dict[int, str]:
    """Labels by the order of the times at each place: t0, t1, ..., or phase=0, phase=1, ... if others must follow.

    None unless each place has equally many times, and each of them equally often: once for t0, t1, ...
    """
    times = [[dict(plane.moments).get(name) for plane in place] for place in places]
    how_often = [Counter(time for time in here if time is not None) for here in times]
    count, distinct = len(places[0]), len(how_often[0])
    if distinct < 2 or any(len(here) != count for here in times):
        return {}
    if any(len(each) != distinct or set(each.values()) != {count / distinct} for each in how_often):
        return {}
    announced = len(places) == 1 and places[0][0].n_moments == count
    if name == "instance" and not announced and not _counts_volumes(how_often):
        return {}
    if name in DOUBTFUL and not _is_trusted(name, places, how_often):
        return {}
    prefix = "t" if distinct == count else f"{name}="
    labels = {}
    for place, here, each in zip(places, times, how_often, strict=True):
        ranks = {time: rank for rank, time in enumerate(sorted(each))}
        labels.update(
            {id(plane): f"{prefix}{ranks[time]}" for plane, time in zip(place, here, strict=True) if time is not None}
        )
    return labels


def _is_trusted(name: str, places: list[list[Plane]], times: Sequence[Iterable[float]]) -> bool:
    """Whether doubtful times tell volumes apart: what instance numbers say of them counts.

    Numbers that put the times in one and the same order at each place confirm them. Else the times must show by
    themselves that slices were taken volume by volume; or place by place, where there are no numbers to deny it
    (heart beats and the order of reconstruction run from place to place, too).
    """
    flat = [time for here in times for time in here]
    if name in CLOCKS and max(flat) < DAY_S and max(flat) - min(flat) > DAY_S / 2:
        return False  # over midnight, without a date
    numbers = [
        [number for one in place if (number := dict(one.moments).get("instance")) is not None] for place in places
    ]
    numbered = all(len(set(here)) == len(place) for here, place in zip(numbers, places, strict=True))
    if numbered and len({_order(place, name) for place in places}) == 1:
        return True
    if name == "trigger" and numbered and _volume_by_volume(numbers):
        return False
    counted = len({number for here in numbers for number in here}) > 1  # the frames of one file have its one number
    deniable = name in ("trigger", "content") or counted
    return _volume_by_volume(times) or (not deniable and _place_by_place(times))


def _order(place: Sequence[Plane], name: str) -> tuple[int, ...]:
    """Ranks of the times at a place, in the order of the instance numbers."""
    moments = sorted((dict(plane.moments) for plane in place), key=lambda one: one["instance"] or 0)
    times = [one[name] or 0 for one in moments]
    ranks = {time: rank for rank, time in enumerate(sorted(set(times)))}
    return tuple(ranks[time] for time in times)


def _counts_volumes(instances: Sequence[Iterable[float]]) -> bool:
    """Whether the instance numbers of each place show by themselves that slices were taken again and again.

    They do if they run through all places before they come back to the first, or through all times of a place before
    they go on to the next. At a single place they prove nothing.
    """
    return len(instances) > 1 and (_volume_by_volume(instances) or _place_by_place(instances))


def _volume_by_volume(instances: Sequence[Iterable[float]]) -> bool:
    numbers = np.array([sorted(here) for here in instances])
    return bool((numbers.max(axis=0)[:-1] < numbers.min(axis=0)[1:]).all())


def _place_by_place(instances: Sequence[Iterable[float]]) -> bool:
    numbers = np.array([sorted(here) for here in instances])
    places = numbers[np.argsort(numbers[:, 0])]
    return bool((places[:-1, -1] < places[1:, 0]).all())
