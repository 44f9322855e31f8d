from pathlib import Path

import pandas as pd
import pytest

from pipeline.domain import UsageError
from pipeline.evaluation.table import check_predictions, read_table, shared_patients, subgroup_columns
from tests.evaluation.studies import table

GOOD = table([0, 1, 1, 0], [0.1, 0.9, 0.7, 0.2])


def changed(column: str, row: int, value: str) -> pd.DataFrame:
    other = GOOD.copy()
    other.loc[row, column] = value
    return other


def test_a_good_table_becomes_numbers_sorted_by_scan() -> None:
    found = check_predictions(GOOD.iloc[::-1], "P")
    assert found["scan_id"].is_monotonic_increasing
    assert found["p_nodule"].tolist() == [0.1, 0.9, 0.7, 0.2]
    assert found["y_nodule"].tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize("value", ["", "nan", "inf", "-0.1", "1.01", "high"])
def test_a_probability_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(
        UsageError, match=r"p_nodule: expected a probability from 0 to 1, found something else in line 4"
    ):
        check_predictions(changed("p_nodule", 2, value), "P")


@pytest.mark.parametrize("value", ["2", "0.5", "yes", "nan"])
def test_a_label_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(UsageError, match=r"y_nodule: expected 0, 1 or empty, found something else in line 3"):
        check_predictions(changed("y_nodule", 1, value), "P")


def test_doubled_scans_are_refused_without_naming_them() -> None:
    with pytest.raises(UsageError, match=r"more than one row for the same scan in lines 2, 3") as caught:
        check_predictions(changed("scan_id", 1, "Jane Doe").assign(scan_id=["Jane Doe", "Jane Doe", "c", "d"]), "P")
    assert "Jane" not in str(caught.value)


def test_lines_are_those_of_the_file(tmp_path: Path) -> None:
    lines = ["scan_id,status,y_nodule,p_nodule,comment", 'a,ok,1,0.5,"two', 'lines"', "", "b,not_selected,,,",
             "c,ok,1,7,", "c,ok,1,0.5,"]  # fmt: skip
    (tmp_path / "p.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(UsageError, match=r"p_nodule: .* in line 6") as caught:
        check_predictions(read_table(tmp_path / "p.csv"), "P")
    assert "more than one row for the same scan in lines 6, 7" in str(caught.value)


@pytest.mark.parametrize("column", ["image", "content_sha256"])
def test_images_in_two_splits_are_a_leak(column: str) -> None:
    rows = check_predictions(GOOD.assign(split=["train", "test", "test", "tune"], **{column: ["h", "h", "", ""]}), "P")
    said = "identical or near-identical images both in test and in train: 1"
    with pytest.raises(UsageError, match=said):
        shared_patients(rows, allowed=False)
    assert shared_patients(rows, allowed=True)[0].endswith("these numbers flatter")
    assert shared_patients(rows.drop(columns=column), allowed=False) == []


def test_every_problem_is_listed_at_once() -> None:
    wrong = changed("p_nodule", 0, "2")
    wrong.loc[1, "y_nodule"] = "maybe"
    wrong.loc[3, "scan_id"] = ""
    with pytest.raises(UsageError, match="can't be evaluated") as caught:
        check_predictions(wrong, "P")
    assert len(str(caught.value).splitlines()) == 4


@pytest.mark.parametrize(
    ("dropped", "message"),
    [("scan_id", "no column scan_id"), ("p_nodule", "no column p_<finding>"), ("y_nodule", "no label column y_nodule")],
)
def test_missing_columns_are_named(dropped: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_predictions(GOOD.drop(columns=dropped), "P")


def test_a_refused_scan_needs_no_probability() -> None:
    found = check_predictions(changed("p_nodule", 2, "").assign(status=["ok", "ok", "rejected", "ok"]), "P")
    assert (found["status"] == "ok").sum() == 3


def test_a_training_row_may_repeat_an_out_of_fold_one() -> None:
    both = pd.concat([GOOD.assign(split="oof"), GOOD.assign(split="train")])
    assert len(check_predictions(both, "P")) == 8


def test_left_out_columns_get_defaults() -> None:
    found = check_predictions(GOOD[["scan_id", "y_nodule", "p_nodule"]], "P")
    assert found["patient"].nunique() == 4
    assert set(found["split"]) == {"all"}


@pytest.mark.parametrize("text", ["scan_id,p_x\na,1\n", "\ufeffscan_id,p_x\r\na,1\r\n", "scan_id;p_x\n a ;1\n"])
def test_csv_dialects_are_read_alike(tmp_path: Path, text: str) -> None:
    (tmp_path / "p.csv").write_bytes(text.encode())
    assert read_table(tmp_path / "p.csv").to_dict("list") == {"scan_id": ["a"], "p_x": ["1"]}


def test_ids_stay_text(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("scan_id,p_x\n001,1\nNA,0\n")
    assert read_table(tmp_path / "p.csv")["scan_id"].tolist() == ["001", "NA"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no rows"), (b"scan_id,p_x\n", "no rows"), (b"a,a\n1,2\n", "twice: a"), (b'a,b\n"1,2\n', "is no table"),
        (b"a,b\n1,2,3\n1\n1,2\n", r"not 2 cells as in the header: 2 lines"),
        ("scan_id\nx".encode("utf-16"), "not UTF-8"),
    ],
)  # fmt: skip
def test_files_that_are_no_table_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "p.csv").write_bytes(content)
    with pytest.raises(UsageError, match=message):
        read_table(tmp_path / "p.csv")


def test_a_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="can't be read"):
        read_table(tmp_path / "none.csv")


def test_patients_in_two_splits_are_refused_unless_told() -> None:
    shared = check_predictions(GOOD.assign(split=["train", "tune", "test", "test"], patient=["a", "b", "a", "c"]), "P")
    with pytest.raises(UsageError, match="patients both in test and in train: 1"):
        shared_patients(shared, allowed=False)
    assert shared_patients(shared, allowed=True) == ["patients both in test and in train: 1; these numbers flatter"]


def test_out_of_fold_patients_may_be_in_train() -> None:
    both = pd.concat([GOOD.assign(split="oof"), GOOD.assign(split="train")])
    assert shared_patients(check_predictions(both, "P"), allowed=False) == []


def test_only_foreign_columns_are_subgroups() -> None:
    wide = GOOD.assign(sex="F", site="A", positive_nodule="1", uncertainty="0.3", path="x", seconds="1")
    assert subgroup_columns(wide) == ["sex", "site"]
