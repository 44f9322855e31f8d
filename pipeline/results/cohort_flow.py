"""How scans became the evaluated ones: found, refused for which reason, left out, and in which split."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True, slots=True)
class Flow:
    """The numbers of a flow diagram; scans, not files.

    Attributes:
        found: All scans that are known of.
        left_out: Why scans have no prediction -> how many.
        predicted: Scans with a prediction.
        splits: Split -> (scans, patients) among them.
    """

    found: int
    left_out: Mapping[str, int]
    predicted: int
    splits: Mapping[str, tuple[int, int]]


ORDER = ("train", "tune", "test", "oof", "all")


def flow_of(table: pd.DataFrame, refused: Mapping[str, int], unused: int) -> Flow:
    """The flow of a table of predictions.

    Args:
        table: One row a scan and split, with status, split, patient; a refused row may have a reason.
        refused: Scans that were refused before the table was made, by reason.
        unused: Scans that were read but are in no split.
    """
    ok = table[table["status"] == "ok"]
    scans = table.drop_duplicates("scan_id")
    lost = scans[scans["status"] != "ok"]
    reasons = lost["reason"] if "reason" in lost.columns else pd.Series("", index=lost.index)
    left_out = dict(refused)
    for reason, n in reasons.where(reasons != "", "no prediction").value_counts().sort_index().items():
        left_out[str(reason)] = left_out.get(str(reason), 0) + int(n)
    if unused:
        left_out["in no split"] = unused
    names = [s for s in ORDER if (ok["split"] == s).any()] + sorted(set(ok["split"]) - set(ORDER))
    splits = {s: (int((ok["split"] == s).sum()), int(ok["patient"][ok["split"] == s].nunique())) for s in names}
    predicted = int(ok["scan_id"].nunique())
    return Flow(predicted + sum(left_out.values()), left_out, predicted, splits)
