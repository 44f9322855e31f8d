"""A PACS as the source of scans, and as the place for results: retrieve what a query finds, send what was made."""

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pipeline.domain import Reason, Rejection, ScanError
from pipeline.files import make_folder, read_json, sha256_of, write_json, write_table
from pipeline.scans.pacs import Pacs, Query, Series
from pipeline.scoring.dicom_results import FOLDER, PICTURE, REPORT

RETRIEVED = "retrieved.csv"
"""In OUT: a row for each series that the query found; series go by opaque names, the folders below OUT/scans."""
SCANS = "scans"
"""In OUT: where series are put."""
STORED = "stored.json"
"""Beside a scan's results: which of them the PACS has confirmed."""

Note = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Retrieved:
    """What a query gave.

    Attributes:
        folder: Where the scans lie.
        n_series: Found.
        refused: Series that could not be retrieved.
    """

    folder: Path
    n_series: int
    refused: tuple[Rejection, ...]


def retrieve_all(pacs: Pacs, query: Query, out: Path, report: Note) -> Retrieved:
    """Every series that the query finds, below OUT/scans; each that could not be had is a row of retrieved.csv.

    A series that lies there complete is not asked for again.

    Raises:
        ScanError: If the PACS can't be queried at all, or refuses access.
        UsageError: If `out` can't be made a folder.
    """
    series = [one for study in pacs.list_studies(query) for one in pacs.list_series(study, query)]
    make_folder(out / SCANS)
    rows, refused = [], list[Rejection]()
    for done, one in enumerate(series, 1):
        status, reason, detail = "ok", "", ""
        try:
            pacs.retrieve(one, out / SCANS)
        except ScanError as error:
            if error.reason is Reason.PACS_DENIED:
                raise
            status, reason, detail = "rejected", error.reason.value, error.detail
            refused.append(Rejection(out / SCANS / one.name, error.reason, error.detail))
        rows.append(_row(one, status, reason, detail))
        report(done, len(series))
    columns = ["series", "modality", "n_instances", "status", "reason", "detail"]
    write_table(out / RETRIEVED, pd.DataFrame(rows, columns=columns).sort_values("series"))
    return Retrieved(out / SCANS, len(series), tuple(refused))


def store_all(pacs: Pacs, out: Path, report: Note) -> Counter[str]:
    """Send every result below OUT/dicom that this PACS has not confirmed yet.

    Returns:
        "stored", "before", or the reason why not -> scans.
    """
    counts = Counter[str]()
    folders = sorted(path for path in (out / FOLDER).glob("*") if path.is_dir())
    for done, folder in enumerate(folders, 1):
        counts[_stored(pacs, folder)] += 1
        report(done, len(folders))
    return counts


def _stored(pacs: Pacs, folder: Path) -> str:
    """What became of one scan's results: "stored", "before", or the reason why not."""
    files = [folder / name for name in (REPORT, PICTURE)]
    server = hashlib.sha256(pacs.url.encode()).hexdigest()
    proof = {"pacs": server, **{path.name: sha256_of(path) for path in files}}
    if (folder / STORED).is_file() and read_json(folder / STORED) == proof:
        return "before"
    try:
        pacs.store(files)
    except ScanError as error:
        return error.reason.value
    write_json(folder / STORED, proof)
    return "stored"


def _row(series: Series, status: str, reason: str, detail: str) -> dict[str, object]:
    return {
        "series": series.name,
        "modality": series.modality,
        "n_instances": series.n_instances,
        "status": status,
        "reason": reason,
        "detail": detail,
    }
