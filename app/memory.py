"""The decoded scans and heat maps of all browser tabs, within one limit of bytes. No Streamlit."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

MOST_BYTES = 2**30
"""What all tabs together keep. Five CTs of 512 x 512 x 200; a browser that shows one holds a copy of its own."""
AT_WORK = 2
"""Whole scans that are read, predicted or explained at once: each takes a few times its size meanwhile."""

Key = tuple[int, str]
"""Number of the owner, and what of it."""


class Memory:
    """Arrays that can be made again: what was asked for longest ago goes first when they become too many.

    Args:
        most: Bytes that are kept. The newest array stays, however large it is.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: OrderedDict[Key, NDArray[Any]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def used(self) -> int:
        """Bytes that are kept."""
        with self._lock:
            return self._sum()

    def get(self, key: Key, make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """The array of this key; `make` makes it where it is not kept (any more)."""
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key]
        made = make()
        self.keep(key, made)
        return made

    def keep(self, key: Key, array: NDArray[Any]) -> None:
        """Keep an array, and no longer the oldest ones that there is no room for."""
        with self._lock:
            self._held[key] = array
            self._held.move_to_end(key)
            while len(self._held) > 1 and self._sum() > self._most:
                self._held.popitem(last=False)

    def forget(self, owner: int) -> None:
        """Keep nothing of an owner any longer."""
        with self._lock:
            for key in [key for key in self._held if key[0] == owner]:
                del self._held[key]

    def _sum(self) -> int:
        return sum(array.nbytes for array in self._held.values())


class Slots:
    """A context manager that lets in so many threads at once; a thread that is in may enter again.

    Args:
        count: How many.
    """

    def __init__(self, count: int) -> None:
        self._free, self._own = threading.BoundedSemaphore(count), threading.local()

    def __enter__(self) -> None:
        depth = getattr(self._own, "depth", 0)
        if depth == 0:
            self._free.acquire()
        self._own.depth = depth + 1

    def __exit__(self, *_: object) -> None:
        self._own.depth -= 1
        if self._own.depth == 0:
            self._free.release()


decoded = Memory(MOST_BYTES)
at_work = Slots(AT_WORK)
"""Taken before a whole scan is held for some work, and always before the network's lock."""
