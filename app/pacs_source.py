"""A PACS as the source of scans: a query's series, retrieved to a folder that goes with this process. No Streamlit."""

from contextlib import ExitStack
from functools import cache, cached_property
from pathlib import Path
from threading import Event, Lock

from app.background import Report, Stopped
from pipeline.domain import Rejection, UsageError
from pipeline.scans.pacs import Pacs, Query
from pipeline.scans.temporary import own_folder

WAIT_S = 5.0
"""What is under way gets so long to end. A PACS that is silent is not waited for: nothing is written until it speaks,
and not then either."""


class Kept:
    """A temporary folder of what a PACS sent, and the retrieving into it, which ends before the folder goes."""

    def __init__(self) -> None:
        self._stack, self._ending, self._at_work = ExitStack(), Event(), Lock()

    @cached_property
    def folder(self) -> Path:
        """The folder, made when it is first asked for."""
        return self._stack.enter_context(own_folder())

    def retrieved(self, address: str, query: str, report: Report) -> tuple[Path, tuple[Rejection, ...]]:
        """As the function of this name.

        Raises:
            Stopped: Once the folder is to go.
        """
        from pipeline.scoring.pacs_batch import retrieve_all  # loads torch, which the command line need not

        def told(done: int, total: int) -> None:
            self._beat()
            report(done, total)

        with self._at_work, Pacs.at(address, beat=self._beat) as pacs:
            self._beat()
            found = retrieve_all(pacs, Query.parsed(query), self.folder, told)
        return found.folder, found.refused

    def remove(self) -> None:
        """End what is under way, then remove the folder."""
        self._ending.set()
        if self._at_work.acquire(timeout=WAIT_S):
            self._at_work.release()
        self._stack.close()

    def _beat(self) -> None:
        if self._ending.is_set():
            raise Stopped


def retrieved(address: str, query: str, report: Report) -> tuple[Path, tuple[Rejection, ...]]:
    """The folder of all series that the query finds, and those that could not be had.

    What was retrieved before is not asked for again.

    Args:
        address: dicomweb://host:port/path.
        query: "Modality=CT&StudyDate=20260101-20260131".
        report: Called with (series done, series in all).

    Raises:
        ScanError: If the PACS can't be asked at all, or refuses access.
        UsageError: If DICOMweb's packages are missing, or the disk is full.
    """
    try:
        return _kept().retrieved(address, query, report)
    except OSError as error:
        raise UsageError(
            f"scans of the PACS can't be kept in the temporary folder ({error.strerror}); make room there, "
            "or name another folder in TMPDIR"
        ) from None


def begin() -> None:
    """A viewer begins: nothing has been retrieved yet."""
    _kept.cache_clear()


def remove() -> None:
    """The viewer ends: what was retrieved goes, and nothing more is retrieved."""
    _kept().remove()


@cache
def _kept() -> Kept:
    return Kept()
