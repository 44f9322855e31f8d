import pandas as pd
import pytest

from pipeline.domain import UsageError
from pipeline.evaluation.join import join

P = pd.DataFrame({"scan_id": ["a", "b", "c"], "status": ["ok", "ok", "rejected"], "p_nodule": ["0.9", "0.2", ""]})
L = pd.DataFrame({"scan_id": ["c", "a", "b"], "nodule": ["0", "1", "0"], "patient_id": ["P3", "P1", "P1"]})


@pytest.mark.parametrize("column", ["nodule", "y_nodule"])
def test_labels_are_found_by_either_name(column: str) -> None:
    table = join(P, L.rename(columns={"nodule": column})).table
    assert table["y_nodule"].tolist() == ["1", "0", "0"]
    assert table["patient"].tolist() == ["P1", "P1", "P3"]


def test_multiclass_findings_are_found_in_a_column_of_classes() -> None:
    predictions = pd.DataFrame(
        {"scan_id": ["a", "b", "c"], "p_organ=liver": ["0.9", "0.1", "0.5"], "p_organ=lung": ["0.1", "0.9", "0.5"]}
    )
    table = join(predictions, pd.DataFrame({"scan_id": ["a", "b", "c"], "organ": ["liver", "lung", ""]})).table
    assert table["y_organ=liver"].tolist() == ["1", "0", ""]
    assert table["y_organ=lung"].tolist() == ["0", "1", ""]


def test_a_foreign_class_is_refused_once() -> None:
    predictions = pd.DataFrame({"scan_id": ["a"], "p_organ=liver": ["0.9"], "p_organ=lung": ["0.1"]})
    with pytest.raises(UsageError, match="expected one of liver, lung, found also spleen") as caught:
        join(predictions, pd.DataFrame({"scan_id": ["a"], "organ": ["spleen"]}))
    assert str(caught.value).count("spleen") == 1


def test_mismatches_are_said_in_both_directions() -> None:
    found = join(
        P, pd.concat([L[L["scan_id"] != "b"], pd.DataFrame({"scan_id": ["z"], "nodule": ["1"], "patient_id": ["P9"]})])
    )
    assert found.notes == (
        "predictions without a label row, not evaluated: 1", "label rows without a prediction, not evaluated: 1",
    )  # fmt: skip
    assert found.table["y_nodule"].tolist() == ["1", "", "0"]


def test_nothing_in_common_is_refused() -> None:
    with pytest.raises(UsageError, match="no scan_id of the labels is found among the predictions"):
        join(P, L.assign(scan_id=["x", "y", "z"]))


def test_without_patients_every_scan_is_its_own_and_that_is_said() -> None:
    assert "every scan counts as a patient of its own" in join(P, L.drop(columns="patient_id")).notes[0]


@pytest.mark.parametrize("column", ["patient_id", "split"])
def test_tables_that_disagree_are_refused(column: str) -> None:
    values = {"patient_id": ["P1", "P2", "P3"], "split": ["test", "test", "tune"]}[column]
    labels = L.assign(split=["tune", "test", "tune"])
    with pytest.raises(UsageError, match=r"differs between predictions and labels for 1 scan$"):
        join(P.assign(**{column: values}), labels)


def test_either_table_may_give_the_split() -> None:
    assert join(P, L.assign(split=["tune", "test", "test"])).table["split"].tolist() == ["test", "test", "tune"]
    assert "split" not in join(P, L).table
    assert join(P, L.assign(split=["tune", "", "test"])).table["split"].tolist() == ["(no split)", "test", "tune"]


def test_every_problem_is_listed_at_once() -> None:
    with pytest.raises(UsageError, match="can't be joined") as caught:
        join(P.assign(scan_id=["a", "a", ""], status="ok"), L.rename(columns={"nodule": "mass"}))
    text = str(caught.value)
    assert "a scan_id is repeated in 1 row" in text
    assert "scan_id is empty in 1 row" in text
    assert "no column for finding nodule; expected nodule, y_nodule" in text


@pytest.mark.parametrize("table", ["predictions", "labels"])
def test_a_missing_key_is_named(table: str) -> None:
    left, right = (P.drop(columns="scan_id"), L) if table == "predictions" else (P, L.drop(columns="scan_id"))
    with pytest.raises(UsageError, match=f"{table}: no column scan_id; found"):
        join(left, right)


@pytest.mark.parametrize("value", ["yes", "2", "0.5"])
def test_labels_of_another_type_are_refused(value: str) -> None:
    with pytest.raises(UsageError, match=r"nodule: expected 0, 1 or empty, found something else in 1 row"):
        join(P, L.assign(nodule=["0", value, "1"]))


def test_other_label_columns_become_subgroups() -> None:
    assert join(P, L.assign(site=["A", "B", "C"])).table["site"].tolist() == ["B", "C", "A"]
