import pandas as pd
import pytest

from pipeline.domain import UsageError
from pipeline.evaluation.table import check_predictions
from pipeline.evaluation.units import MIXED, per_unit
from tests.evaluation.studies import table


def scans(**columns: object) -> pd.DataFrame:
    """Five scans of three patients; the third patient's only scan was refused."""
    base = {"patient": ["a", "a", "b", "b", "c"], "status": ["ok", "ok", "ok", "ok", "rejected"]}
    rows = table([0, 1, 0, 0, 1], [0.2, 0.7, 0.1, 0.4, 0.5], **base | columns)
    rows.loc[4, "p_nodule"] = ""
    return check_predictions(rows, "P")


@pytest.mark.parametrize(("aggregate", "expected"), [("max", [0.7, 0.4]), ("mean", [0.45, 0.25])])
def test_a_patient_is_the_largest_or_the_mean_of_the_readable_scans(aggregate: str, expected: list[float]) -> None:
    found = per_unit(scans(), "patient", aggregate)
    assert found["scan_id"].tolist() == ["a", "b", "c"]
    assert found["p_nodule"].tolist()[:2] == pytest.approx(expected)
    assert found["y_nodule"].tolist() == [1, 0, 1]
    assert found["status"].tolist() == ["ok", "ok", "rejected"]


def test_a_negative_unit_needs_all_its_labels() -> None:
    rows = table([0, 1, 0, 0], [0.2, 0.7, 0.1, 0.4], patient=["a", "a", "b", "b"])
    rows.loc[[0, 2], "y_nodule"] = ""
    found = per_unit(check_predictions(rows, "P"), "patient", "max")
    assert found["y_nodule"].tolist()[0] == 1
    assert pd.isna(found["y_nodule"].tolist()[1])


def test_studies_keep_their_patient_and_mixed_groups_are_said_to_be_mixed() -> None:
    found = per_unit(scans(study=["s1", "s2", "s3", "s3", "s4"], site=["A", "B", "A", "B", "A"]), "study", "max")
    assert found["patient"].tolist() == ["a", "a", "b", "c"]
    assert found["site"].tolist() == ["A", "B", MIXED, "A"]


def test_a_unit_in_two_splits_stays_apart() -> None:
    found = per_unit(scans(split=["tune", "test", "test", "test", "test"]), "patient", "max")
    assert found.groupby("split")["scan_id"].agg(list).to_dict() == {"test": ["a", "b", "c"], "tune": ["a"]}


def test_a_table_without_the_unit_is_refused() -> None:
    with pytest.raises(UsageError, match="unit study: expected a column study or study_uid or accession_number"):
        per_unit(scans(), "study", "max")
    with pytest.raises(UsageError, match=r"unit study: no study.* in 1 row;"):
        per_unit(scans(study=["s1", "s2", "", "s3", "s4"]), "study", "max")


def multiclass(truth: list[int]) -> pd.DataFrame:
    rows = table([0] * 4, [0.5] * 4, patient=["a", "a", "b", "b"]).drop(columns=["y_nodule", "p_nodule"])
    for k, p in enumerate(([0.6, 0.2, 0.1, 0.3], [0.4, 0.8, 0.9, 0.7])):
        rows[f"y_o={k}"], rows[f"p_o={k}"] = [str(int(t == k)) for t in truth], [str(v) for v in p]
    return check_predictions(rows, "P")


def test_classes_of_a_unit_sum_to_one_and_must_agree() -> None:
    found = per_unit(multiclass([0, 0, 1, 1]), "patient", "max")
    assert found["p_o=0"].tolist() == pytest.approx([0.6 / 1.4, 0.3 / 1.2])
    with pytest.raises(UsageError, match="1 of 2 hold scans of different classes"):
        per_unit(multiclass([0, 1, 1, 1]), "patient", "max")
