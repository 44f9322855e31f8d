"""Folders for what lies on the disk only while it is read; whoever is killed, another process cleans up after it."""

import atexit
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

PREFIX = "scanline-"
"""The folders are called this, the process's number, and something random."""


@contextmanager
def own_folder() -> Iterator[Path]:
    """A temporary folder that only this user can enter, removed in the end."""
    _sweep_twice()
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def remove_left_by(process: int) -> None:
    """Remove the folders of a process that has ended, or is about to."""
    for owner, folder in _folders():
        if owner == process:
            shutil.rmtree(folder, ignore_errors=True)


def sweep() -> None:
    """Remove the folders of processes that are gone: none of that number runs, and the system has freed their locks."""
    for owner, folder in _folders():
        if not _runs(owner):
            _remove_unlocked(folder)


@cache
def _sweep_twice() -> None:
    """Sweep now, and when this process ends."""
    sweep()
    atexit.register(sweep)


def _folders() -> Iterator[tuple[int, Path]]:
    """(process, folder) of every such folder on this machine."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*"):
        owner = folder.name.removeprefix(PREFIX).partition("-")[0]
        if owner.isdecimal():
            yield int(owner), folder


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's
    return True


def _remove_unlocked(folder: Path) -> None:
    """Remove a folder unless a process holds it: one of another container has its own numbers but the same locks."""
    with suppress(OSError):
        lock = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)
