"""The COHORT folder: its tables written together, read back and checked."""

import hmac
import os
import secrets
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pipeline.cohort.cache import forget_passing_refusals
from pipeline.cohort.fingerprint import SCHEMA_VERSION, scans_sha256
from pipeline.cohort.labels import SPLITS, quoted
from pipeline.cohort.leakage import images, leaks, patients, studies
from pipeline.cohort.task import Task, TaskKind, targets_of
from pipeline.domain import UsageError
from pipeline.files import make_folder, read_json, read_table, sha256_of, write_json, write_table, write_text

FOUND_COLUMNS = (
    "scan_id", "patient_id", "accession_number", "study_uid", "series_uid", "modality", "path", "n_instances", "shape",
    "spacing_mm", "orientation", "study_date", "manufacturer", "model_name", "sex", "age", "content_sha256",
    "image_hash", "near_identical", "body_part", "contrast_agent",
)  # fmt: skip
"""Columns of scans.csv before the labels. `shape` ("512x512x30") and `spacing_mm` ("0.7x0.7x2.5") run along i, j, k
(Right, Anterior, Superior); `age` is in years; scans of different patients that look alike share a
`near_identical`; after the labels come the user's own columns and `LAST_COLUMNS`."""

LATER_COLUMNS = ("image_hash", "near_identical", "body_part", "contrast_agent")
"""Of these, cohorts of earlier versions have none: there they are empty."""

LAST_COLUMNS = ("split", "fold", "warnings")
"""`split` and `fold` are empty where a scan is not used; `warnings` holds codes, separated by semicolons."""

HEADER_SUBGROUPS = ("sex", "age", "manufacturer", "model_name", "modality")
"""Columns of the scans themselves by which an evaluation may group."""

MAX_SUBGROUPS = 20
"""A column with more values than this is no subgroup (and may name patients)."""

OWN_FILES = ("scans.csv", "rejected.csv", "not_selected.csv", "skipped.csv", "unmatched.csv", "duplicates.csv")
"""Tables of a COHORT folder; what `prepare` does not write this time is removed from an earlier one."""


@dataclass(frozen=True, slots=True)
class Cohort:
    """A prepared cohort, checked.

    Attributes:
        table: scans.csv: text, "" where empty; `n_instances` whole numbers, `age` in years (NaN where unknown).
        labels: The label columns.
        classes: Values of a class column; ("0", "1") for binary and multilabel.
        sha256: Over scan ids, patients, voxel hashes, labels, split and folds as they are now.
        warnings: `hash_mismatch`: scans.csv was changed after `prepare` wrote it.
    """

    folder: Path
    scans_root: Path
    table: pd.DataFrame
    labels: tuple[str, ...]
    task: TaskKind
    findings: tuple[str, ...]
    classes: tuple[str, ...]
    sha256: str = ""
    warnings: tuple[str, ...] = ()


def write_cohort(
    folder: Path, tables: Mapping[str, pd.DataFrame], fingerprint: Mapping[str, object], page: str, config: str = ""
) -> bool:
    """Write all files of a cohort: first beside, then moved into place together; a full disk changes nothing.

    Args:
        config: Proposed config.yaml, "" for none. One that was edited since it was proposed stays as it is.

    Returns:
        Whether config.yaml is the proposed one.
    """
    make_folder(folder)
    proposed = config != "" and not _config_was_edited(folder)
    kept = fingerprint if proposed else {**fingerprint, "config_sha256": _sha256_of_proposal(folder)}
    texts = {"cohort.html": page, **({"config.yaml": config} if proposed else {})}
    with tempfile.TemporaryDirectory(dir=folder, prefix=".prepare-") as temporary:
        beside = Path(temporary)
        for file, table in tables.items():
            write_table(beside / file, table)
        write_json(beside / "fingerprint.json", kept)
        for name, text in texts.items():
            write_text(beside / name, text)
        salt(folder)
        for file in (*tables, "fingerprint.json", *texts):
            (beside / file).replace(folder / file)
    for file in OWN_FILES:
        if file not in tables:
            (folder / file).unlink(missing_ok=True)
    forget_passing_refusals(folder)
    return proposed


def _config_was_edited(folder: Path) -> bool:
    path = folder / "config.yaml"
    return path.is_file() and sha256_of(path) != _sha256_of_proposal(folder)


def _sha256_of_proposal(folder: Path) -> object:
    """SHA-256 of the config.yaml that was proposed last, "" where none was."""
    try:
        return read_json(folder / "fingerprint.json").get("config_sha256", "")
    except (OSError, ValueError):
        return ""


def read_cohort(folder: Path) -> Cohort:
    """The cohort that `prepare` wrote.

    Raises:
        UsageError: Listing every problem: missing files or columns, labels that are no class, patients or identical
            images in two splits.
    """
    written = _fingerprint(folder)
    try:
        table = read_table(folder / "scans.csv")
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder / 'scans.csv'}: can't be read ({type(error).__name__}); run prepare again") from None
    table = table.assign(**{column: "" for column in LATER_COLUMNS if column not in table})
    found = written.get("task")
    if not isinstance(found, dict):
        raise UsageError(f"{folder}: was prepared without labels; run prepare with --labels and --label")
    task = Task(found["kind"], tuple(found["labels"]), tuple(found["classes"]), tuple(found["findings"]))
    problems = _table_problems(table, task, written.get("group_by"))
    if problems:
        raise UsageError(f"{folder / 'scans.csv'} can't be used:\n" + "\n".join(f"  {line}" for line in problems))
    sha256 = scans_sha256(table, task.labels)
    table["n_instances"] = pd.to_numeric(table["n_instances"])
    table["age"] = pd.to_numeric(table["age"], errors="coerce")
    return Cohort(
        folder, Path(str(written["scans_root"])), table, task.labels, task.kind, task.findings, task.classes, sha256,
        () if sha256 == written.get("scans_sha256") else ("hash_mismatch",),
    )  # fmt: skip


def targets(cohort: Cohort) -> pd.DataFrame:
    """One float column a finding, indexed like `cohort.table`: 0, 1, or NaN where the label is missing."""
    return targets_of(cohort.table, Task(cohort.task, cohort.labels, cohort.classes, cohort.findings))


def subgroup_columns(cohort: Cohort) -> list[str]:
    """Columns by which results may be grouped and which may leave the cohort: few values, each of several patients."""
    return subgroups_of(cohort.table, cohort.labels)


def subgroups_of(table: pd.DataFrame, labels: Sequence[str]) -> list[str]:
    """The subgroup columns: `age`, and those of 2 to `MAX_SUBGROUPS` values with two patients a value on average."""
    n_patients = patients(table).nunique()
    fixed = {*FOUND_COLUMNS, *LAST_COLUMNS, *labels} - set(HEADER_SUBGROUPS)
    chosen = []
    for column in (str(c) for c in table if c not in fixed and c not in labels):
        values = table[column].dropna()
        n_values = values[values != ""].nunique()
        if n_values > 1 and (column == "age" or n_values <= min(MAX_SUBGROUPS, n_patients // 2)):
            chosen.append(column)
    return chosen


def pseudonyms(cohort: Cohort) -> "pd.Series[str]":
    """A name for each scan's patient that says nothing without COHORT/.salt: HMAC-SHA256, 16 hex digits."""
    return _pseudonymous(patients(cohort.table), cohort.folder).rename("patient")


def study_pseudonyms(cohort: Cohort) -> "pd.Series[str]":
    """A name for each scan's study, made like those of `pseudonyms`."""
    return _pseudonymous(studies(cohort.table), cohort.folder).rename("study")


def image_pseudonyms(cohort: Cohort) -> "pd.Series[str]":
    """A name for each scan's image, made like those of `pseudonyms`; (near-)identical images share it."""
    return _pseudonymous("\0image:" + images(cohort.table), cohort.folder).rename("image")


def _pseudonymous(names: "pd.Series[str]", folder: Path) -> "pd.Series[str]":
    key = salt(folder)
    return names.map({name: hmac.digest(key, name.encode(), "sha256").hex()[:16] for name in names.unique()})


def salt(folder: Path) -> bytes:
    """The cohort's own secret, 32 bytes; made once, readable by its owner alone."""
    path = folder / ".salt"
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return bytes.fromhex(path.read_text(encoding="ascii"))
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(secrets.token_hex(32))
    return bytes.fromhex(path.read_text(encoding="ascii"))


def _fingerprint(folder: Path) -> dict[str, object]:
    path = folder / "fingerprint.json"
    try:
        written = read_json(path)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path}: can't be read ({type(error).__name__}); expected a COHORT folder that pipeline.prepare wrote"
        ) from None
    if written.get("schema_version") != SCHEMA_VERSION:
        raise UsageError(
            f"{path}: expected schema_version {SCHEMA_VERSION}, found {written.get('schema_version')!r}; "
            "run prepare again with this version"
        )
    return written


def _table_problems(table: pd.DataFrame, task: Task, group_by: object) -> list[str]:
    missing = [c for c in (*FOUND_COLUMNS, *task.labels, *LAST_COLUMNS) if c not in table]
    if missing:
        return [f"missing columns: {', '.join(missing)}"]
    problems = []
    twice = int(table["scan_id"].duplicated().sum())
    if twice or (table["scan_id"] == "").any():
        problems.append(f"scan_id: expected a different one in each row, found {twice} repeated or empty")
    for column, allowed in [("split", SPLITS), *((label, task.classes) for label in task.labels)]:
        odd = sorted(set(table[column]) - {"", *allowed})
        if odd:
            problems.append(f"{column}: expected {', '.join(allowed)} or empty, found {quoted(odd)}")
    odd = sorted({fold for fold in table["fold"] if fold and not fold.isdecimal()})
    if odd:
        problems.append(f"fold: expected whole numbers or empty, found {quoted(odd)}")
    return problems + leaks(table, group_by if isinstance(group_by, str) and group_by in table else None)
