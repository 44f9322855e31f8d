"""studies.csv and patients.csv: a row for each study or patient, from the rows of its scans."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.domain import Scan
from pipeline.evaluation.units import aggregated
from pipeline.files import write_table
from pipeline.model.package import Model
from pipeline.scans.find import Survey

FILES = {"study": "studies.csv", "patient": "patients.csv"}
IDS = {"study": ("study_uid", "accession_number", "patient_id"), "patient": ("patient_id",)}
"""Columns that `--include-ids` adds; the first one names the unit."""


def write_units(out: Path, table: pd.DataFrame, found: Survey, model: Model, include_ids: bool) -> Path | None:
    """Write the table of the model's units, if they are not the scans themselves; its path.

    Files that were refused before they were a scan belong to no unit; scans that the model leaves out don't count.
    """
    unit = model.settings.unit
    if unit == "scan":
        return None
    rows = unit_table(table, {scan.scan_id: scan for scan in found.scans}, model)
    words = rows["in_distribution"].map({True: "true", False: "false"})
    kept = rows.assign(in_distribution=words).drop(columns=[] if include_ids else list(IDS[unit]))
    write_table(out / FILES[unit], kept, float_format="%.6f")
    return out / FILES[unit]


def unit_table(table: pd.DataFrame, scans: Mapping[str, Scan], model: Model) -> pd.DataFrame:
    """A row for each unit, in the order of their first scans.

    A unit goes by the scan_id of its first scan, for its own number may tell a patient. A scan that names no study or
    patient is a unit for itself.

    Args:
        table: predictions.csv.
        scans: scan_id -> scan.
        model: Whose unit, way to aggregate and thresholds are used.
    """
    unit = model.settings.unit
    rows = table[table["scan_id"].isin(scans)].reset_index(drop=True)
    key = rows["scan_id"].map(lambda scan_id: getattr(scans[scan_id], IDS[unit][0]) or scan_id).to_numpy()
    groups, ok = rows.groupby(key, sort=False), rows["status"] == "ok"
    readable = rows[ok].groupby(key[ok], sort=False)
    found = pd.DataFrame({
        unit: groups["scan_id"].first(),
        "n_scans": groups.size(),
        "n_ok": groups["status"].agg(lambda status: int((status == "ok").sum())),
        "status": groups["status"].agg(lambda status: "ok" if (status == "ok").any() else "rejected"),
        "reasons": groups["reason"].agg(_joined),
        "warnings": groups["warnings"].agg(_joined),
    })  # fmt: skip
    found[[f"p_{f}" for f in model.findings]] = aggregated(
        readable, list(model.findings), model.settings.aggregate
    ).reindex(found.index)
    for finding, threshold in thresholds(model).items():
        p = found[f"p_{finding}"].round(6)
        found[f"positive_{finding}"] = (p >= threshold).astype("Int64").where(p.notna())
    found["in_distribution"] = readable["in_distribution"].agg(_all_true).reindex(found.index)
    found["scan_ids"] = groups["scan_id"].agg(";".join)
    found["model"] = model.model_id
    for name in IDS[unit]:
        found[name] = [getattr(scans[scan_id], name) for scan_id in found[unit]]
    return found.reset_index(drop=True)


def thresholds(model: Model) -> dict[str, float]:
    """Finding -> threshold for units: the one that the evaluation chose for them, else that of single scans."""
    chosen = {finding: point.threshold for finding, point in model.operating_points.items()}
    for split in (model.evaluation or {}).values():
        if isinstance(split, Mapping) and split.get("unit") == model.settings.unit:
            return chosen | _evaluated(split.get("findings", {}))
    return chosen


def _evaluated(findings: Mapping[str, Any]) -> dict[str, float]:
    points = {finding: numbers.get("operating_point") or {} for finding, numbers in findings.items()}
    return {finding: float(point["threshold"]) for finding, point in points.items() if "threshold" in point}


def _joined(cells: Iterable[str]) -> str:
    return ";".join(dict.fromkeys(code for cell in cells for code in str(cell).split(";") if code))


def _all_true(values: "pd.Series[Any]") -> bool | None:
    known = values.dropna()
    return bool(known.all()) if len(known) else None
