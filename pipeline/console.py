"""What all commands share: exit codes, progress bars, and errors that a user can act on."""

import errno
import io
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from pipeline.domain import UsageError

DONE, FAULT, WRONG_USE, WITH_REJECTIONS, DISK_FULL = 0, 1, 2, 3, 4
"""Exit codes: done; a fault of ours; wrong use or config; done but something was rejected; out of disk."""


def count(n: int, noun: str) -> str:
    """A number with its noun: `1 patient`, `24 patients`, `0 series`."""
    return f"{n:,} {noun}{'' if n == 1 or noun.endswith('series') else 's'}"


Report = Callable[[int, int], None]
"""Called with (done, total) while something long runs."""


class Bar(Protocol):
    """A progress bar: a `Report` that also shows a short note."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Move the bar."""


class _Terminal(Console):
    """A console whose reader may leave (`| head -1`): what is said from then on is lost, and the work goes on."""

    def on_broken_pipe(self) -> None:
        """Write to nowhere."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.file.fileno())
        os.close(nowhere)


stdout = _Terminal(highlight=False, soft_wrap=True)
stderr = _Terminal(stderr=True, highlight=False, soft_wrap=True)


def guarded(body: Callable[[], int]) -> int:
    """The exit code of a command's body, with every error turned into words.

    Unexpected errors show where they happened, never their text: it may quote a patient's header.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")  # names of files may be any bytes
    try:
        return body()
    except UsageError as error:
        stderr.print(f"error: {error}", style="red", markup=False)
        return WRONG_USE
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            stderr.print(
                "error: no space left on the disk; what was written before is intact. Free space, then run the same "
                "command again.",
                style="red",
                markup=False,
            )
            return DISK_FULL
        return _fault(error)
    except KeyboardInterrupt:
        stderr.print("interrupted; nothing is lost: start the command again (train: with --resume)", markup=False)
        return 130
    except Exception as error:
        return _fault(error)


def _fault(error: BaseException) -> int:
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    where = " < ".join(f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in reversed(frames))
    stderr.print(
        f"error: a fault of this software ({error.__class__.__name__} at {where}). "
        "Please report it with this line; it holds no patient data.",
        style="red",
        markup=False,
    )
    return FAULT


@contextmanager
def progress(description: str) -> Iterator[Bar]:
    """A progress bar on the terminal; call what it yields with (done, total) and, if useful, a note."""
    columns = (
        TextColumn("{task.description:<22}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=stderr, transient=False, disable=not (sys.stderr and sys.stderr.isatty())) as bar:
        task = bar.add_task(description, total=None, note="")

        def move(done: int, total: int, note: str = "") -> None:
            bar.update(task, completed=done, total=total, note=note)

        yield move
