"""What there is to review: a folder's scans, whom they show, what the model has said about them. No Streamlit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

from app.background import Job, Report
from app.pacs_source import retrieved
from pipeline.domain import Identity, Prediction, ReadRules, Reason, Scan, ScanError, UsageError
from pipeline.files import original_cell
from pipeline.scans.archives import stamped
from pipeline.scans.find import Survey, read_identity, survey
from pipeline.scans.pacs_query import is_address

FLAGS = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Score:
    """What the model says about a scan, and since when it is known.

    Attributes:
        outcome: The prediction, or why there is none.
        scored: UTC.
    """

    outcome: Prediction | ScanError
    scored: datetime


@dataclass(frozen=True)
class Catalog:
    """A folder's scans, refused ones and others, with the identities of the former.

    Attributes:
        identities: Scan id -> whom it shows; kept in memory only.
    """

    found: Survey
    identities: dict[str, Identity] = field(repr=False)

    @cached_property
    def scans(self) -> dict[str, Scan]:
        """Scan id -> scan, those that the read rules leave out not among them."""
        return {scan.scan_id: scan for scan in self.found.scans}


def read_catalog(folder: Path, rules: ReadRules, report: Report, query: str = "") -> Catalog:
    """The catalog of a folder (headers only), or of what a PACS has for a query.

    Args:
        folder: SCANS: a folder, or the address of a PACS.
        rules: The model's.
        report: Called with (files done, files in all); of a PACS (series done, series in all).
        query: What a PACS is asked for.

    Raises:
        UsageError: If the folder can't be listed; as `pacs_source.retrieved`.
        ScanError: Likewise.
    """
    if is_address(str(folder)):
        here, lost = retrieved(str(folder), query, report)
        catalog = read_catalog(here, rules, lambda *_: None)
        catalog.found.rejections.extend(lost)
        return catalog
    found = survey(folder, report, rules)
    identities = {}
    for done, scan in enumerate(found.scans):
        report(done, len(found.scans))
        identities[scan.scan_id] = _identity(scan)
    return Catalog(found, identities)


def _identity(scan: Scan) -> Identity:
    try:
        return read_identity(scan)
    except ScanError:  # it vanished; opening it will say so
        return Identity()


@lru_cache(maxsize=1)
def the_catalog(folder: Path, rules: ReadRules, query: str = "") -> Job[Catalog]:
    """The catalog, made once for all browser tabs in the background; `the_catalog.cache_clear()` looks again.

    Raises:
        UsageError: If the folder does not exist.
    """
    if not is_address(str(folder)) and not folder.exists():
        raise UsageError(f"--scans {folder}: does not exist any more; put it back, or start the viewer with another")
    return Job(lambda report: read_catalog(folder, rules, report, query))


@lru_cache(maxsize=1)
def the_scores(folder: Path | None, model_id: str, findings: tuple[str, ...]) -> dict[str, Score]:
    """Scan id -> what a run of pipeline.score says; empty without one. Rejected scans without a scan id are not here.

    Raises:
        UsageError: If the table is damaged or another model's.
    """
    if folder is None:
        return {}
    path = folder / "predictions.csv"
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False, encoding="utf-8")
        scored = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except (OSError, ValueError) as error:
        raise UsageError(f"--scores {path}: can't be read as a table ({type(error).__name__}); score again") from None
    lacking = {"scan_id", "status", "reason", "detail", "model", *(f"p_{f}" for f in findings)} - {*table.columns}
    others = sorted(set(table.get("model", ())) - {model_id})
    if lacking:
        raise UsageError(f"--scores {path}: lacks the columns {', '.join(sorted(lacking))}; give the OUT of this model")
    if others:
        raise UsageError(f"--scores {path}: holds results of {others[0]}, the viewer's model is {model_id}")
    rows = table[table["status"].isin(["ok", "rejected"]) & (table["scan_id"] != "")]
    try:
        return {row["scan_id"]: Score(_outcome(row, findings), scored) for row in rows.to_dict("records")}
    except ValueError:
        raise UsageError(f"--scores {path}: holds something else than numbers where numbers belong") from None


def _outcome(row: Mapping[Any, str], findings: Sequence[str]) -> Prediction | ScanError:
    if row["status"] == "rejected":
        return ScanError(Reason(row["reason"]), original_cell(row["detail"]))
    return Prediction(
        scan_id=row["scan_id"],
        probabilities={f: float(row[f"p_{f}"]) for f in findings},
        positive={f: row[f"positive_{f}"] == "1" for f in findings if row.get(f"positive_{f}")},
        uncertainty=float(row["uncertainty"]),
        spread=float(row["spread"]),
        in_distribution=FLAGS.get(row["in_distribution"]),
        warnings=tuple(filter(None, original_cell(row["warnings"]).split(";"))),
        model=row["model"],
    )


def is_current(score: Score, scan: Scan) -> bool:
    """Whether no file of the scan is newer than its score."""
    try:
        newest = max(stamped(path).stat().st_mtime for path in scan.paths)
    except OSError:
        return False
    return newest <= score.scored.timestamp()
