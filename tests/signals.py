"""Processes for tests that end them by a signal."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

ENDING = (signal.SIGINT, signal.SIGHUP)


@contextmanager
def heeded() -> Iterator[None]:
    """Processes that are started meanwhile heed Ctrl-C and a closed terminal, also where pytest itself ignores them.

    A shell's background job, or one under nohup, ignores them and so do its children; whoever has a handler of his own
    leaves none to them.
    """
    before = {number: signal.signal(number, signal.default_int_handler) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
