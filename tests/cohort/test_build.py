from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.cohort.build import Built, build
from pipeline.cohort.labels import read_labels
from pipeline.cohort.reading import Measured
from pipeline.domain import ReadRules, Reason, Rejection, Scan, UsageError
from pipeline.sections import CohortSection
from tests.cohort.cases import measured, scan, survey, write

COUNT = 24
SCANS = [scan(f"{n:02d}.nii", f"p{n:02d}", sex="FM"[n % 2], manufacturer="ACME") for n in range(COUNT)]
PLAIN = {f"{n:02d}.nii": str(n % 2) for n in range(COUNT)}


def reader(twins: dict[str, str] | None = None, refuse: Sequence[str] = ()):
    """Reads without files: `twins` maps a name to the name whose image it repeats."""

    def read(scans: Sequence[Scan]) -> tuple[dict[str, Measured], list[Rejection]]:
        facts = {
            s.scan_id: measured(s.scan_id, "id-" + (twins or {}).get(s.path.name, s.path.name))
            for s in scans
            if s.path.name not in refuse
        }
        bad = [Rejection(s.path, Reason.TRUNCATED, "", s.scan_id, s.paths) for s in scans if s.path.name in refuse]
        return facts, bad

    return read


def text(rows: dict[str, str], extra: str = "", cells: dict[str, str] | None = None) -> str:
    lines = [f"{name},{label}" + (f",{(cells or {}).get(name, '')}" if extra else "") for name, label in rows.items()]
    return f"path,label{',' + extra if extra else ''}\n" + "\n".join(lines) + "\n"


def built(
    tmp_path: Path, table: str = text(PLAIN), section: CohortSection | None = None, read=None, scans=SCANS
) -> Built:
    labels = read_labels(write(tmp_path / "l.csv", table)) if table else None
    return build(survey(scans), labels, section or CohortSection(), ReadRules(), read or reader())


def row(done: Built, name: str) -> dict[str, str]:
    return done.table.set_index("path").loc[name].to_dict()


def test_the_columns_of_scans_csv_are_those_of_the_design(tmp_path: Path) -> None:
    done = built(tmp_path, text(PLAIN, "site", dict.fromkeys(PLAIN, "A")))
    assert ",".join(done.table) == (
        "scan_id,patient_id,accession_number,study_uid,series_uid,modality,path,n_instances,shape,spacing_mm,orientation,"
        "study_date,manufacturer,model_name,sex,age,content_sha256,image_hash,near_identical,body_part,contrast_agent,"
        "label,site,split,fold,warnings"
    )
    found = row(done, "03.nii")
    assert (found["shape"], found["spacing_mm"], found["orientation"]) == ("4x5x6", "0.7x0.7x2.5", "LPS")
    assert (found["n_instances"], found["patient_id"], found["label"]) == ("1", "p03", "1")
    assert set(done.table["split"]) == {"train", "tune", "test"}
    assert set(done.table["fold"][done.table["split"] != "test"]) == set("01234")
    assert set(done.table["fold"][done.table["split"] == "test"]) == {""}


def test_without_labels_there_is_no_split(tmp_path: Path) -> None:
    done = built(tmp_path, "")
    assert done.task is None
    assert set(done.table["split"]) == {""}
    assert set(done.table["warnings"]) == {""}
    assert "unmatched.csv" not in done.tables
    assert done.fingerprint["task"] is None


def test_scans_that_are_not_used_say_why(tmp_path: Path) -> None:
    rows = {**PLAIN, "00.nii": ""}
    del rows["01.nii"]
    done = built(tmp_path, text(rows), read=reader(refuse=["02.nii"]))
    assert row(done, "00.nii")["warnings"] == row(done, "01.nii")["warnings"] == "no_label"
    assert row(done, "00.nii")["split"] == row(done, "01.nii")["fold"] == ""
    assert "02.nii" not in set(done.table["path"])
    reasons = done.tables["unmatched.csv"].set_index("path")["reason"].to_dict()
    assert reasons == {"00.nii": "label_empty", "01.nii": "no_label_row", "02.nii": "scan_rejected"}


def test_an_identical_image_is_kept_together_marked_and_told(tmp_path: Path) -> None:
    for seed in range(4):
        done = built(tmp_path, section=CohortSection(seed=seed), read=reader({"07.nii": "01.nii"}))
        one, other = row(done, "01.nii"), row(done, "07.nii")
        assert (one["split"], one["fold"], one["warnings"]) == (other["split"], other["fold"], "duplicate_image")
        assert len(done.tables["duplicates.csv"]) == 2
        assert any(note.startswith("scans that share their image with another: 2") for note in done.notices)


def test_drop_from_train_leaves_only_the_held_out_copy(tmp_path: Path) -> None:
    twins, dropped = {"07.nii": "01.nii", "09.nii": "03.nii", "11.nii": "05.nii"}, 0
    for seed in range(4):
        done = built(tmp_path, section=CohortSection(seed=seed, duplicates="drop_from_train"), read=reader(twins))
        used = done.table[done.table["split"] != ""]
        assert (used.groupby("content_sha256")["split"].nunique() == 1).all()
        dropped += int(done.table["warnings"].str.contains("duplicate_dropped").sum())
    assert dropped > 0


def test_refuse_refuses(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="duplicates is refuse, and 2 labelled scans share their image"):
        built(tmp_path, section=CohortSection(duplicates="refuse"), read=reader({"07.nii": "01.nii"}))
    assert built(tmp_path, section=CohortSection(duplicates="refuse")).task is not None


GIVEN = {name: ("train", "train", "val", "test")[n % 12 // 3] for n, name in enumerate(PLAIN)}


def test_a_given_split_is_used_as_it_is(tmp_path: Path) -> None:
    done = built(tmp_path, text(PLAIN, "split", {**GIVEN, "00.nii": ""}))
    expected = {name: {"val": "tune"}.get(split, split) for name, split in GIVEN.items()} | {"00.nii": ""}
    assert done.table.set_index("path")["split"].to_dict() == expected
    assert row(done, "00.nii")["warnings"] == "no_split"
    assert isinstance(done.fingerprint["split"], dict)
    assert done.fingerprint["split"]["origin"] == "labels.csv"


def test_the_train_copy_of_an_image_in_a_given_tune_split_is_left_out(tmp_path: Path) -> None:
    table = text(PLAIN, "split", GIVEN)
    done = built(tmp_path, table, read=reader({"00.nii": "06.nii"}))
    assert row(done, "00.nii")["split"] == row(done, "00.nii")["fold"] == ""
    assert row(done, "00.nii")["warnings"] == "duplicate_dropped;duplicate_image"
    assert row(done, "06.nii")["split"] == "tune"
    assert list(done.tables["duplicates.csv"]["dropped"]) == ["yes", ""]
    assert "images of tune or test that lie in an earlier split too: 1; copies left out there: 1" in done.notices
    with pytest.raises(UsageError, match="identical images in more than one split: 1"):
        built(tmp_path, table, CohortSection(duplicates="keep_together"), reader({"00.nii": "06.nii"}))


@pytest.mark.parametrize("key", ["patient_id", "study_uid"])
def test_a_given_split_that_tears_a_patient_apart_is_refused(tmp_path: Path, key: str) -> None:
    scans = [replace(scan(f"{n:02d}.nii"), **{key: f"x{n // 2}"}) for n in range(COUNT)]  # type: ignore[arg-type]
    with pytest.raises(
        UsageError,
        match=r"given in labels.csv can't be used:\n  (patients|studies without patient_id) in more than one",
    ):
        built(tmp_path, text(PLAIN, "split", GIVEN), scans=scans)


def test_given_folds_are_kept_and_checked(tmp_path: Path) -> None:
    folds = {name: str(n % 3) for n, name in enumerate(PLAIN)}
    done = built(tmp_path, text(PLAIN, "fold", folds))
    inside = done.table[done.table["split"] != "test"]
    assert inside.set_index("path")["fold"].to_dict() == {name: folds[name] for name in inside["path"]}
    scans = [scan(f"{n:02d}.nii", f"x{n // 2}") for n in range(COUNT)]
    with pytest.raises(UsageError, match="patients in more than one fold"):
        built(tmp_path, text(PLAIN, "fold", folds), scans=scans)


def test_the_table_wins_over_the_header_for_who_but_not_for_what(tmp_path: Path) -> None:
    table = "path,label,sex,modality,age\n" + "".join(f"{n},{v},F,MR,060Y\n" for n, v in PLAIN.items())
    scans = [scan(name, f"p{name}", sex="M", modality="CT" if n else "") for n, name in enumerate(PLAIN)]
    done = built(tmp_path, table, scans=scans)
    assert set(done.table["sex"]) == {"F"}
    assert set(done.table["age"]) == {"60"}
    assert list(done.table["modality"])[:2] == ["MR", "CT"]
    assert any("differ in sex: 24; the labels' value" in note for note in done.notices)
    assert any("differ in modality: 23; the header's value" in note for note in done.notices)


def test_a_label_may_be_called_like_a_fact_of_the_header(tmp_path: Path) -> None:
    table = "path,sex\n" + "".join(f"{name},{'F' if v == '1' else 'M'}\n" for name, v in PLAIN.items())
    labels = read_labels(write(tmp_path / "l.csv", table), ["sex"])
    done = build(survey(SCANS), labels, CohortSection(), ReadRules(), reader())
    assert list(done.table).count("sex") == 1
    assert done.task is not None
    assert done.task.findings == ("sex=F", "sex=M")
    assert set(done.table["split"]) == {"train", "tune", "test"}


def test_a_label_is_never_filled_from_the_header(tmp_path: Path) -> None:
    table = "path,sex\n" + "".join(f"{name},{'' if name == '00.nii' else 'FM'[int(v)]}\n" for name, v in PLAIN.items())
    labels = read_labels(write(tmp_path / "l.csv", table), ["sex"])
    done = build(survey(SCANS), labels, CohortSection(), ReadRules(), reader())
    assert (row(done, "00.nii")["sex"], row(done, "00.nii")["warnings"]) == ("", "no_label")


@pytest.mark.parametrize(
    ("section", "extra", "says"),
    [
        (CohortSection(group_by="town"), "", "cohort.group_by: no column 'town'"),
        (CohortSection(hold_out={"town": ["B"]}), "", "cohort.hold_out: no column 'town'"),
        (CohortSection(hold_out={"sex": ["F"]}), "split", "hold_out: labels.csv already has a column split"),
    ],
)
def test_settings_that_do_not_fit_the_table_are_refused(
    tmp_path: Path, section: CohortSection, extra: str, says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        built(tmp_path, text(PLAIN, extra, GIVEN), section)


def test_a_class_with_one_patient_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    def never(scans: Sequence[Scan]):
        raise AssertionError

    with pytest.raises(
        UsageError, match=r"at least 2 patients.*found label=1: 1 \(all classes: label=0: 23, label=1: 1\)"
    ):
        built(tmp_path, text({**dict.fromkeys(PLAIN, "0"), "01.nii": "1"}), read=never)


def test_a_class_that_loses_its_patients_to_refusals_is_refused(tmp_path: Path) -> None:
    rows = {**dict.fromkeys(PLAIN, "0"), "01.nii": "1", "02.nii": "1"}
    with pytest.raises(UsageError, match="found label=1: 1 "):
        built(tmp_path, text(rows), read=reader(refuse=["02.nii"]))


def test_what_a_user_should_not_have_to_look_for_is_said(tmp_path: Path) -> None:
    scans = [scan(f"{n:02d}.nii") for n in range(COUNT)]
    rows = {**PLAIN}
    done = built(
        tmp_path, text(rows, "note", {n: f"n{n}" for n in PLAIN}), read=reader({"01.nii": "00.nii"}), scans=scans
    )
    assert "scans without patient_id: 24; each counts as a patient of its own" in done.notices
    assert "identical images with different label: 1" in done.notices
    assert "no subgroups (one value, or too many): note" in done.notices


def test_several_labels_split_with_what_is_missing(tmp_path: Path) -> None:
    lines = [f"{name},{n % 2},{'' if n % 4 == 0 else n % 3 % 2}" for n, name in enumerate(PLAIN)]
    done = built(tmp_path, "path,label_a,label_b\n" + "\n".join(lines))
    assert done.task is not None
    assert done.task.kind == "multilabel"
    for label in ("label_a", "label_b"):
        found = done.table[done.table[label] != ""].groupby("split")[label].nunique()
        assert dict(found) == {"train": 2, "tune": 2, "test": 2}
