"""Forty canaries: none of them may be in anything that is written."""

import io
from copy import deepcopy
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from pipeline import deidentify
from pipeline.console import DONE, WITH_REJECTIONS, WRONG_USE
from pipeline.domain import ScanError
from pipeline.scans import boundary
from pipeline.scans.burned_in import why_burned_in
from pipeline.scans.deidentify import Key, _is_over_89, _moved, deidentified
from pipeline.scans.find import read_volume, survey
from tests.results.dicom_scenes import errors, radiograph
from tests.scans.fake_pacs import deflated_bomb, instances
from tests.scans.phantoms import write

CANARY = "Zzyzx"
KEY = Key(bytes(32))

PLAIN = (
    *("PatientName", "PatientID", "OtherPatientNames", "PatientBirthName", "PatientMotherBirthName", "PatientAddress"),
    *("PatientTelephoneNumbers", "PatientComments", "AdditionalPatientHistory", "EthnicGroup", "Occupation"),
    *("AccessionNumber", "StudyID", "InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName"),
    *("ReferringPhysicianName", "PerformingPhysicianName", "OperatorsName", "NameOfPhysiciansReadingStudy"),
    *("StudyDescription", "SeriesDescription", "ProtocolName", "StationName", "DeviceSerialNumber", "ImageComments"),
    *("AdmissionID", "PerformedProcedureStepID"),
)
"""28 elements; with the 12 below, 40."""


def planted() -> Dataset:
    """A CT slice with 40 canaries, each with its own number."""
    ds = instances(1)[0]
    for number, keyword in enumerate(PLAIN):
        setattr(ds, keyword, f"{CANARY}{number:02d}")
    item = Dataset()
    item.PatientName, item.ScheduledProcedureStepDescription = f"{CANARY}28", f"{CANARY}29"
    ds.RequestAttributesSequence = Sequence([item])
    deep, inner = Dataset(), Dataset()
    inner.TextValue, inner.PersonName, inner.CodeMeaning = f"{CANARY}30", f"{CANARY}31", f"{CANARY}00 quoted"
    deep.ViewModifierCodeSequence = Sequence([inner])
    ds.ViewCodeSequence = Sequence([deep])  # a sequence that the profile keeps
    block = ds.private_block(0x0009, f"{CANARY}32", create=True)
    block.add_new(1, "LO", f"{CANARY}33")
    block.add_new(2, "SQ", Sequence([deepcopy(item)]))
    ds.add_new(0x60003000, "OB", f"{CANARY}34 ".encode())
    ds.add_new(0x60004000, "LT", f"{CANARY}35")
    ds.ConvolutionKernel = f"B30 {CANARY}00"  # unknown to the profile, and it quotes the name
    ds.file_meta.SourceApplicationEntityTitle = f"{CANARY}36"
    ds.file_meta.PrivateInformationCreatorUID, ds.file_meta.PrivateInformation = "1.2.3", f"{CANARY}37 ".encode()
    ds.preamble = f"{CANARY}38".encode().ljust(128, b"\0")
    ds.add_new(0xFFFCFFFC, "OB", f"{CANARY}39 ".encode())
    return ds


def run(*words: object) -> int:
    return deidentify.main([str(word) for word in words])


def everything(folder: Path) -> bytes:
    """Names and contents of all files."""
    return b"".join(str(path).encode() + path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_no_canary_of_forty_is_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(planted(), tmp_path / "in" / f"{CANARY}^name" / f"{CANARY}.dcm")
    before = path.read_bytes()
    assert sum(f"{CANARY}{number:02d}".encode() in before for number in range(40)) == 40
    assert run(tmp_path / "in", tmp_path / "out", "--key", tmp_path / "key") == DONE
    said = capsys.readouterr()
    assert CANARY.encode() not in everything(tmp_path / "out").replace(str(tmp_path).encode(), b"")
    assert CANARY not in said.out + said.err
    assert path.read_bytes() == before
    (row,) = pd.read_csv(tmp_path / "out" / "deidentified.csv", dtype=str).to_dict("records")
    assert (row["status"], row["words"]) == ("ok", "2")
    assert set(errors(tmp_path / "out" / row["file"])) <= set(errors(path)), "it is as valid as before"


@pytest.mark.parametrize("keyword", ["PixelData", "FloatPixelData"])
def test_nothing_is_left_behind_the_last_pixel_or_of_an_overlay(tmp_path: Path, keyword: str) -> None:
    (ds,) = instances(1)
    ds.Columns = 31  # odd in bytes where a pixel takes one
    if keyword == "PixelData":
        ds.BitsAllocated = ds.BitsStored = 8
        ds.HighBit, ds.Rows = 7, 31
    else:
        ds.BitsAllocated, ds.Rows = 32, 4
        del ds.PixelData
    pixels = bytes(range(1, 125)) * (8 if keyword == "PixelData" else 4)
    pixels = pixels[: ds.Rows * ds.Columns * ds.BitsAllocated // 8]
    ds.add_new(keyword, "OB" if keyword == "PixelData" else "OF", pixels + f"{CANARY}^Ann".ljust(15).encode())
    ds.add_new(0x60000022, "LO", f"{CANARY} arrow")
    ds.add_new(0x60021500, "LO", f"{CANARY} label")
    result = pydicom.dcmread(io.BytesIO(deidentified(write(ds, tmp_path / "a.dcm"), KEY).encoded))
    assert result[keyword].value == pixels + b"\0" * (len(pixels) % 2)
    assert not [element for element in result if element.tag.group & 0xFF00 == 0x6000]


def test_an_image_whose_pixels_can_not_be_counted_is_refused(tmp_path: Path) -> None:
    (ds,) = instances(1)
    del ds.Columns
    with pytest.raises(ScanError, match="malformed"):
        deidentified(write(ds, tmp_path / "a.dcm"), KEY)


@pytest.mark.parametrize("vr", ["OW", "OF"])
def test_a_name_whose_vr_has_no_dummy_is_removed(tmp_path: Path, vr: str) -> None:
    (ds,) = instances(1)
    for keyword in ("ReferringPhysicianName", "ContentCreatorName", "InstitutionName"):
        ds.add_new(keyword, vr, f"{CANARY}^Ann".ljust(12).encode())
    path = write(ds, tmp_path / "a.dcm")
    assert path.read_bytes().count(CANARY.encode()) == 3
    cleaned = deidentified(path, KEY)
    assert CANARY.encode() not in cleaned.encoded
    assert cleaned.counts["removed"] >= 3


def test_pixels_geometry_and_units_are_those_of_before(tmp_path: Path) -> None:
    for k, ds in enumerate(instances(4)):
        write(ds, tmp_path / "in" / f"{k}.dcm")
    assert run(tmp_path / "in", tmp_path / "out", "--key", tmp_path / "key") == DONE
    (before,), (after,) = survey(tmp_path / "in").scans, survey(tmp_path / "out").scans
    one, other = read_volume(before), read_volume(after)
    np.testing.assert_array_equal(one.voxels, other.voxels)
    np.testing.assert_array_equal(one.affine, other.affine)
    assert (one.unit, one.warnings) == (other.unit, other.warnings)
    assert after.patient_id
    assert {before.patient_id, before.study_uid, before.series_uid}.isdisjoint(
        {after.patient_id, after.study_uid, after.series_uid}
    )


def dated(folder: Path, name: str, patient: str, day: str) -> Dataset:
    ds = instances(1)[0]
    ds.PatientID, ds.StudyDate, ds.AcquisitionDateTime, ds.StudyTime = patient, day, f"{day}101112.5", "101112"
    ds.PatientBirthDate, ds.PatientAge, ds.PatientSex, ds.PatientWeight = "19300101", "095Y", "F", 61
    return pydicom.dcmread(write(ds, folder / f"{name}.dcm"))


def cleaned(folder: Path, name: str, key: Key = KEY, **more: bool) -> Dataset:
    return pydicom.dcmread(io.BytesIO(deidentified(folder / f"{name}.dcm", key, **more).encoded))


def test_patients_dates_and_uids_agree(tmp_path: Path) -> None:
    dated(tmp_path, "a", "P1", "20260101")
    dated(tmp_path, "b", "P1", "20260131")
    dated(tmp_path, "c", "P2", "20260101")
    a, b, c = (cleaned(tmp_path, name) for name in "abc")
    assert a.PatientID == b.PatientID != c.PatientID
    assert a.FrameOfReferenceUID == b.FrameOfReferenceUID, "what lay in one frame still does"
    assert pd.Timestamp(b.StudyDate) - pd.Timestamp(a.StudyDate) == pd.Timedelta(days=30)
    assert a.StudyDate < "20260101"
    assert a.AcquisitionDateTime[:8] == a.StudyDate
    assert (a.AcquisitionDateTime[8:], a.StudyTime) == ("101112.5", "101112")
    assert a.StudyDate != c.StudyDate, "each patient has a shift of its own"
    assert (a.PatientBirthDate, a.PatientSex, a.get("PatientAge"), a.get("PatientWeight")) == ("", "", None, None)
    assert cleaned(tmp_path, "a").SOPInstanceUID == a.SOPInstanceUID
    assert cleaned(tmp_path, "a", Key(b"\1" * 32)).PatientID != a.PatientID
    assert a.PatientIdentityRemoved == "YES"
    assert [item.CodeValue for item in a.DeidentificationMethodCodeSequence] == ["113100", "113107"]


def test_characteristics_can_be_kept(tmp_path: Path) -> None:
    dated(tmp_path, "a", "P1", "20260101")
    a = cleaned(tmp_path, "a", keep_characteristics=True)
    assert (a.PatientSex, a.PatientAge, float(a.PatientWeight)) == ("F", "090Y", 61)
    assert a.DeidentificationMethodCodeSequence[2].CodeValue == "113108"


@pytest.mark.parametrize(
    ("text", "moved"),
    [
        ("20260110", "20260101"), ("202601", "20251223"), ("2026", "20251223"),
        ("20260110093000.5+0100", "20260101093000.5+0100"), ("2026.01.10", "20260101"), ("20260110 Ann", ""),
        ("about 1950", ""), ("20261350", ""), ("00010101", ""),
    ],
)  # fmt: skip
def test_dates_move(text: str, moved: str) -> None:
    assert _moved(text, -9) == moved


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"BurnedInAnnotation": "YES"}, "BurnedInAnnotation is YES"),
        ({"Modality": "US"}, "modality US"),
        ({"Modality": "US", "BurnedInAnnotation": "NO"}, ""),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "a secondary capture"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "a screen capture"),
        ({}, ""),
    ],
)
def test_pictures_that_may_show_a_name(changes: dict[str, object], why: str) -> None:
    ds = instances(1)[0]
    for name, value in changes.items():
        setattr(ds, name, value)
    found = why_burned_in(ds)
    assert found.startswith(why)
    assert bool(found) == bool(why)


def test_what_may_have_text_burned_in_is_held_back(tmp_path: Path) -> None:
    radiograph(tmp_path / "in" / "a.dcm", BurnedInAnnotation="YES")
    assert run(tmp_path / "in", tmp_path / "out", "--key", tmp_path / "key") == WITH_REJECTIONS
    assert [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()] == ["deidentified.csv"]
    assert run(tmp_path / "in", tmp_path / "out", "--key", tmp_path / "key", "--allow-burned-in") == DONE
    (row,) = pd.read_csv(tmp_path / "out" / "deidentified.csv").to_dict("records")
    assert (row["status"], row["detail"]) == ("ok", "BurnedInAnnotation is YES")


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    ds = instances(1)[0]
    del ds.PixelData
    write(ds, tmp_path / "in" / "a.dcm")
    (tmp_path / "in" / "b.dcm").write_bytes(b"no dicom")
    (tmp_path / "in" / "c.zip").write_bytes(b"PK")
    with pytest.raises(ScanError, match="holds no image; its text can't be cleaned with certainty"):
        deidentified(tmp_path / "in" / "a.dcm", KEY)
    with pytest.raises(ScanError, match="has no DICOM header"):
        deidentified(tmp_path / "in" / "b.dcm", KEY)
    assert run(tmp_path / "in", tmp_path / "out", "--key", tmp_path / "key") == WITH_REJECTIONS
    table = pd.read_csv(tmp_path / "out" / "deidentified.csv")
    assert sorted(detail.split(":")[0] for detail in table["detail"]) == ["bad_archive", "non_image", "not_dicom"]


def test_copies_agree_and_what_only_claims_to_be_one_is_refused(tmp_path: Path) -> None:
    ds = instances(1)[0]
    for name in ("a", "b"):
        write(ds, tmp_path / "in" / f"{name}.dcm")
    ds.PixelData = bytes(len(ds.PixelData))
    write(ds, tmp_path / "in" / "c.dcm")
    assert run(tmp_path / "in", tmp_path / "out", "--key", tmp_path / "key") == WITH_REJECTIONS
    table = pd.read_csv(tmp_path / "out" / "deidentified.csv")
    assert table["status"].tolist() == ["ok", "ok", "rejected"]
    assert table["detail"].tolist()[2] == "another file with the same SOPInstanceUID differs from this one"
    assert len(list((tmp_path / "out").rglob("*.dcm"))) == 1


def test_the_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(instances(1)[0], tmp_path / "in" / "a.dcm")
    assert run(tmp_path / "in", tmp_path / "out", "--key", tmp_path / "new" / "key") == DONE
    assert (tmp_path / "new" / "key").stat().st_mode & 0o777 == 0o600
    assert run(tmp_path / "in", tmp_path / "out", "--key", tmp_path / "out" / "key") == WRONG_USE
    assert "lies in OUT, and would be given away" in capsys.readouterr().err
    (tmp_path / "new" / "key").chmod(0o644)
    assert run(tmp_path / "in", tmp_path / "out", "--key", tmp_path / "new" / "key") == WRONG_USE
    assert "can be read by others; run: chmod 600" in capsys.readouterr().err
    (tmp_path / "bad").write_text("password")
    (tmp_path / "bad").chmod(0o600)
    assert run(tmp_path / "in", tmp_path / "out", "--key", tmp_path / "bad") == WRONG_USE
    assert "holds no key (64 hex digits)" in capsys.readouterr().err
    assert run(tmp_path / "in", tmp_path / "in" / "out", "--key", tmp_path / "key") == WRONG_USE
    assert "lies in SCANS" in capsys.readouterr().err
    assert run() == WRONG_USE
    assert deidentify.DEMO in capsys.readouterr().err


@pytest.mark.parametrize(
    ("age", "over"), [("090Y", True), ("104Y", True), ("089Y", False), ("9Y", False), ("095M", False), ("100D", False)]
)
def test_only_ages_in_years_above_89_are_changed(age: str, over: bool) -> None:
    assert _is_over_89(age) is over


def test_a_file_that_can_not_be_read_costs_only_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(planted(), tmp_path / "in" / "good.dcm")
    write(planted(), tmp_path / "in" / "locked.dcm")
    whole = deidentify.sha256_of

    def locked(path: Path) -> str:
        if path.stem == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return whole(path)

    monkeypatch.setattr(deidentify, "sha256_of", locked)
    assert run(tmp_path / "in", tmp_path / "out", "--key", tmp_path / "key") == WITH_REJECTIONS
    table = pd.read_csv(tmp_path / "out" / "deidentified.csv", keep_default_na=False).set_index("status")
    assert table.loc["ok", "file"].endswith(".dcm")
    assert table.loc["rejected", "detail"] == "io_error: the file can't be read (PermissionError)"


def test_a_deflated_bomb_is_not_inflated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boundary, "MAX_INFLATED", 2**22)
    (tmp_path / "bomb.dcm").write_bytes(deflated_bomb())
    with pytest.raises(ScanError, match=r"too_large: \d+ bytes would grow to \d+; accepted: 200 times"):
        deidentified(tmp_path / "bomb.dcm", KEY)
