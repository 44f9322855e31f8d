"""Scans, surveys and tables made by hand, without any file."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.cohort.manifest import FOUND_COLUMNS, LAST_COLUMNS
from pipeline.cohort.reading import Measured
from pipeline.domain import Rejection, Scan
from pipeline.scans.find import Survey

ROOT = Path("/scans")


def scan(name: str, patient: str = "", **fields: object) -> Scan:
    path = ROOT / name
    return Scan(f"id-{name}", path, (path,), "nifti", patient_id=patient, **fields)  # type: ignore[arg-type]


def survey(scans: Sequence[Scan], rejections: Sequence[Rejection] = ()) -> Survey:
    return Survey(ROOT, list(scans), list(rejections), [])


def measured(scan_id: str, content: str = "") -> Measured:
    sha = hashlib.sha256((content or scan_id).encode()).hexdigest()
    return Measured(scan_id, (4, 5, 6), (0.7, 0.7, 2.5), "LPS", "HU", sha, "", (), np.arange(4, dtype=np.float32))


def table(rows: Sequence[dict[str, str]], labels: Sequence[str] = ("label",)) -> pd.DataFrame:
    """scans.csv with the given cells, "" elsewhere; scan ids and voxel hashes differ unless given."""
    columns = [*FOUND_COLUMNS, *labels, *LAST_COLUMNS]
    further = [name for row in rows for name in row if name not in columns]
    full = [{"scan_id": f"s{n:03d}", "content_sha256": f"c{n:03d}", **row} for n, row in enumerate(rows)]
    return pd.DataFrame(full, columns=[*columns, *dict.fromkeys(further)], dtype=str).fillna("")


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path
