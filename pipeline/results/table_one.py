"""Rows of a Table 1: who is in the cohort, in each of its parts."""

from collections.abc import Sequence

import pandas as pd

Columns = Sequence[tuple[str, "pd.Series[bool]"]]
"""Name of each part, and which rows are in it; the first part is all of them."""
Row = tuple[str, list[str]]

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
