"""One copy in memory of what many files of a folder have in common: their series, patient, geometry, scanner."""

from collections import defaultdict
from dataclasses import fields
from operator import attrgetter
from typing import Any

from pipeline.scans.instances import Instance, Plane

_PLANE, _INSTANCE = (tuple(field.name for field in fields(kind)) for kind in (Plane, Instance))
_of_plane, _of_instance = attrgetter(*_PLANE), attrgetter(*_INSTANCE)


class Pool:
    """The values met so far. A search keeps of each further file little more than its name, number and place."""

    def __init__(self) -> None:
        # by field, for equal values of different fields may differ in type: 1 and 1.0
        self._known: dict[str, dict[Any, Any]] = defaultdict(dict)

    def share(self, instance: Instance) -> Instance:
        """An equal instance, made of values that others have already where they are equal."""
        values = dict(zip(_INSTANCE, _of_instance(instance), strict=True))
        place = dict(zip(_PLANE, _of_plane(instance.plane), strict=True))
        moments = tuple(self._one("moment", pair) for pair in place.pop("moments"))
        own = {"path": values.pop("path"), "sop_uid": values.pop("sop_uid")}
        values.pop("plane")
        plane = Plane(
            position=place.pop("position"), moments=moments, **{name: self._one(name, v) for name, v in place.items()}
        )
        return Instance(plane=plane, **own, **{name: self._one(name, value) for name, value in values.items()})

    def _one(self, field: str, value: Any) -> Any:
        return self._known[field].setdefault(value, value)
