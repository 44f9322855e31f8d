from dataclasses import replace
from pathlib import Path

import highdicom as hd
import pydicom
import pytest

from pipeline.domain import Reason, ScanError
from pipeline.results.dicom_source import Author, read_source
from pipeline.results.dicom_sr import finding_code, structured_report
from pipeline.scans.encoding import encoded
from tests.results.dicom_scenes import AUTHOR, POINTS, SOURCES, errors, only_scan, prediction, radiograph
from tests.scans.phantoms import SLICES, nifti, series

pytestmark = pytest.mark.filterwarnings("ignore:Invalid value for VR")


def written(folder: Path, path: Path, author: Author = AUTHOR, **changes: object) -> Path:
    report = structured_report(read_source(only_scan(folder)), prediction(**changes), POINTS, author)
    path.write_bytes(encoded(report, "the report"))
    return path


@pytest.mark.parametrize("name", SOURCES)
def test_the_report_is_valid(name: str, tmp_path: Path) -> None:
    SOURCES[name](tmp_path / "in")
    assert errors(written(tmp_path / "in", tmp_path / "sr.dcm")) == []


def test_it_says_what_the_model_said_and_reads_back(tmp_path: Path) -> None:
    series(tmp_path / "in")
    report = hd.sr.srread(written(tmp_path / "in", tmp_path / "sr.dcm"))
    nodule, effusion = report.content.get_image_measurement_groups()
    assert (nodule.finding_type.meaning, effusion.finding_type.meaning) == ("nodule", "effusion")
    assert {m.name.meaning: m.value for m in nodule.get_measurements()} == {
        "Calibrated probability of the finding": 83.1234,
        "Threshold of the operating point": 41,
        "Standard deviation over the ensemble": 2,
    }
    said = {e.name.meaning: e.value.meaning for e in nodule.get_qualitative_evaluations()}
    assert said == {"Result at the operating point": "Positive", "Scan resembles the training scans": "Yes"}
    # without an operating point there is a probability and no verdict
    assert [m.value for m in effusion.get_measurements()] == [20, 2]
    assert [e.name.meaning for e in effusion.get_qualitative_evaluations()] == ["Scan resembles the training scans"]


def test_it_names_the_algorithm_and_every_source_image(tmp_path: Path) -> None:
    folder = series(tmp_path / "in")
    path = written(folder, tmp_path / "sr.dcm", spread=0.0, in_distribution=None)
    report, text = hd.sr.srread(path), path.read_bytes().decode("utf-8", "replace")
    for word in ("demo-0123456789ab", "9.9", "sensitivity >= 0.95", "chosen on tune", "RESEARCH USE ONLY"):
        assert word in text
    uids = {str(pydicom.dcmread(path).SOPInstanceUID) for path in folder.iterdir()}
    evidence = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert {str(item.ReferencedSOPInstanceUID) for item in evidence} == uids
    group = report.content.get_image_measurement_groups()[0]
    assert len(group.source_images) == SLICES
    assert group.get_qualitative_evaluations()[0].value.meaning == "Positive"
    assert [m.name.meaning for m in group.get_measurements()][2:] == []
    assert report.VerificationFlag == "UNVERIFIED"


def test_patient_and_study_are_those_of_the_source(tmp_path: Path) -> None:
    report = pydicom.dcmread(written(SOURCES["Japanese name"](tmp_path / "in"), tmp_path / "sr.dcm"))
    source = pydicom.dcmread(next((tmp_path / "in").iterdir()))
    assert report.StudyInstanceUID == source.StudyInstanceUID
    assert report.PatientID == "CANARY-ID"
    assert report.PatientName.ideographic == "山田^太郎"


def test_a_second_run_gives_the_same_uids_and_another_model_others(tmp_path: Path) -> None:
    series(tmp_path / "in")
    first, again, other, newer = (
        pydicom.dcmread(written(tmp_path / "in", tmp_path / f"{n}.dcm", author))
        for n, author in enumerate(
            [AUTHOR, AUTHOR, Author("demo", "demo-ba", "9.9"), Author("demo", AUTHOR.model_id, "10")]
        )
    )
    assert first.SOPInstanceUID == again.SOPInstanceUID
    assert first.SeriesInstanceUID == again.SeriesInstanceUID
    assert len({first.SOPInstanceUID, other.SOPInstanceUID, newer.SOPInstanceUID, first.SeriesInstanceUID}) == 4
    assert first.SOPInstanceUID.startswith("2.25.")


def test_codes_hold_any_name() -> None:
    assert finding_code("nodule").value == "nodule"
    long = finding_code("phase=late arterial " * 5)
    assert (len(long.value), len(long.meaning)) == (16, 64)
    assert "\\" not in finding_code("a\\b").meaning


@pytest.mark.parametrize("name", ["StudyInstanceUID", "SeriesInstanceUID"])
def test_a_source_without_study_is_refused(name: str, tmp_path: Path) -> None:
    radiograph(tmp_path / "in" / "a.dcm", **{name: ""})
    with pytest.raises(ScanError, match=f"{name} is missing; a result could not be linked"):
        read_source(only_scan(tmp_path / "in"))
    radiograph(tmp_path / "in" / "a.dcm", **{name: "../../x"})
    with pytest.raises(ScanError, match=f"{name} is no UID"):
        read_source(only_scan(tmp_path / "in"))


def test_a_scan_of_two_studies_is_refused(tmp_path: Path) -> None:
    one, other = only_scan(series(tmp_path / "a")), only_scan(series(tmp_path / "b"))
    with pytest.raises(ScanError, match="several patients or studies"):
        read_source(replace(one, paths=one.paths + other.paths))


def test_a_scan_that_is_no_dicom_is_refused(tmp_path: Path) -> None:
    nifti(tmp_path / "in" / "a.nii")
    with pytest.raises(ScanError, match="nifti, not DICOM: no study") as caught:
        read_source(only_scan(tmp_path / "in"))
    assert caught.value.reason is Reason.NON_IMAGE
