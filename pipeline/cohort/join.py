"""Label rows meet scans: which row names which scan, and everything that does not fit."""

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pandas as pd

from pipeline.cohort.labels import KEYS, SPLITS, Labels, lines_of
from pipeline.cohort.task import canonical
from pipeline.console import count
from pipeline.domain import Rejection, Scan, UsageError
from pipeline.scans.find import relative_path

UNMATCHED_COLUMNS = ("what", "line", "key", "scan_id", "path", "reason")
"""Columns of unmatched.csv: label rows without a scan, and scans without a label."""


@dataclass(frozen=True, slots=True)
class Joined:
    """Label rows on scans.

    Attributes:
        values: One row a scan, by scan_id: labels, extras, other keys, split and fold as text, "" where missing.
        split_conflicts: scan_ids named by rows of several splits; `values` holds the most held-out one.
        unmatched: Table of `UNMATCHED_COLUMNS`.
        notices: What the user should know, in words.
    """

    values: pd.DataFrame
    split_conflicts: frozenset[str]
    unmatched: pd.DataFrame
    notices: tuple[str, ...]


def join(
    labels: Labels, scans: Sequence[Scan], rejections: Sequence[Rejection], root: Path,
    not_selected: Sequence[Scan] = (),
) -> Joined:  # fmt: skip
    """Label rows joined to scans, with every mismatch reported.

    Args:
        labels: What `read_labels` gave.
        scans, rejections: What is there to be labelled, and what was refused.
        root: The folder that paths are relative to.
        not_selected: Scans that the read rules leave out; a row that names only these is no mistake.

    Raises:
        UsageError: If nothing matches, labels conflict, or a further key contradicts the scan.
    """
    index, left_out = _index(labels.key, scans, root), _index(labels.key, not_selected, root)
    hits: dict[int, list[int]] = {}
    unmatched: list[tuple[str, str, str, str, str, str]] = []
    refused = {p for r in rejections for f in r.files or (r.path,) for p in _with_parents(relative_path(f, root))}
    refused_ids = {r.scan_id for r in rejections if r.scan_id}
    for line, key in labels.rows[labels.key].items():
        found = index.get(key, ()) if key else ()
        for position in found:
            hits.setdefault(position, []).append(int(str(line)))
        if not found:
            known = key in refused_ids if labels.key == "scan_id" else key in refused
            reason = "no_key" if not key else "scan_rejected" if known else "no_scan"
            reason = "not_selected" if key in left_out else reason
            unmatched.append(("label row", str(line), key, "", "", reason))
    if scans and not hits:
        raise UsageError(_nothing_matches(labels, scans))
    problems = _conflicts(labels, hits, scans) + _contradictions(labels, hits, scans)
    if problems:
        raise UsageError("labels and scans contradict each other:\n" + "\n".join(f"  {line}" for line in problems))
    values, conflicts, notices = _merged(labels, hits, scans)
    bare = (values[list(labels.columns)] == "").all(axis=1)
    for position, scan in enumerate(scans):
        if bare.iloc[position]:
            reason = "label_empty" if position in hits else "no_label_row"
            unmatched.append(("scan", "", "", scan.scan_id, relative_path(scan.path, root), reason))
    table = pd.DataFrame(unmatched, columns=list(UNMATCHED_COLUMNS), dtype=str)
    return Joined(values, conflicts, table, (*labels.notices, *notices, *_counted(table)))


def _index(key: str, scans: Sequence[Scan], root: Path) -> dict[str, list[int]]:
    index: dict[str, list[int]] = {}
    for position, scan in enumerate(scans):
        names: Iterable[str] = (getattr(scan, key),) if key != "path" else _names(scan, root)
        for name in names:
            if name:
                index.setdefault(name, []).append(position)
    return index


def _names(scan: Scan, root: Path) -> set[str]:
    """Every path that a label row may use for a scan: its files, its aliases, and the folders above them."""
    files = {*scan.paths, *scan.aliases, scan.path}
    return {name for file in files for name in _with_parents(relative_path(file, root))}


def _with_parents(text: str) -> list[str]:
    path = PurePosixPath(unicodedata.normalize("NFC", text))
    return [str(path), *map(str, path.parents)]


def _nothing_matches(labels: Labels, scans: Sequence[Scan]) -> str:
    n, key = len(labels.rows), labels.key
    text = f"no label row names a scan: {count(n, 'row')}, {count(len(scans), 'scan')} found (key column: {key})"
    if key != "path":
        filled = sum(1 for scan in scans if getattr(scan, key))
        return f"{text}; {filled} of the scans have a {key}; compare the column with what the scans say"
    names = {file.name for scan in scans for file in (*scan.paths, *scan.aliases)}
    by_name = sum(1 for text in labels.rows["path"] if PurePosixPath(text).name in names)
    hint = f"; {count(by_name, 'row')} would match by file name alone" if by_name else ""
    return f"{text}{hint}; paths are read relative to SCANS"


def _conflicts(labels: Labels, hits: dict[int, list[int]], scans: Sequence[Scan]) -> list[str]:
    """Several rows of one key or one scan that give it different labels."""
    problems = []
    canon = labels.rows[list(labels.columns)].map(canonical)
    for column in labels.columns:
        told = canon[column][canon[column] != ""]
        keys = labels.rows[labels.key][told.index]
        by_key = told.groupby(keys).transform("nunique")
        lines = {int(str(line)) for line in told.index[(by_key > 1) & (keys != "")]}
        n_scans = 0
        for rows in hits.values():
            if len(rows) > 1 and len({canon.at[line, column] for line in rows} - {""}) > 1:
                lines.update(rows)
                n_scans += 1
        if lines:
            problems.append(
                f"{column}: {len(lines)} rows give different labels to the same key or scan "
                f"({n_scans} of {count(len(scans), 'scan')}; {lines_of(sorted(lines))})"
            )
    return problems


def _contradictions(labels: Labels, hits: dict[int, list[int]], scans: Sequence[Scan]) -> list[str]:
    problems = []
    for key in KEYS:
        if key == labels.key or key not in labels.rows or key == "path":
            continue
        cells = labels.rows[key].to_dict()
        wrong = sorted(
            line
            for position, lines in hits.items()
            for line in lines
            if cells[line] and getattr(scans[position], key) and cells[line] != getattr(scans[position], key)
        )
        if wrong:
            problems.append(
                f"{key}: {count(len(wrong), 'row')} against what the scan itself says ({lines_of(wrong)}); "
                f"correct the row, or rename the column if it means something else"
            )
    for column in (c for c in (*KEYS, "fold") if c in labels.rows and c != labels.key):
        cells = labels.rows[column].to_dict()
        torn = [lines for lines in hits.values() if len({cells[line] for line in lines} - {""}) > 1]
        if torn and column in ("patient_id", "fold"):
            problems.append(
                f"{column}: rows of {count(len(torn), 'scan')} differ from each other ({lines_of(torn[0])})"
            )
    return problems


def _merged(
    labels: Labels, hits: dict[int, list[int]], scans: Sequence[Scan]
) -> tuple[pd.DataFrame, frozenset[str], list[str]]:
    """One row a scan: the first value that is not empty in each column (of splits the most held-out)."""
    columns = [str(c) for c in labels.rows if c != labels.key and (c in labels.extras or c in (*KEYS, "fold"))]
    columns += [*labels.columns, *(["split"] if "split" in labels.rows else [])]
    cells = {column: labels.rows[column].to_dict() for column in columns}
    merged: dict[str, list[str]] = {column: [] for column in columns}
    torn: dict[str, list[int]] = {}
    for position in range(len(scans)):
        lines = hits.get(position, [])
        for column in columns:
            told = list(dict.fromkeys(c for line in lines if (c := cells[column][line])))
            if column in labels.columns:
                told = list(dict.fromkeys(map(canonical, told)))
            if len(told) > 1:
                torn.setdefault(column, []).append(position)
            if column == "split":
                told.sort(key=SPLITS.index, reverse=True)
            merged[column].append(told[0] if told else "")
    ids = [scan.scan_id for scan in scans]
    repeated = sum(1 for lines in hits.values() if len(lines) > 1)
    notices = [f"scans named by several label rows that agree: {repeated}; each counts once"] if repeated else []
    notices += [
        f"scans whose label rows differ in {column}: {len(positions)}; the first value is used"
        for column, positions in torn.items()
        if column != "split"
    ]
    conflicts = frozenset(ids[p] for p in torn.get("split", []))
    return pd.DataFrame(merged, index=pd.Index(ids, name="scan_id"), dtype=str), conflicts, notices


def _counted(unmatched: pd.DataFrame) -> list[str]:
    words = {
        "no_scan": "label rows that name no scan",
        "no_key": "label rows with an empty key",
        "scan_rejected": "label rows that name a refused scan",
        "not_selected": "label rows that name only scans which the read rules did not select",
        "no_label_row": "scans that no label row names",
        "label_empty": "scans with an empty label",
    }
    counts = unmatched["reason"].value_counts()
    return [f"{text}: {counts[reason]} (unmatched.csv)" for reason, text in words.items() if reason in counts]
