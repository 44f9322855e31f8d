"""Class F: what a picture shows, and whom."""

import shutil
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID

from tests.bad_input.case import OK, SPLIT, Truth, case, reject, warn
from tests.bad_input.phantoms import ct, lone, nii, radiograph, setting


def dx(**values: object):
    """A radiograph whose header says so."""
    return lambda folder: radiograph(folder, setting(**values))


def species(code: str, scheme: str):
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code, scheme, "species"
    return lambda folder: ct(folder, setting(PatientSpeciesCodeSequence=Sequence([item])))


def secondary_capture(folder: Path) -> Truth:
    return radiograph(folder, setting(SOPClassUID=UID("1.2.840.10008.5.1.4.1.1.7"), Modality="OT"))


def twice(folder: Path) -> Truth:
    truth = ct(folder)
    for path in sorted(folder.iterdir()):
        shutil.copy(path, folder / f"copy of {path.name}")
    return truth


def nifti_twice(folder: Path) -> list[Truth]:
    return [nii(folder, "a.nii"), nii(folder, "b.nii")]


CASES = (
    case("F1", "a secondary capture; a derived CT", warn("derived"), secondary_capture,
         lambda folder: ct(folder, setting(ImageType=["DERIVED", "SECONDARY", "REFORMATTED"]))),
    case("F2", "BurnedInAnnotation YES", warn("burned_in"), dx(BurnedInAnnotation="YES")),
    case("F3", "text burned into the pixels and not declared: no reader can know", OK, lone),
    case("F6", "a side in the tags that contradict each other, or the ViewPosition", warn("laterality"),
         dx(Laterality="L", ImageLaterality="R"), dx(ImageLaterality="L", ViewPosition="R MLO"),
         dx(Laterality="L", ViewPosition="RIGHT LAT")),
    case("F6", "a mammogram, a radiograph of a hand, that name no side", warn("laterality"),
         dx(Modality="MG", BodyPartExamined="BREAST"), dx(Modality="MG"), dx(BodyPartExamined="HAND")),
    case("F6", "sides that agree; a chest, which has none", OK,
         dx(ImageLaterality="L", ViewPosition="LMLO", BodyPartExamined="BREAST"),
         dx(ViewPosition="LL", BodyPartExamined="CHEST"), dx(ViewPosition="RLO", Laterality="L")),
    case("F9", "a phantom: QualityControlImage, body part, patient id and name, description", warn("phantom"),
         dx(QualityControlImage="YES"), dx(BodyPartExamined="PHANTOM"), dx(PatientID="CANARY phantom 3"),
         dx(PatientName="CANARY^Phantom"), dx(SeriesDescription="CANARY phantom")),
    case("F10", "an animal: by description, by code", reject("non_human"),
         lambda folder: ct(folder, setting(PatientSpeciesDescription="Canis lupus")), species("448771007", "SCT")),
    case("F10", "a human who says so", OK, species("337915000", "SCT"), species("L-85B00", "SRT"),
         lambda folder: ct(folder, setting(PatientSpeciesDescription="Homo sapiens"))),
    case("F12", "every file of a series twice: one scan, the copies its aliases", OK, twice),
    case("F12", "a NIfTI twice: two scans, which prepare knows by their content_sha256", SPLIT, nifti_twice),
)  # fmt: skip
