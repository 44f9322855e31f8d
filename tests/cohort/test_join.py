from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from pipeline.cohort.join import Joined, join
from pipeline.cohort.labels import read_labels
from pipeline.domain import Reason, Rejection, Scan, UsageError
from tests.cohort.cases import ROOT, scan, write

SCANS = [
    replace(scan("a/1", "p1", study_uid="st1"), paths=(ROOT / "a/1/x.dcm", ROOT / "a/1/y.dcm"),
            aliases=(ROOT / "copy/x.dcm",)),
    scan("a/2.nii", "p1"),
    scan("b.png"),
]  # fmt: skip


def joined(
    tmp_path: Path,
    text: str,
    scans: list[Scan] = SCANS,
    rejections: list[Rejection] | None = None,
    left_out: list[Scan] | None = None,
) -> Joined:
    return join(read_labels(write(tmp_path / "l.csv", text)), scans, rejections or [], ROOT, left_out or [])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("path,label\na/1/y.dcm,1\nb.png,0\n", ["1", "", "0"]),  # a file of the series
        ("path,label\ncopy/x.dcm,1\n", ["1", "", ""]),  # an alias
        ("path,label\na/1,1\na/2.nii,0\n", ["1", "0", ""]),  # a folder
        ("path,label\na,1\n", ["1", "1", ""]),  # a folder of several scans
        ("patient_id,label\np1,1\n", ["1", "1", ""]),
        ("study_uid,label\nst1,1.0\n", ["1", "", ""]),
        ("scan_id,label\nid-b.png,1\n", ["", "", "1"]),
    ],
)
def test_each_key_finds_its_scans(tmp_path: Path, text: str, told: list[str]) -> None:
    assert list(joined(tmp_path, text).values["label"]) == told


def test_everything_that_does_not_fit_is_listed_and_counted(tmp_path: Path) -> None:
    refused = Rejection(ROOT / "bad.nii", Reason.TRUNCATED, "", files=(ROOT / "bad.nii",))
    text = "path,label\na/1,1\na/2.nii,\ngone.nii,0\nbad.nii,1\n,1\n"
    found = joined(tmp_path, text, rejections=[refused])
    rows = found.unmatched[["what", "line", "key", "scan_id", "reason"]].to_numpy().tolist()
    assert rows == [
        ["label row", "4", "gone.nii", "", "no_scan"],
        ["label row", "5", "bad.nii", "", "scan_rejected"],
        ["label row", "6", "", "", "no_key"],
        ["scan", "", "", "id-a/2.nii", "label_empty"],
        ["scan", "", "", "id-b.png", "no_label_row"],
    ]
    assert len(found.notices) == 5
    assert "label rows that name no scan: 1 (unmatched.csv)" in found.notices


@pytest.mark.parametrize("text", ["path,label\nb.png,1\na/thick,1\n", "scan_id,label\nid-b.png,1\nid-a/thick,0\n"])
def test_rows_of_scans_that_were_not_selected_are_no_mistake(tmp_path: Path, text: str) -> None:
    found = joined(tmp_path, text, left_out=[scan("a/thick", "p1", study_uid="st1")])
    assert list(found.unmatched["reason"]) == ["not_selected", "no_label_row", "no_label_row"]
    assert "label rows that name only scans which the read rules did not select: 1 (unmatched.csv)" in found.notices


def test_rows_that_agree_count_once(tmp_path: Path) -> None:
    found = joined(tmp_path, "path,label,site\na/1/x.dcm,1,A\ncopy/x.dcm,1.0,A\n")
    assert list(found.values["label"]) == ["1", "", ""]
    assert found.notices[0] == "scans named by several label rows that agree: 1; each counts once"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("path,label\na/1,1\na/1,0\n", r"label: 2 rows give different labels .*1 of 3 scans; lines 2, 3"),
        ("path,label\na/1/x.dcm,1\ncopy/x.dcm,0\n", r"2 rows give different labels .*1 of 3 scans"),
        ("path,label\na,1\na/2.nii,0\n", r"1 of 3 scans"),
        ("path,label\nb.png,1\ngone,1\ngone,0\n", r"0 of 3 scans; lines 3, 4"),
        ("path,patient_id,label\na/1,p1,1\na/2.nii,p9,0\n", r"patient_id: 1 row against what the scan .*line 3"),
        ("path,patient_id,label\nb.png,p1,1\nb.png,p2,1\n", r"patient_id: rows of 1 scan differ from each other"),
        ("path,label,fold\nb.png,1,0\nb.png,1,2\n", r"fold: rows of 1 scan differ from each other"),
    ],
)
def test_contradictions_are_errors_with_counts_not_ids(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as told:
        joined(tmp_path, text)
    assert "p1" not in str(told.value)
    assert "p9" not in str(told.value)


def test_labels_fill_what_the_scan_does_not_say(tmp_path: Path) -> None:
    found = joined(tmp_path, "path,patient_id,label\nb.png,001,1\n")
    assert list(found.values["patient_id"]) == ["", "", "001"]


def test_nothing_matching_is_wrong_use_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"no label row names a scan: 1 row, 3 scans found.*1 row would match by file name alone"
    ):
        joined(tmp_path, "path,label\nelse/2.nii,1\n")
    with pytest.raises(UsageError, match=r"key column: patient_id\); 2 of the scans have a patient_id"):
        joined(tmp_path, "patient_id,label\nq,1\n")


def test_the_most_held_out_split_of_several_rows_wins_and_is_known(tmp_path: Path) -> None:
    found = joined(tmp_path, "path,label,split\na/1/x.dcm,1,train\ncopy/x.dcm,1,val\nb.png,0,train\n")
    assert list(found.values["split"]) == ["tune", "", "train"]
    assert found.split_conflicts == {"id-a/1"}


def test_no_scans_at_all_leaves_every_row_unmatched(tmp_path: Path) -> None:
    found = joined(tmp_path, "path,label\na,1\n", scans=[])
    assert isinstance(found.values, pd.DataFrame)
    assert list(found.unmatched["reason"]) == ["no_scan"]
