import pandas as pd

from pipeline.results.cohort_flow import flow_of
from pipeline.results.table_one import table_one

TABLE = pd.DataFrame({
    "scan_id": list("abcdef"), "patient": ["1", "1", "2", "3", "4", "5"],
    "split": ["train", "train", "tune", "test", "test", "test"],
    "status": ["ok", "ok", "ok", "ok", "rejected", "rejected"], "reason": ["", "", "", "", "truncated", ""],
    "y_n": [1.0, 0, 1, None, 1, 0], "sex": ["F", "F", "M", "M", "F", ""], "age": [50, 51, 60, 70, 80, 90],
})  # fmt: skip


def test_the_flow_adds_up() -> None:
    flow = flow_of(TABLE, {"truncated": 3, "slices_missing": 1}, 2)
    assert flow.left_out == {"truncated": 4, "slices_missing": 1, "no prediction": 1, "in no split": 2}
    assert flow.found == flow.predicted + 8 == 12
    assert flow.splits == {"train": (2, 1), "tune": (1, 1), "test": (1, 1)}


def test_table_one_counts_patients_once_for_age_and_sex() -> None:
    names, sections = table_one(TABLE, ["n"], ["sex", "age"])
    assert names == ["all", "train", "tune", "test"]
    rows = {heading: dict(found) for heading, found in sections}
    assert rows[""]["Patients"] == ["5", "1", "1", "3"]
    assert rows["Scans with the finding"]["n"] == ["3 (60 %)", "1 (50 %)", "1 (100 %)", "1 (50 %)"]
    assert rows["sex"]["F"] == ["2 (40 %)", "1 (100 %)", "0 (0 %)", "1 (33 %)"]
    assert rows["sex"]["unknown"][0] == "1 (20 %)"


def test_a_scan_predicted_out_of_fold_is_counted_once() -> None:
    both = pd.concat([TABLE.assign(split="oof"), TABLE.assign(split="train")])
    names, sections = table_one(both, ["n"], [])
    assert names == ["all"]
    assert dict(sections[0][1])["Scans"] == ["6"]
