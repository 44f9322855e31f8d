"""Scans of one study or patient judged together: one row a unit instead of one a scan."""

import pandas as pd

from pipeline.domain import UsageError
from pipeline.evaluation.table import findings_of, subgroup_columns

KEYS = {"patient": ("patient",), "study": ("study", "study_uid", "accession_number")}
"""Columns that name a unit; the first one present counts."""
MIXED = "(mixed)"


def per_unit(table: pd.DataFrame, unit: str, aggregate: str) -> pd.DataFrame:
    """A checked table with one row a unit and split; the units' ids stand in `scan_id`.

    A unit is positive where any of its scans is, negative where all are known to be negative, else its label is
    missing. Its probability is the largest or the mean of its readable scans (multiclass: scaled to sum to 1 again); a
    unit without one counts as refused. A subgroup column that differs between its scans says "(mixed)".

    Args:
        table: As `check_predictions` returns it.
        unit: "study" or "patient".
        aggregate: "max" or "mean".

    Raises:
        UsageError: If no column names the unit, rows do not name theirs, or a unit's scans are of different classes.
    """
    key = next((name for name in KEYS[unit] if name in table.columns), None)
    if key is None:
        raise UsageError(f"unit {unit}: expected a column {' or '.join(KEYS[unit])} in the predictions, found none")
    if empty := int((table[key].fillna("") == "").sum()):
        raise UsageError(f"unit {unit}: {empty} row(s) have no {key}; fill the column, or evaluate by scan")
    groups, ok = table.groupby(["split", key], sort=True), table[table["status"] == "ok"].groupby(["split", key])
    found = groups[["patient", "fold"] if key != "patient" else ["fold"]].first()
    found["status"] = groups["status"].agg(lambda status: "ok" if (status == "ok").any() else "rejected")
    findings = findings_of(table.columns)
    for finding in findings:
        found[f"p_{finding}"] = ok[f"p_{finding}"].agg(aggregate).reindex(found.index)
        label = groups[f"y_{finding}"].agg(["max", "count", "size"])
        known = (label["max"] == 1) | (label["count"] == label["size"])
        found[f"y_{finding}"] = label["max"].where(known)
    _one_class(found, findings, unit)
    for column in subgroup_columns(table):
        values = groups[column].agg(["first", "nunique"])
        found[column] = values["first"].where(values["nunique"] <= 1, MIXED)
    return found.reset_index().rename(columns={key: "scan_id"}).assign(patient=lambda t: t.get("patient", t["scan_id"]))


def _one_class(found: pd.DataFrame, findings: list[str], unit: str) -> None:
    """Scale the probabilities of a multiclass task to sum to 1; every unit must have one class."""
    if len(findings) < 2 or not all("=" in f for f in findings) or len({f.partition("=")[0] for f in findings}) > 1:
        return
    several = int((found[[f"y_{f}" for f in findings]].sum(axis=1) > 1).sum())
    if several:
        raise UsageError(f"unit {unit}: {several} of {len(found)} hold scans of different classes; evaluate by scan")
    columns = [f"p_{f}" for f in findings]
    found[columns] = found[columns].div(found[columns].sum(axis=1), axis=0)
