"""The table that every evaluation starts from: one row a scan, checked before a number is computed.

Columns: scan_id, patient, split, fold, status, y_<finding> ..., p_<finding> ..., and subgroup columns. Messages name
lines and counts, never the values of identifiers: in a user's own table they may be names.
"""

import csv
import io
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.console import count
from pipeline.domain import UsageError
from pipeline.files import original_cell

NO_SUBGROUP = frozenset({
    "scan_id", "patient", "patient_id", "accession_number", "study", "study_uid", "series_uid", "path", "split", "fold",
    "status", "reason", "detail", "warnings", "uncertainty", "spread", "in_distribution", "model", "seconds",
    "study_date", "content_sha256", "image", "image_hash", "near_identical", "member",
})  # fmt: skip
"""Columns that identify or describe a row instead of grouping scans."""
NO_SPLIT = "(no split)"
"""Where rows go whose split is empty, while others have one (no label, no split): they are not evaluated."""
PROBABILITY = "a probability from 0 to 1"
LINE = "line"
"""Name of an index that holds the lines of the file a table was read from; the header is line 1."""
LISTED = 8
"""Lines named in one message; the rest are counted."""


def read_table(path: Path) -> pd.DataFrame:
    """A CSV file as text columns, empty cells as ""; comma or semicolon, UTF-8 with or without a byte-order mark.

    The index holds the lines of the file (`LINE`), so that messages still name them when rows are left out.

    Raises:
        UsageError: If it can't be read, is not UTF-8, or holds no rows.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"{path}: is not UTF-8 text; save it as CSV (UTF-8)") from None
    except OSError as error:
        raise UsageError(f"{path}: can't be read ({error.strerror}); expected a CSV file") from None
    header = text.partition("\n")[0]
    separator = ";" if ";" in header and "," not in header else ","
    try:
        lines, rows = _records(text, separator)
    except csv.Error as error:
        raise UsageError(f"{path}: is no table ({error}); expected CSV with a header line") from None
    names = [name.strip() for name in rows[0]] if rows else []
    doubled = sorted({name for name in names if names.count(name) > 1})
    uneven = sum(len(row) != len(names) for row in rows)
    problems = [f"columns that appear twice: {', '.join(doubled)}"] if doubled else []
    problems += [f"not {count(len(names), 'cell')} as in the header: {count(uneven, 'line')}"] if uneven else []
    problems += [] if len(rows) > 1 else ["no rows under a header line"]
    if problems:
        raise UsageError(f"{path}: {'; '.join(problems)}")
    cells = [[original_cell(cell.strip()) for cell in row] for row in rows[1:]]
    return pd.DataFrame(cells, columns=names, index=pd.Index(lines[1:], name=LINE), dtype=str)


def _records(text: str, separator: str) -> tuple[list[int], list[list[str]]]:
    """The lines on which records begin, and the records; blank lines are passed over.

    Raises:
        csv.Error: If quotes don't match.
    """
    lines, rows, begins = [], [], 1
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    for row in reader:
        if row:
            lines.append(begins)
            rows.append(row)
        begins = reader.line_num + 1
    return lines, rows


def read_tables(*paths: Path) -> list[pd.DataFrame]:
    """Several tables, as `read_table` gives them.

    Raises:
        UsageError: Listing what is wrong with each of them.
    """
    found, problems = [], []
    for path in paths:
        try:
            found.append(read_table(path))
        except UsageError as error:
            problems.append(str(error))
    if problems:
        raise UsageError("\n".join(problems))
    return found


def findings_of(columns: Iterable[str]) -> list[str]:
    """The findings that a table predicts, from its p_<finding> columns."""
    return [column.removeprefix("p_") for column in columns if column.startswith("p_")]


def subgroup_columns(table: pd.DataFrame) -> list[str]:
    """Columns whose values group scans: all that are neither known, a label, nor a prediction."""
    return [c for c in table.columns if c not in NO_SUBGROUP and not c.startswith(("p_", "y_", "positive_", "Unnamed"))]


def check_predictions(table: pd.DataFrame, source: str) -> pd.DataFrame:
    """The table with numbers as numbers and every default column, sorted by scan_id: row order means nothing.

    Args:
        table: Text columns, as `read_table` gives them.
        source: Names the table in messages.

    Raises:
        UsageError: Listing every problem.
    """
    found = findings_of(table.columns)
    problems = [] if "scan_id" in table.columns else ["no column scan_id"]
    problems += [] if found else ["no column p_<finding>"]
    problems += [f"p_{f} has no label column y_{f}" for f in found if f"y_{f}" not in table.columns]
    if problems:
        raise UsageError(f"{source} can't be evaluated:\n" + "\n".join(f"  {p}" for p in problems))
    table = with_defaults(selected(table))
    ok = table["status"] == "ok"
    problems += _identifiers(table)
    for finding in found:
        p, y, positive = f"p_{finding}", f"y_{finding}", f"positive_{finding}"
        problems += number_problems(table, p, ok, PROBABILITY, lambda v: (v >= 0) & (v <= 1))
        problems += number_problems(table, y, table[y] != "", "0, 1 or empty", lambda v: v.isin([0, 1]))
        table[p], table[y] = as_numbers(table[p]), as_numbers(table[y])
        if positive in table.columns:
            table[positive] = _as_flags(table[positive])
            missing = _lines(ok & table[positive].isna())
            problems += (
                [f"{positive}: expected true or false for every scan, found something else in {missing}"]
                if missing
                else []
            )
    if problems:
        raise UsageError(f"{source} can't be evaluated:\n" + "\n".join(f"  {p}" for p in problems))
    return table.sort_values("scan_id", kind="stable").reset_index(drop=True)


def selected(table: pd.DataFrame) -> pd.DataFrame:
    """The table without the scans that the read rules left out: another scan of their study stands for them.

    A file that was refused before it became a scan has no scan_id; it gets a name of its own, and counts as rejected.
    """
    if "status" not in table or "scan_id" not in table:
        return table
    kept = table[table["status"] != "not_selected"]
    nameless = (kept["scan_id"] == "") & (kept["status"] != "ok")
    return kept.assign(scan_id=kept["scan_id"].where(~nameless, "refused file " + kept.index.astype(str)))


def with_defaults(table: pd.DataFrame) -> pd.DataFrame:
    """A copy with status, split, fold and patient where left out; a scan without a patient is its own patient."""
    table = table.copy()
    for column, default in (("status", "ok"), ("split", "all"), ("fold", "")):
        if column not in table.columns:
            table[column] = default
    if "patient" not in table.columns:
        table["patient"] = table["patient_id"] if "patient_id" in table.columns else ""
    table["split"] = table["split"].replace("", NO_SPLIT)
    table["patient"] = table["patient"].where(table["patient"] != "", "scan " + table["scan_id"])
    return table


def _identifiers(table: pd.DataFrame) -> list[str]:
    problems = []
    held_out = table[table["split"] != "train"]
    if empty := _lines(table["scan_id"] == ""):
        problems.append(f"scan_id: empty in {empty}")
    if doubled := _lines(held_out["scan_id"].duplicated(keep=False)):
        problems.append(f"scan_id: more than one row for the same scan in {doubled}; keep one row a scan")
    return problems


def shared_patients(table: pd.DataFrame, allowed: bool) -> list[str]:
    """Which splits share patients or images, in words, where that is allowed: test with any other, tune with train.

    Images are compared where the table has a column `image` (runs do: near-identical ones share a name there) or
    `content_sha256`.

    Raises:
        UsageError: If any are shared and that is not allowed.
    """
    shared = _shared(table["patient"], table["split"], "patients")
    image = next((column for column in ("image", "content_sha256") if column in table), None)
    shared += _shared(table[image], table["split"], "identical or near-identical images") if image else []
    if shared and not allowed:
        lines = "\n".join(f"  {line}" for line in shared)
        raise UsageError(
            f"the splits leak:\n{lines}\nSplit by patient and image (pipeline.prepare does), or add "
            "--allow-shared-patients for numbers that flatter."
        )
    return [f"{line}; these numbers flatter" for line in shared]


def _shared(names: pd.Series, splits: pd.Series, what: str) -> list[str]:
    of = {str(split): set(part) for split, part in names[names != ""].groupby(splits)}
    pairs = [("test", other) for other in ("train", "tune", "oof")] + [("tune", "train")]
    counts = [(a, b, len(of.get(a, set()) & of.get(b, set()))) for a, b in pairs]
    return [f"{what} both in {a} and in {b}: {n:,}" for a, b, n in counts if n]


def number_problems(
    table: pd.DataFrame, column: str, rows: pd.Series, expected: str, valid: Callable[[pd.Series], pd.Series]
) -> list[str]:
    """One message if a column holds anything but what is expected in these rows."""
    values = as_numbers(table[column])
    wrong = _lines(rows & ~(values.notna() & np.isfinite(values) & valid(values)))
    return [f"{column}: expected {expected}, found something else in {wrong}"] if wrong else []


def as_numbers(column: pd.Series) -> pd.Series:
    """The column as floats, NaN where it is empty or no number."""
    return pd.to_numeric(column, errors="coerce").astype(float)


def _as_flags(column: pd.Series) -> pd.Series:
    words = {"true": 1.0, "1": 1.0, "1.0": 1.0, "false": 0.0, "0": 0.0, "0.0": 0.0}
    return column.str.lower().map(words).astype(float)


def _lines(wrong: pd.Series) -> str:
    """The lines of the file in words, "" where there are none; of a table that was never a file, as if it were one."""
    lines = wrong.index[wrong] + (0 if wrong.index.name == LINE else 2)
    if not len(lines):
        return ""
    more = f" and {len(lines) - LISTED} more" if len(lines) > LISTED else ""
    return ("line " if len(lines) == 1 else "lines ") + ", ".join(map(str, lines[:LISTED])) + more
