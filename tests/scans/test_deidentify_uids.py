"""No UID of an object is left, wherever it stands and whatever it is written as; references still lead somewhere."""

import io
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from pipeline import deidentify
from pipeline.console import DONE
from pipeline.scans.deidentify import Key, deidentified
from tests.scans.fake_pacs import instances
from tests.scans.phantoms import write

KEY = Key(bytes(32))
ROOT = "1.3.12.2.1107.5"
STUDY, SERIES, INSTANCE, FRAME = f"{ROOT}.1", f"{ROOT}.1.2", f"{ROOT}.1.2.3", f"{ROOT}.9"
ELSEWHERE = f"{ROOT}.4.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
CANARY = "Zzyzx"

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, on what these files do wrong


def scan(**changes: object) -> Dataset:
    (ds,) = instances(1)
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = STUDY, SERIES, FRAME
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = INSTANCE
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    return ds


def cleaned(ds: Dataset, folder: Path, **more: bool) -> tuple[bytes, Dataset]:
    encoded = deidentified(write(ds, folder / "a.dcm"), KEY, **more).encoded
    return encoded, pydicom.dcmread(io.BytesIO(encoded))


def even(text: str, padding: str = "\0") -> bytes:
    return (text + padding * (len(text) % 2)).encode()


@pytest.mark.parametrize(
    ("keyword", "vr", "text"),
    [
        ("FilterType", "LO", STUDY),  # unknown to the table
        ("FilterType", "LO", f"as in {SERIES}."),
        ("FilterType", "LO", ELSEWHERE),  # of another file
        ("ConvolutionKernel", "SH", f"{ROOT}.7"),  # 16 characters at the most: the rest is cut off
        ("ScanningSequence", "CS", f"{ROOT}.7"),
        ("StudyDescription", "LO", STUDY),
        ("ImageComments", "LT", f"compare\n{STUDY}"),
        ("ContributionDescription", "ST", STUDY),
        ("TextValue", "UT", STUDY),
        ("FilterType", "TM", STUDY),
        ("InstitutionName", "TM", STUDY),
        ("FilterType", "DA", STUDY),
        ("StudyDate", "DA", f"20260101 {STUDY}"),
        ("FilterType", "AS", STUDY),
        ("FilterType", "OB", STUDY),
        ("ConversionType", "OW", STUDY),
        ("VolumeFrameOfReferenceUID", "OB", STUDY),  # a UID that the table does not list
        ("ReferencedSeriesSequence", "OB", STUDY),
        (0x00189999, "OB", STUDY),  # no standard knows it
        (0x00189999, "LO", STUDY),
    ],
)
def test_no_uid_is_left_in_other_elements(tmp_path: Path, keyword: str | int, vr: str, text: str) -> None:
    ds = scan(BurnedInAnnotation="NO")
    ds.add_new(keyword, vr, even(text) if vr.startswith("O") else text)
    encoded, _ = cleaned(ds, tmp_path)
    assert ROOT.encode() not in encoded


@pytest.mark.parametrize("vr", ["LO", "SH", "UT", "OB", "OW", "UN", "CS"])
@pytest.mark.parametrize("keyword", ["FrameOfReferenceUID", "StudyInstanceUID", "VolumeFrameOfReferenceUID"])
def test_a_uid_written_as_something_else_becomes_the_one_that_it_becomes_everywhere(
    tmp_path: Path, keyword: str, vr: str
) -> None:
    ds = scan()
    ds.add_new(keyword, vr, even(STUDY) if vr in ("OB", "OW", "UN") else f"{STUDY} ")
    encoded, after = cleaned(ds, tmp_path)
    assert (after[keyword].VR, after[keyword].value) == ("UI", KEY.uid(STUDY))
    assert after.StudyInstanceUID == KEY.uid(STUDY)
    assert ROOT.encode() not in encoded


def reference(uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CT, uid
    return item


def with_references() -> Dataset:
    """An image that names the one of `scan` in all the ways that images have."""
    ds = scan(SOPInstanceUID=f"{SERIES}.8")
    of_series, of_study, content = Dataset(), Dataset(), Dataset()
    of_series.ReferencedSOPSequence, of_series.SeriesInstanceUID = Sequence([reference(INSTANCE)]), SERIES
    of_study.ReferencedSeriesSequence, of_study.StudyInstanceUID = Sequence([of_series]), STUDY
    content.ValueType, content.UID = "UIDREF", INSTANCE  # (0040,A124)
    ds.StudiesContainingOtherReferencedInstancesSequence = Sequence([of_study])
    ds.SourceImageSequence = ds.ReferencedImageSequence = Sequence([reference(INSTANCE), reference(f"{SERIES}.4")])
    of_frame = Dataset()
    of_frame.DerivationImageSequence = Sequence([Dataset()])
    of_frame.DerivationImageSequence[0].SourceImageSequence = Sequence([reference(INSTANCE)])
    of_frame.AcquisitionContextSequence = Sequence([content])
    ds.PerFrameFunctionalGroupsSequence = Sequence([of_frame])
    ds.FailedSOPInstanceUIDList = [INSTANCE, f"{SERIES}.4"]
    return ds


def test_references_lead_to_the_same_objects_in_every_file(tmp_path: Path) -> None:
    write(scan(), tmp_path / "in" / "a.dcm")
    write(with_references(), tmp_path / "in" / "b.dcm")
    assert deidentify.main([str(tmp_path / "in"), str(tmp_path / "out"), "--key", str(tmp_path / "key")]) == DONE
    files = sorted((tmp_path / "out").rglob("*.dcm"))
    assert not [path for path in files if ROOT.encode() in path.read_bytes()]
    found = [pydicom.dcmread(path) for path in files]
    assert all(ds.file_meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID for ds in found)
    image, other = sorted(found, key=lambda ds: "SourceImageSequence" in ds)
    assert (other.StudyInstanceUID, other.SeriesInstanceUID) == (image.StudyInstanceUID, image.SeriesInstanceUID)
    assert other.FrameOfReferenceUID == image.FrameOfReferenceUID
    assert other.FailedSOPInstanceUIDList[0] == image.SOPInstanceUID
    (of_study,) = other.StudiesContainingOtherReferencedInstancesSequence
    (of_series,) = of_study.ReferencedSeriesSequence
    assert (of_study.StudyInstanceUID, of_series.SeriesInstanceUID) == (image.StudyInstanceUID, image.SeriesInstanceUID)
    (of_frame,) = other.PerFrameFunctionalGroupsSequence
    named = [
        *(of_series.ReferencedSOPSequence[0], other.SourceImageSequence[0], other.ReferencedImageSequence[0]),
        of_frame.DerivationImageSequence[0].SourceImageSequence[0],
    ]
    assert {item.ReferencedSOPInstanceUID for item in named} == {image.SOPInstanceUID}
    assert {item.ReferencedSOPClassUID for item in named} == {CT}
    assert not (tmp_path / "out" / "deidentified.csv").read_text().count(ROOT)
    assert pd.read_csv(tmp_path / "out" / "deidentified.csv")["uids"].min() >= 4


def coded(scheme: str) -> Callable[[Dataset], None]:
    def change(ds: Dataset) -> None:
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "39607008", "SCT", "Lung"
        item.CodingSchemeUID = scheme
        ds.AnatomicRegionSequence = Sequence([item])

    return change


def test_uids_of_kinds_stay_unless_an_object_bears_them(tmp_path: Path) -> None:
    ds = scan(SOPClassUID="1.3.46.670589.11.0.0.12.1", FrameOfReferenceUID="1.2.840.10008.1.4.1.1")
    coded("2.16.840.1.113883.6.96")(ds)
    _, after = cleaned(ds, tmp_path)
    assert after.SOPClassUID == after.file_meta.MediaStorageSOPClassUID == "1.3.46.670589.11.0.0.12.1"
    assert after.FrameOfReferenceUID == "1.2.840.10008.1.4.1.1", "the Talairach brain's, not a patient's"
    assert after.AnatomicRegionSequence[0].CodingSchemeUID == "2.16.840.1.113883.6.96"
    for scheme in (STUDY, "St. Elsewhere"):
        coded(scheme)(ds := scan())
        encoded, after = cleaned(ds, tmp_path)
        assert after.AnatomicRegionSequence[0].CodingSchemeUID == KEY.uid(scheme)
        assert scheme.encode() not in encoded


def test_an_objects_uid_below_the_standards_root_is_replaced(tmp_path: Path) -> None:
    mine = "1.2.840.10008.99.20260101.1"
    encoded, after = cleaned(scan(StudyInstanceUID=mine, FilterType=f"with {mine}"), tmp_path)
    assert after.StudyInstanceUID == KEY.uid(mine)
    assert mine.encode() not in encoded


def test_what_only_looks_like_a_uid_stays(tmp_path: Path) -> None:
    _, after = cleaned(scan(SoftwareVersions=["5.3.0", "5.3.0.3.1"], FilterType="1.2.840.10008.1.2.1"), tmp_path)
    assert after.SoftwareVersions == ["5.3.0", "5.3.0.3.1"]
    assert after.FilterType == "1.2.840.10008.1.2.1", "a transfer syntax"


@pytest.mark.parametrize(
    ("keyword", "vr"),
    [
        ("InstitutionName", "TM"), ("InstitutionName", "DA"), ("PatientName", "TM"), ("FilterType", "TM"),
        ("FilterType", "AS"), ("FilterType", "OB"), ("FilterType", "OW"), ("FilterType", "UL"), ("StudyTime", "TM"),
        ("PatientSex", "CS"), ("PatientSex", "TM"), ("PatientSize", "LO"),
    ],
)  # fmt: skip
def test_a_name_is_not_left_whatever_it_is_written_as(tmp_path: Path, keyword: str, vr: str) -> None:
    ds = scan(ReferringPhysicianName=CANARY)
    name = CANARY.encode().ljust(8)
    numbers = [int.from_bytes(name[k : k + 4], "little") for k in (0, 4)]
    ds.add_new(keyword, vr, name if vr.startswith("O") else numbers if vr == "UL" else CANARY)
    path = write(ds, tmp_path / "a.dcm")
    assert path.read_bytes().count(CANARY.encode()) == 2
    encoded, _ = cleaned(ds, tmp_path, keep_characteristics=True)
    assert CANARY.encode() not in encoded
