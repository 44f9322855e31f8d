"""Train, tune and test: by patient, stratified by label, the same for every order of the rows."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.cohort.leakage import patients
from pipeline.console import count
from pipeline.domain import UsageError
from pipeline.sections import CohortSection

ATTEMPTS = 50
"""Orders tried before a split that puts every class into every part counts as impossible."""

FEWEST_PATIENTS = 2
"""A class of fewer patients can't be split at all."""


def split_of(
    members: pd.DataFrame, table: pd.DataFrame, groups: "pd.Series[str]", section: CohortSection
) -> "pd.Series[str]":
    """`train`, `tune` or `test` for each scan.

    Args:
        members: bool [scan, class]: which scans belong to which class.
        table: The same scans with patient_id, scan_id and the columns of `section.hold_out`.
        groups: What never parts (`pipeline.cohort.leakage.together`).

    Raises:
        UsageError: If a class has too few patients to be in every split; says how many are needed.
    """
    held = held_out(table, groups, section.hold_out)
    share = {"test": 0.0 if held.any() else section.test_fraction, "tune": section.tune_fraction}
    if held.any():
        share["tune"] = section.tune_fraction / (1 - section.test_fraction)
    share["train"] = 1 - share["test"] - share["tune"]
    parts = {name: fraction for name, fraction in share.items() if fraction > 0}
    found = allocate(members[~held], patients(table)[~held], groups[~held], parts, section.seed, every_class=True)
    return found.reindex(table.index, fill_value="test").rename("split")


def folds_of(
    members: pd.DataFrame, table: pd.DataFrame, groups: "pd.Series[str]", folds: int, seed: int
) -> "pd.Series[str]":
    """Fold 0..folds-1, as text, for each scan; all "" if there are fewer groups than folds."""
    if not folds or groups.nunique() < folds:
        return pd.Series("", index=table.index, name="fold")
    parts = {str(k): 1 / folds for k in range(folds)}
    return allocate(members, patients(table), groups, parts, seed, every_class=False).rename("fold")


def check_classes(members: pd.DataFrame, patient: "pd.Series[str]") -> None:
    """Refuse classes of fewer than two patients: they can't be both learnt and tested.

    Raises:
        UsageError: With the counts of every such class.
    """
    counts = {str(name): int(patient[members[name]].nunique()) for name in members}
    few = [f"{name}: {n}" for name, n in counts.items() if n < FEWEST_PATIENTS]
    if few:
        raise UsageError(
            f"every class needs at least {FEWEST_PATIENTS} patients among the labelled scans that can be read; found "
            + ", ".join(few) + " (all classes: " + ", ".join(f"{name}: {n}" for name, n in counts.items()) + ")"
        )  # fmt: skip


def held_out(table: pd.DataFrame, groups: "pd.Series[str]", hold_out: Mapping[str, Sequence[str]]) -> "pd.Series[bool]":
    """Scans that `hold_out` sends to the test split, with everything that must stay with them.

    Raises:
        UsageError: If a column or a value is not there.
    """
    problems, chosen = [], pd.Series(False, index=table.index)
    for column, values in hold_out.items():
        if column not in table:
            problems.append(f"cohort.hold_out: no column {column!r}; the columns are: {', '.join(map(str, table))}")
            continue
        missing = sorted(set(values) - set(table[column]))
        if missing:
            there = ", ".join(sorted(set(table[column]) - {""})[:20])
            problems.append(f"cohort.hold_out: no labelled scan has {column} {', '.join(missing)}; there are: {there}")
        chosen |= table[column].isin(list(values))
    if problems:
        raise UsageError("\n".join(problems))
    return groups.isin(set(groups[chosen]))


def allocate(
    members: pd.DataFrame,
    patient: "pd.Series[str]",
    groups: "pd.Series[str]",
    parts: Mapping[str, float],
    seed: int,
    every_class: bool,
) -> "pd.Series[str]":
    """The part of each scan, so that whole groups stay together and every part gets its share of each class.

    Patients are counted, not scans. The largest groups go first, each to the part that lacks most of what it brings
    (iterative stratification, Sechidis et al. 2011, for groups); ties fall by a hash of seed and group name.

    Args:
        parts: Name -> share; the shares add up to 1.
        every_class: Put at least one group of each class into every part first.

    Raises:
        UsageError: If a class has fewer groups than there are parts.
    """
    names, weights = _weights(members, patient, groups)
    if every_class:
        _enough(members.columns, weights, tuple(parts))
    shares = np.array(list(parts.values()))
    for attempt in range(ATTEMPTS):
        order = sorted(range(len(names)), key=lambda g: _rank(f"{seed}:{attempt}:{names[g]}"))
        place = _place(weights, shares, order, every_class)
        if place is not None:
            part_of = dict(zip(names, np.array(list(parts))[place], strict=True))
            return groups.map(part_of).astype(str)
    raise UsageError(
        f"no split into {', '.join(parts)} has every class in every part: too few groups of patients for that "
        f"({len(names)}); set cohort.tune_fraction or cohort.test_fraction to 0, or join small classes"
    )


def _weights(
    members: pd.DataFrame, patient: "pd.Series[str]", groups: "pd.Series[str]"
) -> tuple[list[str], NDArray[np.float64]]:
    """Names of the groups, and [group, 1 + class]: how many patients each has, in all and in each class."""
    by_patient = members.groupby([groups.rename("group"), patient.rename("patient")]).any()
    by_patient.insert(0, "\0all", True)
    table = by_patient.groupby(level="group").sum().sort_index()
    return [str(name) for name in table.index], table.to_numpy(dtype=np.float64)


def _rank(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=8).digest()


def _enough(classes: Iterable[object], weights: NDArray[np.float64], parts: Sequence[str]) -> None:
    """Every class needs a group for every part."""
    groups, counts = (weights[:, 1:] > 0).sum(axis=0), weights[:, 1:].sum(axis=0)
    problems = [
        f"  {name}: {count(int(n), 'patient')}" + (f" that must not part, in {count(int(g), 'group')}" if g < n else "")
        for name, n, g in zip(classes, counts, groups, strict=True)
        if g < len(parts)
    ]
    if problems:
        raise UsageError(
            f"a split into {', '.join(parts)} needs at least {len(parts)} patients of each class, one for each part:\n"
            + "\n".join(problems)
            + "\nadd patients, join classes, or set cohort.tune_fraction or cohort.test_fraction to 0"
        )


def _place(
    weights: NDArray[np.float64], shares: NDArray[np.float64], order: Sequence[int], every_class: bool
) -> NDArray[np.int64] | None:
    """The part of each group, or None if a class did not reach every part."""
    totals = weights.sum(axis=0)
    wanted, have = shares[:, None] * totals, np.zeros((len(shares), len(totals)))
    place = np.full(len(weights), -1, dtype=np.int64)
    if every_class and not _seed_classes(weights, order, place, have):
        return None
    scale = 1 / np.maximum(totals, 1) ** 2
    for group in sorted((g for g in order if place[g] < 0), key=lambda g: -weights[g, 0]):
        part = int(np.argmin(((have - wanted) * scale) @ weights[group]))
        place[group] = part
        have[part] += weights[group]
    return place


def _seed_classes(
    weights: NDArray[np.float64], order: Sequence[int], place: NDArray[np.int64], have: NDArray[np.float64]
) -> bool:
    """One small group of each class, the rarest class first, into every part that has none yet."""
    rarest_first = np.argsort((weights[:, 1:] > 0).sum(axis=0), kind="stable") + 1
    for column in rarest_first:
        for part in range(len(have)):
            if have[part, column]:
                continue
            free = [g for g in order if place[g] < 0 and weights[g, column]]
            if not free:
                return False
            group = min(free, key=lambda g: weights[g, 0])
            place[group] = part
            have[part] += weights[group]
    return True
