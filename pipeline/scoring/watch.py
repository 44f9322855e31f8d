"""Scoring that goes on: a folder is looked at again and again, and scans are taken once their files rest."""

import time
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import TypeAlias

from pipeline.domain import Scan
from pipeline.scans.archives import stamped
from pipeline.scans.find import Survey
from pipeline.scans.folders import UNLISTED, UnlistedError, files_below
from pipeline.scans.look import Seen, look_at_all
from pipeline.scoring.folder import Request, checked_model, find, open_journal, score_found
from pipeline.scoring.summary import Summary

SETTLE_S = 10.0
"""A file that has not changed for so long is taken for complete."""
EVERY_S = 2.0
"""Pause between two listings of the folder."""
REFRESH_S = 60.0
"""While many scans are scored, the tables are written about this often."""

Signature: TypeAlias = tuple[int, int, int]
"""Size and times of a file; another one when it was written again."""


def watch(
    request: Request,
    stop: Event,
    tell: Callable[[Summary], None],
    settle_s: float = SETTLE_S,
    every_s: float = EVERY_S,
    gone: Callable[[str], None] = lambda _: None,
) -> Summary:
    """Score what lies in the folder, then what comes, until `stop` is set; the tables are written each time.

    A scan that changes after it was scored, because more of its slices have come, is scored again. A folder that can't
    be read for a while (a share that drops) has nothing for now: the tables stay as they are until it is back.

    Args:
        stop: Ends it after the scan that is being read; what is left then is for the next start.
        tell: Called after each round.
        gone: Called with the reason when the folder can't be read any more, once each time that it goes.

    Raises:
        UsageError: As `score`; also if the folder was gone from the first search until `stop`.
    """
    model = checked_model(request)
    files, headers = Files(request.scans, settle_s), Headers()
    files.look()
    with open_journal(request, model) as journal:
        summary: Summary | None = None
        due, there = True, True
        while summary is None or not stop.wait(every_s):
            try:
                due = files.look() or due
                found = files.settled(find(request, model, headers)) if due else None
            except UnlistedError as error:
                if summary is None and stop.wait(every_s):
                    raise
                if there:
                    gone(str(error))
                due, there = True, False
                continue
            there = True
            if found is not None:
                summary, due = score_found(request, model, journal, found, stop.is_set, REFRESH_S), False
                tell(summary)
    return summary


@dataclass(slots=True)
class _File:
    signature: Signature
    since: float
    rests: bool = False


class Files:
    """The files below a folder, and which of them have not changed for some time.

    Times are taken on this machine; only what lies there at the first look is judged by its own dates.
    """

    def __init__(self, root: Path, settle_s: float) -> None:
        self._root, self._settle_s = root, settle_s
        self._files: dict[Path, _File] | None = None

    def look(self) -> bool:
        """List the folder; whether files have come to rest or gone since the last look.

        Raises:
            UnlistedError: If it can't be listed; that look does not count.
        """
        before = self._files or {}
        seen = {path: _signature(path) for path, note in files_below(self._root) if note in ("", UNLISTED)}
        now, age = time.monotonic(), _age if self._files is None else _newborn
        self._files = {
            path: before[path] if path in before and before[path].signature == found else _File(found, now - age(found))
            for path, found in seen.items()
        }
        come = [file for file in self._files.values() if not file.rests and now - file.since >= self._settle_s]
        for file in come:
            file.rests = True
        return bool(come) or any(file.rests and path not in seen for path, file in before.items())

    def settled(self, found: Survey) -> Survey:
        """What was found, without the scans and refusals of which a file does not rest yet."""
        return replace(
            found,
            scans=[scan for scan in found.scans if self._rest(_files_of(scan))],
            rejections=[one for one in found.rejections if self._rest(one.files or (one.path,))],
            not_selected=[one for one in found.not_selected if self._rest(_files_of(one.scan))],
        )

    def _rest(self, paths: Iterable[Path]) -> bool:
        known = [(self._files or {}).get(stamped(path)) for path in paths]
        return all(file is not None and file.rests for file in known)


class Headers:
    """What each file is, as `look_at_all` tells, remembered as long as the file does not change."""

    def __init__(self) -> None:
        self._seen: dict[Path, tuple[Signature, Seen]] = {}

    def __call__(
        self, paths: Sequence[Path], root: Path, workers: int | None = None
    ) -> Generator[tuple[Path, Seen], None, None]:
        """As `look_at_all`."""
        before = {path: _signature(stamped(path)) for path in paths}
        known = {path: self._seen[path] for path in paths if self._seen.get(path, ((),))[0] == before[path]}
        self._seen = known
        yield from ((path, seen) for path, (_, seen) in list(known.items()))
        for path, seen in look_at_all([path for path in paths if path not in known], root, workers):
            if _signature(stamped(path)) == before[path]:  # else it went or changed meanwhile, and is read again
                self._seen[path] = (before[path], seen)
            yield path, seen


def _signature(path: Path) -> Signature:
    try:
        status = path.stat()
    except OSError:
        return (-1, -1, -1)
    return (status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _age(signature: Signature) -> float:
    """Seconds since the file was last written or renamed, by its own dates."""
    return max(0.0, time.time() - max(signature[1:]) / 1e9)


def _newborn(_: Signature) -> float:
    return 0.0


def _files_of(scan: Scan) -> tuple[Path, ...]:
    return (*scan.paths, *scan.aliases)
