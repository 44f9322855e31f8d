import pandas as pd
import pytest

from pipeline.cohort.leakage import (
    copies,
    copies_to_drop,
    duplicated,
    duplicates_table,
    images,
    leaks,
    patients,
    studies,
    together,
)
from tests.cohort.cases import table


def test_scans_of_one_patient_are_together_and_a_scan_without_patient_is_alone() -> None:
    rows = table([{"patient_id": "a"}, {"patient_id": "b"}, {"patient_id": "a"}, {}, {}])
    assert list(together(rows, by_content=True)) == ["s000", "s001", "s000", "s003", "s004"]
    assert patients(rows).nunique() == 4


def test_a_study_is_one_of_its_patient_and_a_scan_without_study_is_one_of_its_own() -> None:
    cells = [("a", "1.2", ""), ("a", "1.2", "n"), ("b", "1.2", ""), ("a", "", "n"), ("a", "", "n"), ("a", "", "")]
    rows = table([{"patient_id": p, "study_uid": s, "accession_number": n} for p, s, n in cells])
    assert list(pd.factorize(studies(rows))[0]) == [0, 0, 1, 2, 2, 3]


def test_links_chain_through_an_identical_image_and_a_group_column() -> None:
    rows = table([
        {"patient_id": "a", "content_sha256": "same", "site": ""},
        {"patient_id": "b", "content_sha256": "same", "site": "X"},
        {"patient_id": "c", "site": "X"},
        {"patient_id": "d", "site": ""},
    ])  # fmt: skip
    assert list(together(rows, by_content=True, group_by="site")) == ["s000", "s000", "s000", "s003"]
    assert list(together(rows, by_content=False, group_by="site")) == ["s000", "s001", "s001", "s003"]
    assert list(together(rows, by_content=True)) == ["s000", "s000", "s002", "s003"]


def test_scans_of_one_study_without_patient_id_are_together() -> None:
    rows = table([{"study_uid": "1.2"}, {"study_uid": "1.2"}, {"patient_id": "a", "study_uid": "1.2"}])
    assert list(together(rows, by_content=True)) == ["s000", "s000", "s002"]


def test_names_of_groups_do_not_depend_on_the_order_of_rows() -> None:
    rows = table([{"patient_id": p} for p in "abacb"])
    forward = dict(zip(rows["scan_id"], together(rows, by_content=True), strict=True))
    backward = rows[::-1]
    assert dict(zip(backward["scan_id"], together(backward, by_content=True), strict=True)) == forward


@pytest.mark.parametrize(
    ("splits", "dropped"),
    [
        (["train", "tune"], [True, False]),
        (["test", "train"], [False, True]),
        (["test", "tune"], [False, True]),
        (["train", "train"], [False, False]),
        (["", "train"], [False, False]),
        (["train", "tune", "test"], [True, True, False]),
    ],
)
def test_only_the_most_held_out_copies_stay(splits: list[str], dropped: list[bool]) -> None:
    rows = table([{"split": split, "content_sha256": "same"} for split in splits])
    assert list(copies_to_drop(rows)) == dropped


@pytest.mark.parametrize(
    ("column", "cells", "says"),
    [
        ("patient_id", ["a", "a"], ["patients in more than one split: 1"]),
        ("content_sha256", ["h", "h"], ["identical images in more than one split: 1"]),
        ("near_identical", ["s000", "s000"], ["near-identical images in more than one split: 1"]),
        ("study_uid", ["1.2", "1.2"], ["studies without patient_id in more than one split: 1"]),
        ("site", ["X", "X"], ["values of site in more than one split: 1"]),
        ("patient_id", ["a", "b"], []),
        ("patient_id", ["", ""], []),
    ],
)
def test_leaks_between_splits_are_told(column: str, cells: list[str], says: list[str]) -> None:
    rows = table(
        [{"site": "", column: cell, "split": split} for cell, split in zip(cells, ("train", "test"), strict=True)]
    )
    assert leaks(rows, "site") == says


def test_leaks_between_folds_are_told_and_unused_scans_do_not_count() -> None:
    rows = table([{"patient_id": "a", "split": "train", "fold": f} for f in "01"])
    assert leaks(rows) == ["patients in more than one fold: 1"]
    assert leaks(rows.assign(split="")) == []


def test_near_identical_images_are_one_image() -> None:
    cells = [("h", "", "test"), ("h", "s001", "train"), ("g", "s001", "train"), ("f", "", "train")]
    rows = table([{"content_sha256": c, "near_identical": n, "split": s} for c, n, s in cells])
    assert list(images(rows)) == ["s000", "s000", "s000", "s003"]
    assert list(together(rows, by_content=True)) == list(images(rows))
    assert list(copies_to_drop(rows)) == [False, True, True, False]
    assert list(copies(rows)) == [True, True, True, False]
    assert list(duplicates_table(rows, [])["identical"]) == ["yes", "yes", ""]


def test_duplicates_are_listed_by_group() -> None:
    rows = table([
        {"content_sha256": "h", "path": "b", "label": "1", "split": "test"},
        {"path": "c"},
        {"content_sha256": "h", "path": "a", "label": "0", "warnings": "no_rescale;duplicate_dropped"},
    ])  # fmt: skip
    assert list(duplicated(rows)) == [True, False, True]
    listed = duplicates_table(rows, ["label"])
    assert listed[["group", "path", "labels", "split", "dropped"]].to_numpy().tolist() == [
        [1, "a", "0", "", "yes"], [1, "b", "1", "test", ""],
    ]  # fmt: skip
    assert len(duplicates_table(table([{}]), [])) == 0
