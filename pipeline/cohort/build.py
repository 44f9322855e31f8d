"""From a survey of scans and a table of labels to a cohort: join, read, group, split."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pipeline.cohort.fingerprint import fingerprint
from pipeline.cohort.join import Joined, join
from pipeline.cohort.labels import MEASURED, Labels
from pipeline.cohort.leakage import (
    copies,
    copies_to_drop,
    duplicated,
    duplicates_table,
    images,
    leaks,
    patients,
    together,
)
from pipeline.cohort.likeness import near_identical
from pipeline.cohort.manifest import FOUND_COLUMNS, LAST_COLUMNS, subgroups_of
from pipeline.cohort.reading import Measured
from pipeline.cohort.split import check_classes, folds_of, split_of
from pipeline.cohort.task import Task, has_label, memberships, task_of
from pipeline.console import count
from pipeline.domain import ReadRules, Rejection, Scan, UsageError
from pipeline.scans.find import Survey, relative_path
from pipeline.sections import CohortSection

Reader = Callable[[Sequence[Scan]], tuple[dict[str, Measured], list[Rejection]]]
"""Reads scans: facts by scan_id, and rejections (`pipeline.cohort.reading.measure_all`)."""

HEADER_FIRST = ("modality", "study_date")
"""Facts of which the scan's own header is believed before the labels; of sex, age and the like the labels are."""


@dataclass(frozen=True, slots=True)
class Built:
    """A cohort before it is written.

    Attributes:
        table: scans.csv.
        task: None without labels.
        tables: The further tables, by file name.
        notices: What the user should know, in words.
    """

    table: pd.DataFrame
    task: Task | None
    rejections: list[Rejection]
    tables: dict[str, pd.DataFrame]
    fingerprint: dict[str, object]
    notices: list[str]


def build(survey: Survey, labels: Labels | None, section: CohortSection, rules: ReadRules, read: Reader) -> Built:
    """The cohort of all scans that can be read, split where there are labels.

    Raises:
        UsageError: If labels and scans don't go together, or can't be split as asked.
    """
    left_out = [one.scan for one in survey.not_selected]
    joined = join(labels, survey.scans, survey.rejections, survey.root, left_out) if labels else None
    table, notices = _header_table(survey, joined, labels.columns if labels else ())
    task = None
    if labels and joined and len(table):
        task = task_of(joined.values[list(labels.columns)])
        _check_settings(table, joined, section)
        check_classes(memberships(table, task), patients(table))
    facts, refused = read(survey.scans)
    table = _with_facts(table, facts)
    table["near_identical"], by_nature = near_identical(table, section.near_identical)
    if task and joined:
        table, split_notices = _split(table, task, joined, section)
        notices += split_notices
    columns = list(labels.columns) if labels else []
    table = _ordered(table, columns)
    tables = {"duplicates.csv": duplicates_table(table, columns)}
    if joined:
        tables["unmatched.csv"] = _unmatched(joined, refused, survey.root)
        notices = [*joined.notices, *notices]
    given = joined is not None and _is_given(joined)
    numbers = fingerprint(table, facts, task, section, rules, survey.root, given)
    notices += _said_aloud(table, columns)
    notices += [f"scans that look like many others, by nature rather than as copies: {by_nature}"] if by_nature else []
    return Built(table, task, [*survey.rejections, *refused], tables, numbers, notices)


def _header_table(survey: Survey, joined: Joined | None, labels: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
    """What headers and labels tell of each scan, by scan_id; all text."""
    rows = [_header_row(scan, survey.root) for scan in survey.scans]
    table = pd.DataFrame(rows, columns=[c for c in FOUND_COLUMNS if c not in MEASURED or c == "n_instances"], dtype=str)
    table.index = pd.Index(list(table["scan_id"]))
    notices: list[str] = []
    for column in joined.values if joined else ():
        told = joined.values[column] if joined else table[column]
        if column == "age" and column not in labels:
            told, unreadable = _years(told)
            notices += [f"labels whose age is no number of years: {unreadable}; left empty"] if unreadable else []
        if column not in table or column in labels:
            table[column] = told
            continue
        own = table[column]
        differ = int(((own != "") & (told != "") & (own != told)).sum())
        first, second = (own, told) if column in HEADER_FIRST else (told, own)
        table[column] = first.where(first != "", second)
        if differ:
            used = "header's" if column in HEADER_FIRST else "labels'"
            notices.append(f"scans whose labels and header differ in {column}: {differ}; the {used} value is used")
    return table, notices


def _header_row(scan: Scan, root: Path) -> dict[str, str]:
    age = "" if scan.age is None else f"{scan.age:g}"
    return {
        "scan_id": scan.scan_id, "patient_id": scan.patient_id, "accession_number": scan.accession_number,
        "study_uid": scan.study_uid, "series_uid": scan.series_uid, "modality": scan.modality,
        "path": relative_path(scan.path, root), "n_instances": str(len(scan.paths)), "study_date": scan.acquired,
        "manufacturer": scan.manufacturer, "model_name": scan.model_name, "sex": scan.sex, "age": age,
        "body_part": scan.body_part[:16], "contrast_agent": "yes" if scan.contrast_agent else "",
    }  # fmt: skip


def _years(column: "pd.Series[str]") -> tuple["pd.Series[str]", int]:
    """Ages in years as text ("060Y" is "60"), "" where they are none, and how many are none."""
    found = column.map(lambda text: f"{float(text[:-1] if text[-1] in 'Yy' else text):g}" if _is_age(text) else "")
    return found.astype(str), int(((column != "") & (found == "")).sum())


def _is_age(text: str) -> bool:
    return re.fullmatch(r"\d{1,3}(\.\d+)?[Yy]?", text) is not None


def _check_settings(table: pd.DataFrame, joined: Joined, section: CohortSection) -> None:
    problems = []
    if section.group_by and section.group_by not in table:
        problems.append(
            f"cohort.group_by: no column {section.group_by!r}; the columns are: {', '.join(map(str, table))}"
        )
    if section.hold_out and _is_given(joined):
        problems.append("cohort.hold_out: labels.csv already has a column split; give one of the two")
    problems += [f"cohort.hold_out: no column {c!r}" for c in section.hold_out if c not in table]
    if problems:
        raise UsageError("\n".join(problems))


def _is_given(joined: Joined) -> bool:
    return "split" in joined.values and bool((joined.values["split"] != "").any())


def _with_facts(table: pd.DataFrame, facts: Mapping[str, Measured]) -> pd.DataFrame:
    """The rows of scans that were read, with what reading told."""
    table = table[table["scan_id"].isin(list(facts))].copy()
    read = [facts[scan_id] for scan_id in table["scan_id"]]
    table["shape"] = ["x".join(map(str, f.shape)) for f in read]
    table["spacing_mm"] = ["x".join(f"{value:.5g}" for value in f.spacing_mm) for f in read]
    table["orientation"] = [f.orientation for f in read]
    table["content_sha256"] = [f.content_sha256 for f in read]
    table["image_hash"] = [f.image_hash for f in read]
    table["warnings"] = [";".join(f.warnings) for f in read]
    return table.astype(str)  # empty columns too


def _split(table: pd.DataFrame, task: Task, joined: Joined, section: CohortSection) -> tuple[pd.DataFrame, list[str]]:
    """The table with split, fold and the reasons why a scan is in none."""
    given, given_fold = _is_given(joined), "fold" in table and bool((table["fold"] != "").any())
    table = table.assign(fold=table["fold"] if given_fold else "", split=table["split"] if given else "")
    labelled = has_label(table, task.labels)
    table.loc[~labelled, ["split", "fold"]] = ""
    table = _warn(table, ~labelled, "no_label")
    if not labelled.any():
        return table, ["no labelled scan could be read: nothing to split"]
    mode = section.duplicates if section.duplicates != "auto" else "drop_from_train" if given else "keep_together"
    used = table[labelled]
    members = memberships(used, task)
    check_classes(members, patients(used))
    if mode == "refuse" and copies(used).any():
        raise UsageError(
            f"cohort.duplicates is refuse, and {int(copies(used).sum())} labelled scans share their image with "
            "another, to the voxel or nearly; remove the copies, or choose keep_together or drop_from_train"
        )
    if given:
        table = _warn(table, labelled & (table["split"] == ""), "no_split")
    else:
        groups = together(used, mode == "keep_together", section.group_by)
        table.loc[used.index, "split"] = split_of(members, used, groups, section)
    table, notices = _without_copies(table, joined, mode)
    table = _folded(table, task, section, given_fold)
    problems = leaks(table, section.group_by)
    if problems:
        raise UsageError(
            "the split (or fold) given in labels.csv can't be used:\n" + "\n".join(f"  {line}" for line in problems)
            + "\ncorrect it, or leave the column out and let prepare split"
        )  # fmt: skip
    return table, [*notices, *_empty_parts(table, section)]


def _without_copies(table: pd.DataFrame, joined: Joined, mode: str) -> tuple[pd.DataFrame, list[str]]:
    """Scans whose image also lies in a more held-out split leave theirs, if the mode says so."""
    torn = table["scan_id"].isin(joined.split_conflicts)
    if mode != "drop_from_train":
        if torn.any():
            raise UsageError(
                f"split: label rows of different splits name the same scan, {count(int(torn.sum()), 'time')}"
            )
        return table, []
    drop = copies_to_drop(table)
    table = _warn(table, drop | torn, "duplicate_dropped")
    table.loc[drop, ["split", "fold"]] = ""
    kept = images(table)[drop].nunique()
    notices = [f"images of tune or test that lie in an earlier split too: {kept}; copies left out there: {drop.sum()}"]
    notices = notices if kept else []
    if torn.any():
        notices.append(f"scans with label rows of several splits: {int(torn.sum())}; only the most held-out one counts")
    return table, notices


def _folded(table: pd.DataFrame, task: Task, section: CohortSection, given: bool) -> pd.DataFrame:
    inside = table["split"].isin(["train", "tune"])
    table.loc[~inside, "fold"] = ""
    if not given and inside.any():
        rows = table[inside]
        groups = together(rows, by_content=True, group_by=section.group_by)
        table.loc[inside, "fold"] = folds_of(memberships(rows, task), rows, groups, section.folds, section.seed)
    return table


def _empty_parts(table: pd.DataFrame, section: CohortSection) -> list[str]:
    counts = table["split"].value_counts()
    notices = [f"no scan is in {name}" for name in ("train", "tune", "test") if name not in counts]
    if section.folds and not (table["fold"] != "").any():
        notices.append(f"no folds: fewer groups of patients outside test than cohort.folds ({section.folds})")
    return notices


def _warn(table: pd.DataFrame, rows: "pd.Series[bool]", code: str) -> pd.DataFrame:
    """The table with one more warning on some rows."""
    more = table["warnings"].where(table["warnings"] == "", table["warnings"] + ";") + code
    return table.assign(warnings=table["warnings"].where(~rows, more))


def _ordered(table: pd.DataFrame, labels: Sequence[str]) -> pd.DataFrame:
    """scans.csv: its columns and rows in their order, identical images marked."""
    table = table.assign(**{column: "" for column in (*FOUND_COLUMNS, *LAST_COLUMNS) if column not in table})
    table = _warn(table, duplicated(table), "duplicate_image")
    table = _warn(table, table["near_identical"] != "", "near_identical_image")
    first = [column for column in FOUND_COLUMNS if column not in labels]
    own = [str(column) for column in table if column not in (*first, *labels, *LAST_COLUMNS)]
    return table[[*first, *labels, *own, *LAST_COLUMNS]].sort_values(["path", "scan_id"]).reset_index(drop=True)


def _unmatched(joined: Joined, refused: Sequence[Rejection], root: Path) -> pd.DataFrame:
    """What join left over, and labelled scans that were refused when they were read."""
    named = set(joined.unmatched["scan_id"])
    rows = [
        ("scan", "", "", r.scan_id, relative_path(r.path, root), "scan_rejected")
        for r in refused
        if r.scan_id not in named
    ]
    return pd.concat([joined.unmatched, pd.DataFrame(rows, columns=joined.unmatched.columns, dtype=str)])


def _said_aloud(table: pd.DataFrame, labels: Sequence[str]) -> list[str]:
    """Facts of the finished table that a user should not have to look for."""
    notices = []
    nameless = int((table["patient_id"] == "").sum())
    if nameless:
        notices.append(f"scans without patient_id: {nameless}; each counts as a patient of its own")
    if duplicated(table).any():
        same = table[duplicated(table)]
        notices.append(
            f"scans that share their image with another: {len(same)}, "
            f"different images among them: {same['content_sha256'].nunique()} (duplicates.csv)"
        )
        for label in labels:
            known = same[same[label] != ""]
            torn = int((known.groupby("content_sha256")[label].nunique() > 1).sum())
            notices += [f"identical images with different {label}: {torn}"] if torn else []
    if near := int((table["near_identical"] != "").sum()):
        notices.append(
            f"scans whose image is nearly that of another patient: {near} (duplicates.csv); they count as copies, "
            "cohort.near_identical 1 takes only identical ones for copies"
        )
    fixed = {*FOUND_COLUMNS, *LAST_COLUMNS, *labels, *subgroups_of(table, labels)}
    others = [str(column) for column in table if column not in fixed]
    if labels and others:
        notices.append(f"no subgroups (one value, or too many): {', '.join(others)}")
    return notices
