"""A synthetic CT series with a header as long as those of real scanners; the same bytes every time."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

SLICES, SIDE = 100, 512
INTERCEPT = -1024
NOISE = 22
"""With so much, JPEG-LS and JPEG 2000 take as long as on real chest CT (siim_ct_contrast)."""
UID_ROOT = "1.2.826.0.1.3680043.8.498."

Stored = NDArray[np.uint16]
Encoder = Callable[[Stored], bytes]


def stored_slice(k: int) -> Stored:
    """Stored values of one slice, [row, column]: smooth shapes and a scanner's noise, 12 bits."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    shapes = 1024 + 600 * np.sin(columns / 40 + k / 9) * np.cos(rows / 50)
    stored: Stored = (shapes + np.random.default_rng(k).normal(0, NOISE, shapes.shape)).astype(np.uint16)
    return stored


def write_series(
    folder: Path, syntax: UID = ExplicitVRLittleEndian, encode: Encoder | None = None, slices: int = SLICES
) -> list[Path]:
    """Write a series, compressed by `encode` if given; its files in the order of their slices."""
    folder.mkdir(parents=True)
    paths = []
    for k in range(slices):
        stored, ds = stored_slice(k), _header(k, syntax)
        if encode:
            ds.PixelData = encapsulate([encode(stored)])
            ds["PixelData"].is_undefined_length = True
        else:
            ds.PixelData = stored.astype(np.int16).tobytes()
            ds.PixelRepresentation, ds.BitsStored, ds.HighBit = 1, 16, 15
        ds["PixelData"].VR = "OB" if encode else "OW"
        paths.append(folder / f"{k:04d}.dcm")
        ds.save_as(paths[-1], enforce_file_format=True)
    return paths


def expected_voxels(slices: int = SLICES) -> NDArray[np.float32]:
    """What a series must be read as: HU [slice, row, column]."""
    return np.stack([stored_slice(k) for k in range(slices)]).astype(np.float32) + INTERCEPT


def _header(k: int, syntax: UID) -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = CTImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = f"{UID_ROOT}3.{k}"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = (f"{UID_ROOT}{i}" for i in (1, 2, 4))
    ds.PatientID, ds.PatientName, ds.PatientAge, ds.PatientSex = "BENCH", "Bench^Mark", "061Y", "F"
    ds.ImageType, ds.Modality, ds.Manufacturer = ["ORIGINAL", "PRIMARY", "AXIAL"], "CT", "Benchmark"
    ds.StudyDate, ds.AcquisitionTime, ds.StudyDescription = "20260101", "101010.123", "Chest"
    ds.SliceThickness, ds.KVP, ds.InstanceNumber = "1.0", "120", k + 1
    ds.ImagePositionPatient, ds.ImageOrientationPatient = [-180, -180, k], [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing, ds.RescaleSlope, ds.RescaleIntercept = [0.7, 0.7], "1", str(INTERCEPT)
    ds.Rows = ds.Columns = SIDE
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CTImageStorage, f"{UID_ROOT}5"
    for keyword in ("ReferencedStudySequence", "ReferencedImageSequence"):
        setattr(ds, keyword, Sequence([item, item]))
        ds[keyword].is_undefined_length = True
    for group in (0x0009, 0x0019, 0x0043):
        block = ds.private_block(group, "BENCHMARK", create=True)
        for element in range(25):
            block.add_new(element, "LO", f"value {element}")
    return ds
