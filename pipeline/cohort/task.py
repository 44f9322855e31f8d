"""What the labels ask for: binary, multiclass or multilabel; their classes, findings and targets."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd

from pipeline.cohort.labels import quoted
from pipeline.domain import UsageError

TaskKind: TypeAlias = Literal["binary", "multiclass", "multilabel"]

NO_CLASS = frozenset({"nan", "na", "n/a", "<na>", "#n/a", "null", "-nan"})
"""Words that programs write for a missing value; as a class they are refused, an empty cell says missing."""

MAX_CLASSES = 100
"""More classes than this in one column look like a measurement, not like classes."""


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be learnt.

    Attributes:
        labels: The label columns.
        classes: Values of a class column, sorted; ("0", "1") for binary and multilabel.
        findings: One name a probability: the label's own name, or `<label>=<class>` for multiclass.
    """

    kind: TaskKind
    labels: tuple[str, ...]
    classes: tuple[str, ...]
    findings: tuple[str, ...]


def canonical(cell: str) -> str:
    """A class as it is stored: whole numbers without decimals ("1.0" is "1"), other text as it is."""
    try:
        number = float(cell)
    except ValueError:
        return cell
    return str(int(number)) if np.isfinite(number) and number == int(number) else cell


def task_of(values: pd.DataFrame) -> Task:
    """The task that label columns ask for; `values` holds text, "" where missing.

    One column of 0 and 1 is binary, one of other whole numbers or of words is multiclass, several columns of
    0 and 1 are multilabel.

    Raises:
        UsageError: Naming the values that are no class, for every column.
    """
    labels = tuple(map(str, values.columns))
    problems = [line for label in labels for line in _problems(label, values[label], several=len(labels) > 1)]
    if problems:
        raise UsageError("the labels can't be used:\n" + "\n".join(f"  {line}" for line in problems))
    if len(labels) > 1:
        return Task("multilabel", labels, ("0", "1"), labels)
    classes = sorted({canonical(cell) for cell in values[labels[0]] if cell}, key=_class_order)
    if set(classes) <= {"0", "1"}:
        return Task("binary", labels, ("0", "1"), labels)
    return Task("multiclass", labels, tuple(classes), tuple(f"{labels[0]}={name}" for name in classes))


def targets_of(table: pd.DataFrame, task: Task) -> pd.DataFrame:
    """One float column a finding, indexed like `table`: 0, 1, or NaN where the label is missing."""
    if task.kind != "multiclass":
        return pd.DataFrame({name: pd.to_numeric(table[name]).astype(float) for name in task.labels})
    column = table[task.labels[0]]
    known = column != ""
    pairs = zip(task.findings, task.classes, strict=True)
    return pd.DataFrame({name: (column == value).astype(float).where(known) for name, value in pairs})


def memberships(table: pd.DataFrame, task: Task) -> pd.DataFrame:
    """One bool column for each class of each label (`<label>=<class>`): which scans belong to it."""
    return pd.DataFrame(
        {f"{label}={value}": table[label] == value for label in task.labels for value in task.classes},
        index=table.index,
    )


def has_label(table: pd.DataFrame, labels: Sequence[str]) -> "pd.Series[bool]":
    """Which scans have at least one label."""
    return (table[list(labels)] != "").any(axis=1)


def _class_order(name: str) -> tuple[int, str]:
    return (int(name), "") if name.lstrip("-").isdigit() else (0, name)


def _problems(label: str, cells: "pd.Series[str]", several: bool) -> list[str]:
    values = sorted({canonical(cell) for cell in cells if cell})
    whole = [v for v in values if v.lstrip("-").isdigit()]
    none = [v for v in values if v.casefold() in NO_CLASS]
    broken = [v for v in values if v not in whole and v not in none and _is_number(v)]
    words = [v for v in values if v not in whole and v not in none and v not in broken]
    problems = []
    if not values:
        problems.append(f"{label}: every row is empty")
    if none:
        problems.append(f"{label}: {quoted(none)} is no class; leave the cell empty where the label is missing")
    if several:
        odd = [v for v in (*whole, *broken, *words) if v not in ("0", "1")]
        return problems + ([f"{label}: expected 0, 1 or empty (several labels), found {quoted(odd)}"] if odd else [])
    if broken:
        problems.append(f"{label}: expected classes, found numbers that are not whole: {quoted(broken)}")
    if whole and words:
        odd = words if len(words) <= len(whole) else whole
        problems.append(f"{label}: numbers and words are mixed; the odd values: {quoted(odd)}")
    if len(words) != len({v.casefold() for v in words}):
        twins = [v for v in words if [w.casefold() for w in words].count(v.casefold()) > 1]
        problems.append(f"{label}: classes that differ only in case: {quoted(twins)}")
    if len(values) > MAX_CLASSES:
        problems.append(f"{label}: {len(values)} different values; expected at most {MAX_CLASSES} classes")
    if len(words) == 1 and not whole:
        problems.append(f"{label}: only one class, {quoted(words)}; expected at least two")
    return problems


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
