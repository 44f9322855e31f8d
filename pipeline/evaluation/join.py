"""Predictions and labels from two tables, joined by scan_id, with every mismatch said aloud."""

from dataclasses import dataclass

import pandas as pd

from pipeline.console import count
from pipeline.domain import UsageError
from pipeline.evaluation.table import LISTED, NO_SPLIT, PROBABILITY, findings_of, number_problems, selected

SHARED = ("patient", "split", "fold")
"""Columns that either table may give; where both do, they must agree."""
WORDS = {"0": "0", "0.0": "0", "1": "1", "1.0": "1", "": ""}


@dataclass(frozen=True, slots=True)
class Joined:
    """The joined table (text columns, y_<finding> added) and what did not match, in words."""

    table: pd.DataFrame
    notes: tuple[str, ...]


def join(predictions: pd.DataFrame, labels: pd.DataFrame) -> Joined:
    """One row a prediction, with its label; a prediction without a label keeps empty labels.

    Args:
        predictions: Text columns with scan_id and p_<finding>; status, split, patient_id where known.
        labels: Text columns with scan_id and one column a finding (`<finding>` or `y_<finding>`); multiclass findings
            `<label>=<class>` are also found in a column `<label>` of class names.

    Raises:
        UsageError: Listing every problem: missing columns, doubled scan ids, values that disagree or are no label.
    """
    predictions, labels = selected(_renamed(predictions)), _renamed(labels)
    problems = [
        problem
        for name, table in (("predictions", predictions), ("labels", labels))
        for problem in _key_problems(name, table)
    ]
    findings = findings_of(predictions.columns)
    problems += [] if findings else ["predictions: no column p_<finding>"]
    problems += [
        f"labels: no column for finding {f}; expected {f}, y_{f}" + (f" or {f.partition('=')[0]}" if "=" in f else "")
        for f in findings
        if _column_of(f, labels) is None
    ]
    problems += _value_problems(predictions, labels, findings)
    _refuse(problems)
    labels = labels.set_index("scan_id")
    table = _with_shared(predictions, labels, problems)
    for finding in findings:
        table[f"y_{finding}"] = (
            _labels_of(finding, findings, labels, []).reindex(table["scan_id"]).fillna("").to_numpy()
        )
    for column in labels.columns:
        if column not in table.columns and column not in {_column_of(f, labels) for f in findings}:
            table[column] = labels[column].reindex(table["scan_id"]).fillna("").to_numpy()
    _refuse(problems)
    return Joined(table, tuple(_notes(predictions, labels)))


def _value_problems(predictions: pd.DataFrame, labels: pd.DataFrame, findings: list[str]) -> list[str]:
    """Probabilities and labels that are none, in tables whose keys may be wrong too: all is said at once."""
    problems: list[str] = []
    scored = predictions["status"] == "ok" if "status" in predictions.columns else pd.Series(True, predictions.index)
    for finding in findings:
        wrong = number_problems(predictions, f"p_{finding}", scored, PROBABILITY, lambda v: (v >= 0) & (v <= 1))
        problems += [f"predictions: {problem}" for problem in wrong]
        if _column_of(finding, labels) is not None:
            _labels_of(finding, findings, labels, problems)
    return problems


def _refuse(problems: list[str]) -> None:
    if problems:
        raise UsageError("predictions and labels can't be joined:\n" + "\n".join(f"  {p}" for p in problems))


def _renamed(table: pd.DataFrame) -> pd.DataFrame:
    if "patient" not in table.columns and "patient_id" in table.columns:
        return table.rename(columns={"patient_id": "patient"})
    return table


def _key_problems(name: str, table: pd.DataFrame) -> list[str]:
    if "scan_id" not in table.columns:
        return [f"{name}: no column scan_id; found {', '.join(map(str, table.columns[:LISTED]))}"]
    empty, doubled = (
        int((table["scan_id"] == "").sum()),
        int(table["scan_id"][table["scan_id"] != ""].duplicated().sum()),
    )
    found = [f"{name}: scan_id is empty in {count(empty, 'row')}"] if empty else []
    return found + (
        [f"{name}: a scan_id is repeated in {count(doubled, 'row')}; keep one row a scan"] if doubled else []
    )


def _column_of(finding: str, labels: pd.DataFrame) -> str | None:
    """The column that holds a finding's label."""
    names = (finding, f"y_{finding}", finding.partition("=")[0], f"y_{finding.partition('=')[0]}")
    return next((name for name in names if name in labels.columns), None)


def _with_shared(predictions: pd.DataFrame, labels: pd.DataFrame, problems: list[str]) -> pd.DataFrame:
    """The predictions with patient, split and fold from whichever table has them."""
    table = predictions.copy()
    for column in SHARED:
        if column not in labels.columns:
            continue
        other = labels[column].reindex(table["scan_id"]).fillna("").to_numpy()
        if column not in table.columns:
            table[column] = other
            continue
        differ = int(((table[column] != other) & (table[column] != "") & (other != "")).sum())
        if differ:
            problems.append(f"{column}: differs between predictions and labels for {count(differ, 'scan')}")
        table[column] = table[column].where(table[column] != "", other)
    if "split" in table.columns:
        table["split"] = table["split"].replace("", "all" if (table["split"] == "").all() else NO_SPLIT)
    return table


def _labels_of(finding: str, findings: list[str], labels: pd.DataFrame, problems: list[str]) -> pd.Series:
    """0, 1 or empty as text, by scan_id."""
    column = str(_column_of(finding, labels))
    values = labels[column]
    label, equals, name = finding.partition("=")
    if equals and column.removeprefix("y_") == label:
        classes = {f.partition("=")[2] for f in findings if f.startswith(f"{label}=")}
        foreign = sorted(set(values) - classes - {""})
        message = f"{column}: expected one of {', '.join(sorted(classes))}, found also {', '.join(foreign[:LISTED])}"
        if foreign and message not in problems:
            problems.append(message)
        return values.map(lambda value: "" if value == "" else str(int(value == name)))
    wrong = int((~values.isin(list(WORDS))).sum())
    if wrong:
        problems.append(f"{column}: expected 0, 1 or empty, found something else in {count(wrong, 'row')}")
    return values.map(lambda value: WORDS.get(value, ""))


def _notes(predictions: pd.DataFrame, labels: pd.DataFrame) -> list[str]:
    alone, unused = ~predictions["scan_id"].isin(labels.index), ~labels.index.isin(predictions["scan_id"])
    notes = [f"predictions without a label row, not evaluated: {int(alone.sum()):,}"] if alone.any() else []
    notes += [f"label rows without a prediction, not evaluated: {int(unused.sum()):,}"] if unused.any() else []
    if alone.all():
        raise UsageError(
            "no scan_id of the labels is found among the predictions; expected the same ids in both tables"
        )
    if "patient" not in predictions.columns and "patient" not in labels.columns:
        notes.append("no patient_id in either table: every scan counts as a patient of its own")
    return notes
