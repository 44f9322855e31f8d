"""Long work beside the pages: one thread, its progress, its result or its error. No Streamlit."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Result = TypeVar("Result")

Report = Callable[[int, int], None]
"""Called with (done, total)."""


class Stopped(Exception):  # noqa: N818 - no error
    """Raised inside the work, from its report, once it was told to stop."""


class Job(Generic[Result]):
    """Work that has begun in a thread of its own, and goes on whatever page is on show.

    Args:
        work: What to do; it calls the `Report` that it is given now and then, and stops there if it was told to.

    Attributes:
        done: Items that are finished.
        total: Items in all, 0 as long as that is not known.
    """

    def __init__(self, work: Callable[[Report], Result]) -> None:
        self.done, self.total = 0, 0
        self._work, self._stop = work, threading.Event()
        self._result: Result | None = None
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        """Whether it is still at work."""
        return self._thread.is_alive()

    @property
    def failed(self) -> bool:
        """Whether the work has ended with an error."""
        return self._error is not None

    def wait(self, seconds: float) -> bool:
        """Whether it has ended within this time."""
        self._thread.join(seconds)
        return not self.running

    def stop(self) -> None:
        """Tell it to stop after the item that it is at."""
        self._stop.set()

    def result(self) -> Result | None:
        """What it made; None while it runs, and if it was stopped.

        Raises:
            Exception: What the work raised.
        """
        if self._error is not None:
            raise self._error
        return self._result

    def _run(self) -> None:
        try:
            self._result = self._work(self._report)
        except Stopped:
            pass
        except Exception as error:  # it belongs to whoever asks for the result
            self._error = error

    def _report(self, done: int, total: int) -> None:
        self.done, self.total = done, total
        if self._stop.is_set():
            raise Stopped
