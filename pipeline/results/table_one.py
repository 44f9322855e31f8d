"""Rows of a Table 1: who is in the cohort, in each of its parts."""

from collections.abc import Sequence

import pandas as pd

Columns = Sequence[tuple[str, "pd.Series[bool]"]]
"""Name of each part, and which rows are in it; the first part is all of them."""
Row = tuple[str, list[str]]

Section = tuple[str, list[Row]]

TOP = 6
"""Values of a column that are listed before the others are summed up."""


def numeric(values: "pd.Series[float]", columns: Columns, keep: "pd.Series[bool] | None" = None) -> list[Row]:
    """Median with quartiles, and the range; nothing where no value is known."""
    if values.notna().sum() == 0:
        return []
    chosen = [values[rows if keep is None else rows & keep].dropna() for _, rows in columns]
    middle = [f"{v.median():.3g} ({v.quantile(0.25):.3g} to {v.quantile(0.75):.3g})" if len(v) else "–" for v in chosen]
    extent = [f"{v.min():.3g} to {v.max():.3g}" if len(v) else "–" for v in chosen]
    rows: list[Row] = [("median (quartiles)", middle), ("range", extent)]
    totals = [int(rows_.sum()) if keep is None else int((rows_ & keep).sum()) for _, rows_ in columns]
    missing = [share(n - len(v), n) for n, v in zip(totals, chosen, strict=True)]
    return rows + ([("unknown", missing)] if len(chosen[0]) < totals[0] else [])


def categories(values: "pd.Series[str]", columns: Columns, keep: "pd.Series[bool] | None" = None) -> list[Row]:
    """Counts and shares of the most frequent values; nothing where no value is known."""
    kept = [rows if keep is None else rows & keep for _, rows in columns]
    names = values[kept[0]].where(values != "", "unknown").replace("", "unknown")
    top = [str(name) for name in names.value_counts().index]
    if top in ([], ["unknown"]):
        return []
    listed = sorted(n for n in top[:TOP] if n != "unknown")
    rest = [n for n in top[TOP:] if n != "unknown"]
    groups = [(name, [name]) for name in listed] + ([(f"{len(rest)} others", rest)] if rest else [])
    groups += [("unknown", ["unknown"])] if "unknown" in top else []
    cells = [values[rows].replace("", "unknown") for rows in kept]
    return [(name, [share(int(v.isin(members).sum()), len(v)) for v in cells]) for name, members in groups]


def share(n: int, total: int) -> str:
    """`17 (53 %)`, a dash where there is nothing to count."""
    return f"{n:,} ({100 * n / total:.0f} %)" if total else "–"


PARTS = ("train", "tune", "test", "oof")
FEW = 8
"""A column of numbers with more distinct values than this is summed up by its median."""


def table_one(table: pd.DataFrame, findings: Sequence[str], columns: Sequence[str]) -> tuple[list[str], list[Section]]:
    """Names of the parts, and the sections (heading, rows) of a Table 1 of a table of predictions.

    Patients' properties (age, sex) count each patient once, by the first scan; everything else counts scans.

    Args:
        table: One row a scan, with patient, split, y_<finding> and the columns.
        findings: Whose positives are counted.
        columns: Columns that describe scans and patients.
    """
    scans = (
        table.drop_duplicates("scan_id") if not (table["split"] == "oof").any() else table[table["split"] != "train"]
    )
    scans = scans.reset_index(drop=True)
    parts = [("all", pd.Series(True, index=scans.index))]
    parts += [(name, scans["split"] == name) for name in PARTS if (scans["split"] == name).any()]
    parts = parts if len(parts) > 2 else parts[:1]
    first = ~scans["patient"].duplicated()
    counts = [("Patients", [f"{scans['patient'][rows].nunique():,}" for _, rows in parts]),
              ("Scans", [f"{int(rows.sum()):,}" for _, rows in parts])]  # fmt: skip
    y = scans[[f"y_{finding}" for finding in findings]].astype(float)
    positive = [(f, [share(int((y[f"y_{f}"][rows] == 1).sum()), int(y[f"y_{f}"][rows].notna().sum()))
                     for _, rows in parts]) for f in findings]  # fmt: skip
    sections: list[Section] = [("", counts), ("Scans with the finding", positive)]
    for column in columns:
        text = scans[column].fillna("").astype(str)
        numbers = pd.to_numeric(text.where(text != ""), errors="coerce")
        keep = first if column in ("age", "sex") else None
        by_number = numbers[text != ""].notna().all() and numbers.nunique() > FEW
        rows = numeric(numbers, parts, keep) if by_number else categories(text, parts, keep)
        sections += [(column, rows)] if rows else []
    return [name for name, _ in parts], sections
