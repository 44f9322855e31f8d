"""Small scans with one chosen defect each, written by the tests themselves."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

ROWS, COLUMNS, SLICES = 8, 10, 6
SPACING = (0.5, 0.7)  # between rows, between columns
STEP = 2.5
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
ORIGIN = np.array([-20.0, -30.0, 10.0])

Change = Callable[[Dataset, int], None]


def pixels(slices: int = SLICES) -> np.ndarray:
    """Stored values [slice, row, column] that differ in every voxel, so that no flip goes unnoticed."""
    return np.arange(slices * ROWS * COLUMNS, dtype=np.uint16).reshape(slices, ROWS, COLUMNS) + 100


def dicom(
    stored: np.ndarray, position: Sequence[float], orientation: Sequence[float] = AXIAL, syntax=ExplicitVRLittleEndian
) -> Dataset:
    """One CT slice."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = CTImageStorage
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    ds.PatientID, ds.PatientName, ds.Modality = "CANARY-ID", "CANARY^NAME", "CT"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.ImageOrientationPatient = [f"{value:.9f}"[:16] for value in orientation]
    ds.ImagePositionPatient = [f"{value:.9f}"[:16] for value in position]
    ds.PixelSpacing, ds.SliceThickness = list(SPACING), "9.0"
    ds.RescaleSlope, ds.RescaleIntercept = "1", "-1024"
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    put_pixels(ds, stored)
    return ds


def put_pixels(ds: Dataset, stored: np.ndarray, bits: int | None = None) -> None:
    """Set the pixels, their size, bits and sign."""
    ds.Rows, ds.Columns = stored.shape[:2]
    ds.BitsAllocated = stored.dtype.itemsize * 8
    ds.BitsStored = bits or ds.BitsAllocated
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = int(stored.dtype.kind == "i")
    ds.PixelData = stored.tobytes() + b"\0" * (stored.nbytes % 2)
    ds["PixelData"].VR = "OW" if ds.BitsAllocated > 8 else "OB"


def write(ds: Dataset, path: Path) -> Path:
    """Write one file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return path


def series(
    folder: Path,
    change: Change = lambda ds, k: None,
    *,
    orientation: Sequence[float] = AXIAL,
    step: Sequence[float] | None = None,
    slices: int = SLICES,
    stored: np.ndarray | None = None,
    series_uid: str | None = None,
    seed: int = 7,
) -> Path:
    """A CT series with shuffled file names; `change(dataset, slice)` puts the defect in."""
    cosines = np.asarray(orientation, dtype=float)
    step = np.cross(cosines[:3], cosines[3:]) * STEP if step is None else np.asarray(step, dtype=float)
    stored = pixels(slices) if stored is None else stored
    study, number = generate_uid(), series_uid or generate_uid()
    frame = generate_uid()
    names = list(range(slices))
    random.Random(seed).shuffle(names)
    for k in range(slices):
        ds = dicom(stored[k], ORIGIN + k * step, orientation)
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = study, number, frame
        ds.InstanceNumber = k + 1
        change(ds, k)
        write(ds, folder / f"IM{names[k]:03d}.dcm")
    return folder


def expected_world(
    k: int, row: int, column: int, step: Sequence[float] = (0, 0, STEP), orientation: Sequence[float] = AXIAL
) -> np.ndarray:
    """RAS+ mm of a stored pixel, straight from equation C.7.6.2.1-1."""
    cosines = np.asarray(orientation, dtype=float)
    lps = ORIGIN + k * np.asarray(step) + cosines[:3] * SPACING[1] * column + cosines[3:] * SPACING[0] * row
    return lps * [-1, -1, 1]


def nifti(
    path: Path,
    voxels: np.ndarray | None = None,
    affine: np.ndarray | None = None,
    change: Callable[[nib.Nifti1Header], None] = lambda header: None,
) -> Path:
    """A NIfTI file; `change(header)` puts the defect in."""
    voxels = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6) if voxels is None else voxels
    affine = np.array([[2.0, 0, 0, -10], [0, 3, 0, -20], [0, 0, 4, 5], [0, 0, 0, 1]]) if affine is None else affine
    image = nib.Nifti1Image(voxels, affine)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    image.header.set_xyzt_units("mm")
    path.parent.mkdir(parents=True, exist_ok=True)
    change(image.header)
    nib.save(image, path)
    return path
