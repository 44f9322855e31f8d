"""What a piece of code does to the machine: how long it takes, how much memory, what it writes and connects to."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TIME_LIMIT_S = 10.0
MEMORY_LIMIT_KB = 512 * 1024
"""More than this process may take over what it had before."""

CONNECTS = ("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.sendto")
ALTERS = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.chmod", "os.link", "os.symlink", "os.truncate")

_listeners: list[list[str]] = []


@contextmanager
def watched() -> Iterator[list[str]]:
    """A list that fills with what a reader must not do; the limits of time and memory are checked at the end."""
    misdeeds: list[str] = []
    start, base = time.monotonic(), memory_kb(reset=True)
    _listeners.append(misdeeds)
    try:
        yield misdeeds
    finally:
        _listeners.pop()
    assert time.monotonic() - start < TIME_LIMIT_S
    assert memory_kb() - base < MEMORY_LIMIT_KB


def memory_kb(process: str = "self", reset: bool = False) -> int:
    """The most memory that a process has had since the last reset (Linux; elsewhere nothing is measured)."""
    status = Path("/proc", process, "status")
    if not status.exists():
        return 0
    if reset:
        Path("/proc", process, "clear_refs").write_text("5")
    sizes = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
    return int(sizes[0]) if sizes else 0


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    if not _listeners or (arguments and isinstance(arguments[0], int)):  # a descriptor: opened before, or without name
        return
    if event in CONNECTS + ALTERS or (event == "open" and _writes(*arguments)):
        _listeners[-1].append(f"{event} {arguments}")


def _writes(path: object, mode: object, flags: object) -> bool:
    """Whether a file is opened for writing; Python keeps its compiled modules."""
    if path == os.devnull or "__pycache__" in str(path):
        return False
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR))


sys.addaudithook(_audit)
