"""What has been scored, one line a scan, in a file that survives a kill and a full disk. Knows nothing of models."""

import fcntl
import json
import math
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from pipeline.domain import UsageError
from pipeline.files import writing

FORMAT = 2
"""Version of the lines; a journal of another version is not continued."""
SYNC_ROWS = 16
"""An fsync follows at the latest after this many rows ..."""
SYNC_SECONDS = 1.0
"""... or when this much time has passed since the last: a power cut loses no more than that, a kill nothing at all."""


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one scan that was read. It holds no path and no identity: those come from the survey.

    Attributes:
        status: "ok" or "rejected".
        seconds: Step ("read", "preprocess", "forward", "write") -> seconds; forward is the scan's share of its batch.
        stamp: Sizes and times of the files that were read; a scan whose files have changed since is read again.
    """

    scan_id: str
    status: str
    reason: str = ""
    detail: str = ""
    warnings: tuple[str, ...] = ()
    probabilities: dict[str, float] = field(default_factory=dict)
    positive: dict[str, bool] = field(default_factory=dict)
    uncertainty: float | None = None
    spread: float | None = None
    in_distribution: bool | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    stamp: str = ""


class Journal:
    """An append-only file of JSON lines: a header with the settings, then one row a scan.

    Attributes:
        rows: Scan id -> latest row, those of earlier runs included.
    """

    def __init__(self, path: Path, settings: Mapping[str, str]) -> None:
        """Open a journal, or begin one.

        A last line that a kill or a full disk has torn is cut off, and so is all from the first unreadable line on:
        those scans are done again.

        Args:
            path: The file.
            settings: What every row depends on, in words that a user knows.

        Raises:
            UsageError: If it was written with other settings, is in use, can't be opened or is no journal.
        """
        self.path = path
        self._file = _open_locked(path)
        try:
            self.rows, self._size = _read(path, self._file, {"format": str(FORMAT), **settings})
            self._pending, self._synced = 0, time.monotonic()
        except BaseException:
            os.close(self._file)
            raise

    def append(self, row: Row) -> None:
        """Record a row; it survives a kill from here on, and a power cut after the next sync."""
        self._size = _append(self._file, self._size, asdict(row))
        self.rows[row.scan_id] = row
        self._pending += 1
        if self._pending >= SYNC_ROWS or time.monotonic() - self._synced >= SYNC_SECONDS:
            self.sync()

    def sync(self) -> None:
        """Put every row on the disk."""
        os.fsync(self._file)
        self._pending, self._synced = 0, time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._pending:
                self.sync()
        finally:
            os.close(self._file)


def _open_locked(path: Path) -> int:
    """A file descriptor that only one process at a time gets; the system frees it however that process ends."""
    with writing(f"{path}: can't be opened for writing"):
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        raise UsageError(
            f"{path.parent}: another run writes into it; wait for its end, or choose another --out"
        ) from None
    return file


def _read(path: Path, file: int, header: Mapping[str, str]) -> tuple[dict[str, Row], int]:
    """The rows of a journal that is now ready to be appended to, and its size in bytes."""
    rows: dict[str, Row] = {}
    size = 0
    with path.open("rb") as lines:
        for line in lines:
            if size == 0:
                if not line.endswith(b"\n"):
                    break
                _check_header(path, line, header)
            elif (row := row_of(line)) is not None:
                rows[row.scan_id] = row
            else:
                break
            size += len(line)
    os.ftruncate(file, size)
    os.lseek(file, size, os.SEEK_SET)
    if size == 0:
        size = _append(file, size, header)
        os.fsync(file)
    return rows, size


def _check_header(path: Path, line: bytes, expected: Mapping[str, str]) -> None:
    try:
        found = json.loads(line)
    except ValueError:
        found = None
    if not isinstance(found, dict) or "format" not in found:
        raise UsageError(f"{path}: is no journal of this program; choose another --out")
    differing = [key for key in sorted({*found, *expected}) if found.get(key) != expected.get(key)]
    if differing:
        lines = "".join(f"\n  {key}: there {found.get(key, '-')}, now {expected.get(key, '-')}" for key in differing)
        raise UsageError(
            f"{path.parent}: holds results of another model, other scans or other settings:{lines}\n"
            "Rows of the two would be mixed in one table: choose another --out, or delete this folder to begin anew"
        )


def row_of(line: bytes) -> Row | None:
    """The row in a line; None if the line is torn or holds something else."""
    if not line.endswith(b"\n"):
        return None
    try:
        values = json.loads(line)
        row = Row(**{**values, "warnings": tuple(values["warnings"])})
        finite = all(math.isfinite(value) for value in (*row.probabilities.values(), *row.seconds.values()))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return row if finite and row.status in ("ok", "rejected") else None


def _append(file: int, size: int, values: Mapping[str, object]) -> int:
    """Write one line after `size` good bytes; the size with it. A line that does not fit is taken back whole."""
    line = json.dumps(values, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace") + b"\n"
    rest = line
    try:
        while rest:
            rest = rest[os.write(file, rest) :]
    except OSError:
        os.ftruncate(file, size)
        os.lseek(file, size, os.SEEK_SET)
        raise
    return size + len(line)
