"""Scans of one study or patient judged together: one row a unit instead of one a scan."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from pipeline.console import count
from pipeline.domain import UsageError
from pipeline.evaluation.table import findings_of, subgroup_columns

if TYPE_CHECKING:
    from pandas.core.groupby import DataFrameGroupBy

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
        raise UsageError(f"unit {unit}: no {key} in {count(empty, 'row')}; fill the column, or evaluate by scan")
    groups = table.groupby(["split", key], sort=True)
    found = groups[["patient", "fold"] if key != "patient" else ["fold"]].first()
    found["status"] = groups["status"].agg(lambda status: "ok" if (status == "ok").any() else "rejected")
    findings = findings_of(table.columns)
    ok = table[table["status"] == "ok"].groupby(["split", key])
    found[[f"p_{f}" for f in findings]] = aggregated(ok, findings, aggregate).reindex(found.index)
    for finding in findings:
        label = groups[f"y_{finding}"].agg(["max", "count", "size"])
        known = (label["max"] == 1) | (label["count"] == label["size"])
        found[f"y_{finding}"] = label["max"].where(known)
    _check_one_class(found, findings, unit)
    for column in subgroup_columns(table):
        values = groups[column].agg(["first", "nunique"])
        found[column] = values["first"].where(values["nunique"] <= 1, MIXED)
    return found.reset_index().rename(columns={key: "scan_id"}).assign(patient=lambda t: t.get("patient", t["scan_id"]))


def aggregated(readable: "DataFrameGroupBy[Any, Any]", findings: Sequence[str], aggregate: str) -> pd.DataFrame:
    """Probabilities p_<finding> of each unit, from its readable scans; those of a multiclass task sum to 1 again."""
    columns = [f"p_{finding}" for finding in findings]
    p: pd.DataFrame = readable[columns].agg(aggregate)
    return p.div(p.sum(axis=1), axis=0) if _is_multiclass(findings) else p


def _is_multiclass(findings: Sequence[str]) -> bool:
    named = len(findings) > 1 and all("=" in finding for finding in findings)
    return named and len({finding.partition("=")[0] for finding in findings}) == 1


def _check_one_class(found: pd.DataFrame, findings: Sequence[str], unit: str) -> None:
    if not _is_multiclass(findings):
        return
    several = int((found[[f"y_{f}" for f in findings]].sum(axis=1) > 1).sum())
    if several:
        raise UsageError(f"unit {unit}: {several} of {len(found)} hold scans of different classes; evaluate by scan")
