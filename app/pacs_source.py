"""A PACS as the source of scans: a query's series, retrieved to a folder that goes with this process. No Streamlit."""

from contextlib import ExitStack
from functools import cache
from pathlib import Path

from app.background import Report
from pipeline.domain import Rejection, UsageError
from pipeline.scans.pacs import Pacs, Query
from pipeline.scans.temporary import own_folder

_KEPT = ExitStack()


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
    from pipeline.scoring.pacs_batch import retrieve_all  # loads torch, which the command line need not

    try:
        with Pacs.at(address) as pacs:
            found = retrieve_all(pacs, Query.parsed(query), _folder(), report)
    except OSError as error:
        raise UsageError(
            f"scans of the PACS can't be kept in the temporary folder ({error.strerror}); make room there, "
            "or name another folder in TMPDIR"
        ) from None
    return found.folder, found.refused


def remove() -> None:
    """Remove what was retrieved: the viewer ends."""
    _KEPT.close()
    _folder.cache_clear()


@cache
def _folder() -> Path:
    return _KEPT.enter_context(own_folder())
