"""The user's labels.csv: read as text whatever its encoding, its columns understood, every problem told at once."""

import csv
import io
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

import pandas as pd

from pipeline.console import count
from pipeline.domain import UsageError
from pipeline.files import original_cell

KEYS = ("path", "accession_number", "scan_id", "series_uid", "study_uid", "patient_id")
"""Columns that can name a scan; the first one present joins, the others are checked against the scan."""

MEASURED = ("n_instances", "shape", "spacing_mm", "orientation", "content_sha256", "image_hash", "near_identical",
            "warnings")  # fmt: skip
"""Columns that `prepare` computes itself; in labels.csv (an older scans.csv, say) they are passed over."""

SPLITS = ("train", "tune", "test")
"""From the least to the most held out."""

SPLIT_NAMES = {
    "train": "train", "training": "train",
    "tune": "tune", "tuning": "tune", "val": "tune", "valid": "tune", "validation": "tune",
    "test": "test", "testing": "test",
}  # fmt: skip
"""Accepted words in a given `split` column, in lower case."""

SHOWN = 5
"""Values or lines that an error quotes before it says how many more there are."""


@dataclass(frozen=True, slots=True)
class Labels:
    """A labels.csv that was understood.

    Attributes:
        rows: Text, stripped, "" where empty; the index holds line numbers of the file (the header is line 1).
        key: The column of `KEYS` that joins.
        columns: The label columns.
        extras: Further columns (subgroups), without keys, split and fold.
        notices: What the user should know, in words.
    """

    rows: pd.DataFrame
    key: str
    columns: tuple[str, ...]
    extras: tuple[str, ...]
    notices: tuple[str, ...] = ()


def read_labels(path: Path, names: Sequence[str] = ()) -> Labels:
    """The labels in a CSV file: comma, semicolon or tab; UTF-8 or UTF-16; any line ends.

    Args:
        names: Label columns; empty takes those called `label` or `label_*`.

    Raises:
        UsageError: Listing every problem.
    """
    rows = _canonical_headers(_table(path), names)
    columns = tuple(dict.fromkeys(names)) or tuple(c for c in map(str, rows) if c == "label" or c.startswith("label_"))
    key = next((k for k in KEYS if k in rows), "")
    problems = _column_problems(rows, columns, key)
    if not problems:
        rows, found = _clean_cells(rows, key)
        problems += found
    if problems:
        raise UsageError(f"{path} can't be used:\n" + "\n".join(f"  {line}" for line in problems))
    passed_over = [c for c in map(str, rows) if c in MEASURED and c not in columns]
    extras = tuple(c for c in map(str, rows) if c not in (*KEYS, *columns, *MEASURED, "split", "fold"))
    notices = [f"labels: columns that prepare measures itself are passed over: {', '.join(passed_over)}"]
    return Labels(rows, key, columns, extras, tuple(notices if passed_over else ()))


def quoted(values: Sequence[object]) -> str:
    """The first few values, and how many more there are, for an error."""
    more = f" and {len(values) - SHOWN} more" if len(values) > SHOWN else ""
    return ", ".join(repr(str(value)[:40]) for value in values[:SHOWN]) + more


def lines_of(numbers: Sequence[int]) -> str:
    """`line 3` or `lines 3, 8 and 4 more`, for an error."""
    more = f" and {len(numbers) - SHOWN} more" if len(numbers) > SHOWN else ""
    return ("line " if len(numbers) == 1 else "lines ") + ", ".join(map(str, numbers[:SHOWN])) + more


def path_key(text: str) -> str:
    """A path as it is compared: POSIX, relative, composed Unicode; "" for a path that is not inside SCANS.

    Absolute paths, drives, UNC, URLs and `..` are refused even where they would lead back inside.
    """
    if "://" in text or text.lower().startswith("file:") or "\0" in text or PureWindowsPath(text).anchor:
        return ""
    parts = PurePosixPath(text.replace("\\", "/")).parts
    if ".." in parts or text.startswith("/"):
        return ""
    return unicodedata.normalize("NFC", "/".join(parts) or ".")


def _table(path: Path) -> pd.DataFrame:
    text = _decoded(path)
    header = next((line for line in text.splitlines() if line.strip()), "")
    separator = max(",;\t", key=header.count)
    try:
        records = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True))
    except csv.Error as error:
        raise UsageError(f"{path}: is no readable CSV ({error}); check quotes and line ends") from None
    numbered = [(n, r) for n, r in enumerate(records, start=1) if any(cell.strip() for cell in r)]
    if len(numbered) < 2:
        raise UsageError(f"{path}: expected a header line and at least one row, found {count(len(numbered), 'line')}")
    names = [name.strip() for name in numbered[0][1]]
    while names and not names[-1]:
        names.pop()
    wrong = [n for n, r in numbered[1:] if len(r) < len(names) or any(cell.strip() for cell in r[len(names) :])]
    problems = [f"column name {name!r} occurs {n} times" for name, n in Counter(names).items() if n > 1]
    if wrong:
        problems.append(
            f"{lines_of(wrong)}: not {count(len(names), 'cell')} as in the header; quote cells with separators"
        )
    if problems:
        raise UsageError(f"{path} can't be used:\n" + "\n".join(f"  {line}" for line in problems))
    cells = [[original_cell(cell.strip()) for cell in r[: len(names)]] for _, r in numbered[1:]]
    return pd.DataFrame(cells, columns=names, index=[n for n, _ in numbered[1:]], dtype=str)


def _decoded(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: can't be read ({error.strerror}); expected a CSV file with labels") from None
    if raw.startswith(b"PK\x03\x04") or raw.startswith(b"\xd0\xcf\x11\xe0"):
        raise UsageError(f"{path}: is a spreadsheet file; save it as 'CSV UTF-8' and give that file")
    encoding = "utf-16" if raw.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        where = raw.count(b"\n", 0, error.start) + 1
        raise UsageError(
            f"{path}: is not {encoding.removesuffix('-sig').upper()} text (line {where}); save it as 'CSV UTF-8'"
        ) from None
    if "\0" in text:
        raise UsageError(f"{path}: holds zero bytes (UTF-16 without its mark, or no text); save it as 'CSV UTF-8'")
    return text


def _canonical_headers(rows: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Known columns and asked-for labels found whatever their case, where that is unambiguous."""
    by_fold: dict[str, list[str]] = {}
    for column in rows:
        by_fold.setdefault(str(column).casefold(), []).append(str(column))
    renames: dict[str, str] = {}
    for wanted in (*names, *KEYS, "split", "fold", "label"):
        found = by_fold.get(wanted.casefold(), [])
        if wanted not in found and len(found) == 1:
            renames.setdefault(found[0], wanted)
    return rows.rename(columns=renames)


def _column_problems(rows: pd.DataFrame, columns: Sequence[str], key: str) -> list[str]:
    there = ", ".join(map(str, rows.columns))
    problems = [f"label column {c!r} is missing; the columns are: {there}" for c in columns if c not in rows]
    if not columns:
        problems.append(f"no column is called label or label_*; name yours with --label; the columns are: {there}")
    if not key:
        problems.append(f"no key column ({', '.join(KEYS)}); the columns are: {there}")
    reserved = [c for c in columns if c in (*KEYS, *MEASURED, "split", "fold", "study_date")]
    problems += [f"label column {c!r} has a name that scans.csv uses for something else; rename it" for c in reserved]
    return problems


def _clean_cells(rows: pd.DataFrame, key: str) -> tuple[pd.DataFrame, list[str]]:
    problems, rows = [], rows.copy()
    if key == "path":
        given = rows["path"]
        rows["path"] = given.map(lambda text: path_key(text) if text else "")
        outside = list(rows.index[(given != "") & (rows["path"] == "")])
        if outside:
            problems.append(
                f"path, {lines_of(outside)}: {len(outside)} not inside SCANS (absolute, URL, network or '..'); "
                "write paths relative to SCANS"
            )
    if "split" in rows:
        words = rows["split"].str.casefold()
        unknown = sorted(set(rows["split"][(words != "") & ~words.isin(list(SPLIT_NAMES))]))
        if unknown:
            problems.append(f"split: expected {', '.join(SPLITS)} (or val) or empty, found {quoted(unknown)}")
        rows["split"] = words.map(lambda word: SPLIT_NAMES.get(word, ""))
    if "fold" in rows:
        numbers = rows["fold"].str.removesuffix(".0")
        odd = sorted(set(rows["fold"][(numbers != "") & ~numbers.str.fullmatch(r"[0-9]{1,4}")]))
        if odd:
            problems.append(f"fold: expected whole numbers from 0 or empty, found {quoted(odd)}")
        rows["fold"] = numbers
    return rows, problems
