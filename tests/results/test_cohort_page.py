import re

import pandas as pd
import pytest

from pipeline.results.cohort_page import CohortFacts, cohort_page


def facts(**changes: object) -> CohortFacts:
    table = pd.DataFrame({
        "scan_id": [f"scan{n}" for n in range(6)],
        "patient_id": ["P&1", "P&1", "P2", "P3", "P4", ""],
        "split": ["train", "train", "tune", "test", "", ""],
        "warnings": ["", "no_rescale", "", "", "no_label", "duplicate_dropped;duplicate_image"],
        "age": ["60", "60", "50", "", "40", "30"], "sex": ["F", "F", "M", "", "F", "M"],
        "modality": "CT", "manufacturer": ["<b>ACME</b>", "X", "X", "X", "X", "X"],
        "spacing_mm": "0.5x0.5x2.5", "shape": "10x10x8", "site": list("AABBAB"),
    })  # fmt: skip
    values: dict[str, object] = {
        "title": "c", "made_by": "scanline 0", "table": table,
        "patients": table["patient_id"].where(table["patient_id"] != "", table["scan_id"]),
        "targets": pd.DataFrame({"nodule": [1.0, 0.0, 1.0, 0.0, float("nan"), 1.0]}), "n_files": 30,
        "skipped": {"no scan": 3}, "rejected": {"truncated": (2, 9)},
        "duplicates": pd.DataFrame({"group": [1, 1], "scan_id": ["scan5", "scan2"], "patient_id": ["", "P2"],
                                    "path": "", "labels": ["1", "1"], "split": ["", "tune"], "fold": "",
                                    "dropped": ["yes", ""]}),
        "subgroups": ["site"], "notices": ["a <notice>"], "settings": {"seed": "0"},
    }  # fmt: skip
    return CohortFacts(**{**values, **changes})  # type: ignore[arg-type]


def words(page: str) -> str:
    body = re.sub(r"(?s)<style>.*?</style>", "", page)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body))


def test_the_flow_adds_up() -> None:
    said = words(cohort_page(facts()))
    for part in (
        "6 scans of 5 patients, 4 in train, tune, test", "30 files found", "no scan 3", "8 scans",
        "truncated 2 (9 files)",
        "6 scans read", "without a label 1", "copy of an image in tune or test 1", "4 scans used",
        "train 2 scans of 1 patient nodule: 1 of 2",
    ):  # fmt: skip
        assert part in said


def test_table_one_counts_by_patient_where_it_says_so() -> None:
    said = words(cohort_page(facts()))
    assert "Patients 5 1 1 1" in said
    assert "nodule 3 (60 %) 1 (50 %) 1 (100 %) 0 (0 %)" in said
    assert "Sex, by patient F 2 (40 %) 1 (100 %) 0 (0 %) 0 (0 %)" in said
    assert "median (quartiles) 45 (37.5 to 52.5) 60 (60 to 60) 50 (50 to 50) –" in said
    assert "site A 3 (50 %) 2 (100 %) 0 (0 %) 0 (0 %)" in said


def test_texts_are_escaped_and_nobody_is_named() -> None:
    page = cohort_page(facts())
    assert "<b>ACME" not in page
    assert "a &lt;notice&gt;" in page
    assert "P2" not in page
    assert not re.search(r"(src|href)=", page)


def test_identical_images_show_what_was_left_out() -> None:
    assert "scan5 not used left out , scan2 tune" in words(cohort_page(facts()))


def test_a_cohort_without_labels_has_no_splits() -> None:
    table = facts().table.assign(split="", warnings="")
    said = words(cohort_page(facts(table=table, targets=pd.DataFrame(index=table.index))))
    assert "6 scans of 5 patients From" in said.replace("a &lt;notice&gt; ", "")
    assert "In no split" not in said


@pytest.mark.parametrize("column", ["age", "sex", "manufacturer"])
def test_what_nobody_knows_is_no_section(column: str) -> None:
    heading = {"age": "Age in years", "sex": "Sex, by", "manufacturer": "Manufacturer"}[column]
    assert heading in words(cohort_page(facts()))
    assert heading not in words(cohort_page(facts(table=facts().table.assign(**{column: ""}))))


def test_an_empty_cohort_has_a_page() -> None:
    empty = facts().table.iloc[:0]
    page = cohort_page(facts(
        table=empty, patients=empty["patient_id"], targets=pd.DataFrame(index=empty.index),
        duplicates=facts().duplicates.iloc[:0],
    ))  # fmt: skip
    assert "0 scans of 0 patients" in words(page)
