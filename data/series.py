"""A planned visit and its voxels -> files: DICOM series with scouts and defects, NIfTI files, masks."""

from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import imagecodecs
import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmwrite
from pydicom import uid as uids
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate

from data.anatomy import phantom
from data.plan import KERNELS, POSITIONS, Coding, Defect, Localizer, Patient, Visit, digest, uid
from pipeline.domain import Affine, Voxels

IMPLEMENTATION_UID = "2.25.199264120764011318203391271823510231871"
Frame: TypeAlias = NDArray[np.integer]
"""Stored numbers of one image, int16 or uint16 [row, column]."""


def write_patient(patient: Patient, nodule: bool, seed: int, folder: Path) -> list[dict[str, object]]:
    """Write all scans of a patient below `folder`/scans and the masks below `folder`/masks.

    Returns:
        One row a scan: path, mask (empty for a control) and the nodule's volume in ml.
    """
    rows: list[dict[str, object]] = []
    for visit in patient.visits:
        voxels, _, mask = phantom(
            digest(seed, "anatomy", patient.number), nodule, visit.shape, visit.spacing_mm, visit.number
        )
        path = patient.scan_path(visit)
        if patient.as_nifti:
            write_nifti(folder / "scans" / path, voxels.astype(np.int16), visit.affine, visit.orientation)
        else:
            write_series(patient, visit, seed, voxels, folder / "scans" / path)
        mask_path = mask_of(path) if nodule else ""
        if nodule:
            write_nifti(folder / "masks" / mask_path, mask.astype(np.uint8), visit.affine)
        volume_ml = round(float(mask.sum() * np.prod(visit.spacing_mm) / 1000), 2)
        rows.append({"path": path, "mask": mask_path, "volume_ml": volume_ml})
    return rows


def mask_of(scan_path: str) -> str:
    """A scan's mask, relative to the masks folder: the same path, as .nii.gz."""
    return f"{scan_path.removesuffix('.nii.gz')}.nii.gz"


def write_nifti(path: Path, voxels: NDArray[np.generic], affine: Affine, orientation: str = "RAS") -> None:
    """Write voxels [i, j, k] of a RAS+ grid as NIfTI, stored along the given axis codes."""
    image = nib.Nifti1Image(voxels, affine)
    turn = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(orientation)
    )
    stored = image.as_reoriented(turn)
    stored.set_sform(stored.affine, code=1)
    stored.set_qform(stored.affine, code=1)
    stored.header.set_xyzt_units("mm")
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(stored, path)


def write_series(patient: Patient, visit: Visit, seed: int, voxels: Voxels, folder: Path) -> None:
    """Write one DICOM series (voxels in HU [i, j, k] on the visit's RAS+ grid) with its scout and its defect."""
    folder.mkdir(parents=True, exist_ok=True)
    names = _file_names(patient, visit, seed)
    middle = visit.shape[2] // 2
    for k, dataset in enumerate(slices(patient, visit, seed)):
        if patient.defect is Defect.MISSING_SLICE and visit.number == 0 and k == middle:
            continue
        _write(folder / names[k], dataset, stored(_as_displayed(voxels[:, :, k], visit), visit.coding), visit)
    if visit.localizer is not Localizer.NONE:
        _write_localizer(patient, visit, seed, voxels, folder)
    if patient.defect is Defect.TRUNCATED_FILE and visit.number == 0:
        file = folder / names[middle]
        file.write_bytes(file.read_bytes()[: file.stat().st_size * 6 // 10])


def stored(hu: Voxels, coding: Coding) -> Frame:
    """HU as the numbers that the file holds."""
    low, high = (-(1 << coding.bits - 1), (1 << coding.bits - 1) - 1) if coding.signed else (0, (1 << coding.bits) - 1)
    numbers = np.clip(np.rint((hu - coding.intercept) / coding.slope), low, high)
    return np.asarray(numbers, dtype="<i2" if coding.signed else "<u2")


def slices(patient: Patient, visit: Visit, seed: int) -> Iterator[Dataset]:
    """The headers of a series from feet to head, without pixels. One Dataset object, changed in place."""
    dataset = header(patient, visit, seed)
    row, column = POSITIONS[visit.position]
    dataset.ImageOrientationPatient = [row, 0, 0, 0, column, 0]
    first = np.array([visit.shape[0] - 1 if row > 0 else 0, visit.shape[1] - 1 if column > 0 else 0, 0, 1.0])
    for k, number in enumerate(visit.instance_numbers):
        x, y, z = (visit.affine @ (first + np.array([0, 0, k, 0])))[:3]
        _set_instance(dataset, number, uid(seed, patient.number, visit.number, "slice", k))
        dataset.ImagePositionPatient = _decimals(-x, -y, z)
        dataset.SliceLocation = _decimals(z)[0]
        yield dataset


def header(patient: Patient, visit: Visit, seed: int) -> Dataset:
    """What all instances of a CT series share (CT Image Storage, PS3.3 A.3.3)."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = uids.CTImageStorage
    dataset.file_meta.TransferSyntaxUID = visit.syntax
    dataset.file_meta.ImplementationClassUID = uids.UID(IMPLEMENTATION_UID)
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = uids.CTImageStorage
    _add_identity(dataset, patient, visit, seed)
    _add_equipment(dataset, patient, visit)
    dataset.Rows, dataset.Columns = visit.shape[1], visit.shape[0]
    dataset.PixelSpacing = _decimals(visit.spacing_mm[1], visit.spacing_mm[0])
    dataset.SliceThickness = _decimals(visit.thickness_mm)[0]
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, visit.coding.bits, visit.coding.bits - 1
    dataset.PixelRepresentation = int(visit.coding.signed)
    dataset.RescaleSlope, dataset.RescaleIntercept = _decimals(visit.coding.slope, visit.coding.intercept)
    dataset.RescaleType = "HU"
    dataset.WindowCenter, dataset.WindowWidth = visit.window
    dataset.BurnedInAnnotation = "NO"
    return dataset


def _add_identity(dataset: Dataset, patient: Patient, visit: Visit, seed: int) -> None:
    day = visit.study_date.strftime("%Y%m%d")
    dataset.PatientName, dataset.PatientID = f"Demo^{patient.name}", f"DEMO-{patient.name}"
    dataset.PatientBirthDate, dataset.PatientSex = patient.birth_date.strftime("%Y%m%d"), patient.sex
    dataset.PatientAge = f"{patient.age(visit):03d}Y"
    dataset.StudyInstanceUID = uid(seed, patient.number, visit.number, "study")
    dataset.SeriesInstanceUID = uid(seed, patient.number, visit.number, "series")
    dataset.FrameOfReferenceUID = uid(seed, patient.number, visit.number, "frame")
    dataset.PositionReferenceIndicator = ""
    dataset.AccessionNumber = f"A{digest(seed, patient.number, visit.number, 'accession') % 10**9:09d}"
    dataset.StudyID, dataset.SeriesNumber, dataset.AcquisitionNumber = str(visit.number + 1), 2, 1
    dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = dataset.ContentDate = day
    dataset.StudyTime = dataset.SeriesTime = dataset.AcquisitionTime = dataset.ContentTime = "101500"
    dataset.ReferringPhysicianName = ""
    dataset.StudyDescription, dataset.SeriesDescription = "CT chest (synthetic)", "Chest axial"


def _add_equipment(dataset: Dataset, patient: Patient, visit: Visit) -> None:
    dataset.Modality, dataset.BodyPartExamined, dataset.PatientPosition = "CT", "CHEST", visit.position
    dataset.Manufacturer, dataset.ManufacturerModelName = visit.manufacturer, visit.model_name
    dataset.InstitutionName = f"Site {patient.site}"
    dataset.KVP, dataset.Exposure = visit.kvp, visit.exposure_mas
    dataset.ConvolutionKernel = KERNELS[visit.manufacturer]


def _set_instance(dataset: Dataset, number: int, sop_uid: uids.UID) -> None:
    dataset.InstanceNumber = number
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = sop_uid


def _as_displayed(plane: Voxels, visit: Visit) -> Voxels:
    """A slice [i, j] (towards Right, Anterior) as the file's rows and columns."""
    row, column = POSITIONS[visit.position]
    return np.asarray(plane[:: -1 if row > 0 else 1, :: -1 if column > 0 else 1].T)


def _write_localizer(patient: Patient, visit: Visit, seed: int, voxels: Voxels, folder: Path) -> None:
    """Write a coronal scout: in a series and folder of its own, or among the slices."""
    dataset = header(patient, visit, seed)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    _set_instance(dataset, visit.shape[2] + 1, uid(seed, patient.number, visit.number, "localizer"))
    file = folder / "scout.dcm"
    if visit.localizer is Localizer.SERIES:
        dataset.SeriesInstanceUID = uid(seed, patient.number, visit.number, "localizer series")
        dataset.SeriesNumber, dataset.SeriesDescription = 1, "Scout"
        file = folder.with_name("scout") / "IM0001.dcm"
        file.parent.mkdir(exist_ok=True)
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    x, y, z = (visit.affine @ [visit.shape[0] - 1, visit.shape[1] / 2, visit.shape[2] - 1, 1])[:3]
    dataset.ImagePositionPatient = _decimals(-x, -y, z)
    dataset.Rows = visit.shape[2]
    dataset.PixelSpacing = _decimals(visit.spacing_mm[2], visit.spacing_mm[0])
    projection = voxels.mean(axis=1)[::-1, ::-1].T
    _write(file, dataset, stored(projection, visit.coding), visit)


def _write(file: Path, dataset: Dataset, frame: Frame, visit: Visit) -> None:
    match visit.syntax:
        case uids.RLELossless:
            dataset.PixelData = encapsulate([_rle(np.ascontiguousarray(frame))])
        case uids.JPEG2000Lossless:
            dataset.PixelData = encapsulate([_jpeg2000(np.ascontiguousarray(frame), visit.coding.bits)])
        case _:
            dataset.PixelData = frame.tobytes()
    dataset["PixelData"].VR = "OB" if visit.syntax.is_compressed else "OW"
    dcmwrite(file, dataset, enforce_file_format=True)


def _jpeg2000(frame: Frame, bits: int) -> bytes:
    return bytes(imagecodecs.jpeg2k_encode(frame, level=0, codecformat="j2k", reversible=True, bitspersample=bits))


def _rle(frame: Frame) -> bytes:
    """A 16-bit frame in DICOM's RLE: the high bytes, then the low bytes, in PackBits by row (PS3.5 annex G)."""
    planes = frame.view(np.uint8).reshape(*frame.shape, 2)
    segments = [imagecodecs.packbits_encode(np.ascontiguousarray(planes[..., byte])) for byte in (1, 0)]
    segments = [segment + b"\0" * (len(segment) % 2) for segment in segments]
    table = np.zeros(16, dtype="<u4")
    table[:3] = len(segments), 64, 64 + len(segments[0])
    return bytes(table.tobytes() + b"".join(segments))


def _file_names(patient: Patient, visit: Visit, seed: int) -> list[str]:
    """File name of each slice from feet to head, in one of four habits."""
    names = {
        "number": [f"IM{number:04d}.dcm" for number in visit.instance_numbers],
        "bare": [f"I{number}" for number in visit.instance_numbers],
        "uid": [f"{uid(seed, patient.number, visit.number, 'slice', k)}.dcm" for k in range(visit.shape[2])],
        "random": [f"{digest(seed, patient.number, visit.number, 'name', k):032x}.dcm" for k in range(visit.shape[2])],
    }
    return names[visit.naming]


def _decimals(*values: float) -> list[str]:
    """Numbers as DICOM decimal strings (at most 16 characters)."""
    return [f"{value:.4f}".rstrip("0").rstrip(".") for value in values]
