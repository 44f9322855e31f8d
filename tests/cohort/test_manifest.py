import re
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pytest

from pipeline.cohort.fingerprint import fingerprint, scans_sha256
from pipeline.cohort.manifest import Cohort, pseudonyms, read_cohort, salt, subgroup_columns, targets, write_cohort
from pipeline.cohort.task import Task
from pipeline.domain import ReadRules, UsageError
from pipeline.files import read_json, write_json, write_table
from pipeline.sections import CohortSection
from tests.cohort.cases import measured, table

TASK = Task("binary", ("label",), ("0", "1"), ("label",))
ROWS = [
    {"scan_id": "001", "patient_id": "=P1", "label": "1", "split": "train", "fold": "0", "age": "61.5", "site": "A"},
    {"scan_id": "002", "patient_id": "007", "label": "0", "split": "tune", "fold": "1", "age": "", "site": "B"},
    {"scan_id": "003", "patient_id": "-5", "label": "", "split": "", "site": "A"},
    {"scan_id": "004", "patient_id": "", "label": "0", "split": "test", "site": "B"},
]


def written(folder: Path, rows: pd.DataFrame | None = None, task: Task | None = TASK) -> Path:
    rows = table(ROWS).assign(n_instances="1") if rows is None else rows
    facts = {scan_id: measured(scan_id) for scan_id in rows["scan_id"]}
    numbers = fingerprint(rows, facts, task, CohortSection(), ReadRules(), Path("/scans"), given=False)
    write_cohort(folder, {"scans.csv": rows}, numbers, "<p>page</p>")
    return folder


def edit(folder: Path, **cells: dict[int, str]) -> Path:
    rows = table(ROWS).assign(n_instances="1")
    for column, changes in cells.items():
        for row, cell in changes.items():
            rows.loc[row, column] = cell
    write_table(folder / "scans.csv", rows)
    return folder


def test_what_was_written_is_read_back_with_ids_as_text(tmp_path: Path) -> None:
    cohort = read_cohort(written(tmp_path / "c"))
    assert (cohort.task, cohort.labels, cohort.findings, cohort.classes) == (
        "binary",
        ("label",),
        ("label",),
        ("0", "1"),
    )
    assert cohort.scans_root == Path("/scans")
    assert list(cohort.table["patient_id"]) == ["=P1", "007", "-5", ""]
    assert list(cohort.table["fold"]) == ["0", "1", "", ""]
    assert cohort.table["age"].iloc[0] == 61.5
    assert np.isnan(cohort.table["age"].iloc[1])
    assert cohort.warnings == ()
    np.testing.assert_array_equal(targets(cohort)["label"], [1, 0, np.nan, 0])


def test_formula_like_ids_are_quoted_in_the_file(tmp_path: Path) -> None:
    assert ",'=P1," in (written(tmp_path) / "scans.csv").read_text()
    assert ",-5," in (tmp_path / "scans.csv").read_text()


def test_a_changed_table_is_noticed_whatever_the_order_of_rows(tmp_path: Path) -> None:
    written(tmp_path)
    assert read_cohort(edit(tmp_path, label={0: "0"})).warnings == ("hash_mismatch",)
    rows = table(ROWS).assign(n_instances="1")
    assert scans_sha256(rows[::-1], ["label"]) == scans_sha256(rows, ["label"])


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        ({"split": {0: "learn"}}, "split: expected train, tune, test or empty, found 'learn'"),
        ({"label": {0: "yes"}}, "label: expected 0, 1 or empty, found 'yes'"),
        ({"fold": {0: "x"}}, "fold: expected whole numbers or empty, found 'x'"),
        ({"scan_id": {0: "002"}}, "scan_id: expected a different one in each row, found 1 repeated"),
        ({"patient_id": {0: "007"}}, "patients in more than one split: 1"),
        ({"content_sha256": {0: "c001"}}, "identical images in more than one split: 1"),
    ],
)
def test_a_table_that_was_spoilt_is_refused(tmp_path: Path, cells: dict[str, dict[int, str]], says: str) -> None:
    written(tmp_path)
    with pytest.raises(UsageError, match=says):
        read_cohort(edit(tmp_path, **cells))


def test_every_problem_of_a_table_is_told(tmp_path: Path) -> None:
    written(tmp_path)
    with pytest.raises(UsageError, match=r"(?s)split: expected.*label: expected.*patients in more than one split"):
        read_cohort(edit(tmp_path, split={2: "q"}, label={2: "q"}, patient_id={0: "007"}))


def test_missing_columns_are_named(tmp_path: Path) -> None:
    written(tmp_path)
    write_table(tmp_path / "scans.csv", table(ROWS).drop(columns=["split", "label"]))
    with pytest.raises(UsageError, match="missing columns: label, split"):
        read_cohort(tmp_path)


def test_a_folder_that_is_no_cohort_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"fingerprint.json: can't be read \(FileNotFoundError\); expected a COHORT"):
        read_cohort(tmp_path)
    written(tmp_path)
    (tmp_path / "scans.csv").unlink()
    with pytest.raises(UsageError, match=r"scans.csv: can't be read \(FileNotFoundError\)"):
        read_cohort(tmp_path)
    write_json(tmp_path / "fingerprint.json", {**read_json(tmp_path / "fingerprint.json"), "schema_version": 99})
    with pytest.raises(UsageError, match="expected schema_version 1, found 99"):
        read_cohort(tmp_path)


def test_a_cohort_without_labels_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="was prepared without labels"):
        read_cohort(written(tmp_path, task=None))


def test_pseudonyms_are_stable_differ_by_patient_and_depend_on_the_salt(tmp_path: Path) -> None:
    cohort = read_cohort(written(tmp_path / "a"))
    names = pseudonyms(cohort)
    assert names.nunique() == 4
    assert all(re.fullmatch("[0-9a-f]{16}", name) for name in names)
    assert pseudonyms(read_cohort(written(tmp_path / "a"))).equals(names)
    assert not set(pseudonyms(read_cohort(written(tmp_path / "b")))) & set(names)
    assert (tmp_path / "a/.salt").stat().st_mode & 0o777 == 0o600
    assert len(salt(tmp_path / "a")) == 32


def test_subgroups_have_few_values_of_several_patients() -> None:
    rows = table([
        {"patient_id": f"p{n}", "site": "AB"[n % 2], "mrn": f"m{n}", "one": "x", "sex": "FM"[n % 2], "age": str(n),
         "label": "0"} for n in range(8)
    ])  # fmt: skip
    cohort = Cohort(Path(), Path(), rows, ("label",), "binary", ("label",), ("0", "1"))
    assert subgroup_columns(cohort) == ["sex", "age", "site"]


def test_a_full_disk_leaves_the_cohort_as_it_was(tmp_path: Path) -> None:
    written(tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with (
        mock.patch("pipeline.cohort.manifest.write_json", side_effect=OSError(28, "No space left on device")),
        pytest.raises(OSError, match="No space left"),
    ):
        write_cohort(tmp_path, {"scans.csv": table([])}, {}, "")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_only_own_files_are_replaced_or_removed(tmp_path: Path) -> None:
    for name in ("notes.txt", "unmatched.csv"):
        (tmp_path / name).write_text("mine")
    written(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        ".salt",
        "cohort.html",
        "fingerprint.json",
        "notes.txt",
        "scans.csv",
    ]


def test_the_fingerprint_counts_and_measures(tmp_path: Path) -> None:
    numbers = read_json(written(tmp_path) / "fingerprint.json")
    assert numbers["task"] == {"kind": "binary", "labels": ["label"], "classes": ["0", "1"], "findings": ["label"]}
    counts = numbers["counts"]
    assert isinstance(counts, dict)
    assert (counts["scans"], counts["patients"], counts["without_patient_id"]) == (4, 4, 1)
    assert counts["train"] == {"scans": 1, "patients": 1, "positive": {"label": 1}, "negative": {"label": 0}}
    assert numbers["units"] == {"HU": 4}
    assert numbers["spacing_mm"] == {"min": [0.7, 0.7, 2.5], "median": [0.7, 0.7, 2.5], "max": [0.7, 0.7, 2.5]}
    intensities = numbers["intensities_outside_test"]
    assert isinstance(intensities, dict)
    assert intensities["HU"]["p50"] == 1.5
