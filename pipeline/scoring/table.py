"""predictions.csv: a row for every scan found, those that were refused included."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from pipeline.domain import Rejection, Scan
from pipeline.files import replacing, write_table
from pipeline.scans.find import Survey, relative_path
from pipeline.scans.select import Unchosen
from pipeline.scoring.journal import Row

IDS = ("patient_id", "accession_number", "study_uid", "series_uid")
"""Columns that `--include-ids` adds."""


def prediction_table(
    found: Survey, rows: Mapping[str, Row], findings: Sequence[str], model_id: str, include_ids: bool = False
) -> pd.DataFrame:
    """The table, sorted by path and scan id, no scan id twice.

    Args:
        found: What lies in the folder now; paths and identifiers come from here.
        rows: Scan id -> row, for every scan found.
        findings: Findings of the model, in the order of their columns.
        model_id: Name and hash of the model.
        include_ids: Add the columns of IDS.
    """
    scans = {scan.scan_id: scan for scan in found.scans}
    records = [_of_scan(scan, rows[scan_id], found.root) for scan_id, scan in scans.items()]
    records += [_of_unchosen(one, found.root) for one in found.not_selected]
    taken = {*scans, *(one.scan.scan_id for one in found.not_selected)}
    for rejection in found.rejections:
        # A broken file of a series that was read without it keeps its row, but the scan id stands at the series.
        records.append(_of_rejection(rejection, "" if rejection.scan_id in taken else rejection.scan_id, found.root))
        taken.add(rejection.scan_id)
    for record in records:
        record["model"] = model_id
    table = pd.DataFrame(records, columns=_columns(findings, include_ids))
    for column in table.columns:
        if column.startswith("positive_"):
            table[column] = table[column].astype("Int64")
        elif column.startswith("p_") or column in ("uncertainty", "spread", "seconds"):
            table[column] = table[column].astype("float64").round(6)
        elif column == "in_distribution":
            table[column] = table[column].astype("boolean")
        else:
            table[column] = table[column].astype(object).fillna("")  # where all are empty, pandas takes numbers
    return table.sort_values(["path", "scan_id", "reason"], kind="stable", ignore_index=True)


def write_predictions(out: Path, table: pd.DataFrame) -> Path:
    """The path of predictions.csv, written with predictions.parquet beside it, each whole or not at all."""
    with replacing(out / "predictions.parquet") as temporary, temporary.open("wb") as file:
        table.to_parquet(file, index=False)  # by its path pyarrow could not: names of folders may be any bytes
    words = table["in_distribution"].map({True: "true", False: "false"})
    write_table(out / "predictions.csv", table.assign(in_distribution=words), float_format="%.6f")
    return out / "predictions.csv"


def _columns(findings: Sequence[str], include_ids: bool) -> list[str]:
    return [
        *("scan_id", "path", "status", "reason", "detail", "warnings"),
        *(f"p_{finding}" for finding in findings),
        *(f"positive_{finding}" for finding in findings),
        *("uncertainty", "spread", "in_distribution", "model", "seconds"),
        *(IDS if include_ids else ()),
    ]


def _of_scan(scan: Scan, row: Row, root: Path) -> dict[str, object]:
    return {
        "scan_id": scan.scan_id,
        "path": _shown(scan.path, root),
        "status": row.status,
        "reason": row.reason,
        "detail": row.detail,
        "warnings": ";".join(dict.fromkeys((*scan.warnings, *row.warnings))),
        **{f"p_{finding}": p for finding, p in row.probabilities.items()},
        **{f"positive_{finding}": int(positive) for finding, positive in row.positive.items()},
        "uncertainty": row.uncertainty,
        "spread": row.spread,
        "in_distribution": row.in_distribution,
        "seconds": sum(row.seconds.values()),
        **{name: getattr(scan, name) for name in IDS},
    }


def _of_rejection(rejection: Rejection, scan_id: str, root: Path) -> dict[str, object]:
    return {
        "scan_id": scan_id,
        "path": _shown(rejection.path, root),
        "status": "rejected",
        "reason": rejection.reason.value,
        "detail": rejection.detail,
        **{name: rejection.ids.get(name, "") for name in IDS},
    }


def _of_unchosen(one: Unchosen, root: Path) -> dict[str, object]:
    return {
        "scan_id": one.scan.scan_id,
        "path": _shown(one.scan.path, root),
        "status": "not_selected",
        "reason": one.reason.value,
        "detail": one.detail,
        **{name: getattr(one.scan, name) for name in IDS},
    }


def _shown(path: Path, root: Path) -> str:
    """The path as a table can hold it: file names may be any bytes."""
    return relative_path(path, root).encode("utf-8", "backslashreplace").decode()
