"""One phantom in three forms: classic series, enhanced multi-frame file, NIfTI."""

from pathlib import Path

import highdicom
import nibabel as nib
import numpy as np
import pydicom
from pydicom.uid import generate_uid

from tests.scans.phantoms import series, write

OBLIQUE = (0.98, 0.19899749, 0.0, -0.17233689, 0.84869856, 0.5)
SLICES, ROWS, COLUMNS = 12, 32, 28
STEP_MM = 2.5
LEGACY = {
    "CT": highdicom.legacy.LegacyConvertedEnhancedCTImage,
    "MR": highdicom.legacy.LegacyConvertedEnhancedMRImage,
    "PT": highdicom.legacy.LegacyConvertedEnhancedPETImage,
}
STORAGE = {"CT": "1.2.840.10008.5.1.4.1.1.2", "MR": "1.2.840.10008.5.1.4.1.1.4", "PT": "1.2.840.10008.5.1.4.1.1.128"}


def stored() -> np.ndarray:
    """A ball of water with a denser corner in air: stored values [slice, row, column], HU + 1024."""
    k, row, column = np.indices((SLICES, ROWS, COLUMNS))
    ball = (row - 15) ** 2 + (column - 13) ** 2 + ((k - 5) * 3) ** 2 < 120
    return np.where(ball, 1024 + 4 * row + 2 * column + k, 24).astype(np.uint16)


def classic(folder: Path, modality: str = "CT") -> Path:
    """The phantom as a series; every other slice has a rescale of its own that gives the same values."""

    def change(ds, k):
        ds.Modality = modality
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = STORAGE[modality]
        ds.SeriesNumber, ds.StudyID, ds.AccessionNumber, ds.ReferringPhysicianName = 1, "1", "", ""
        ds.StudyDate, ds.StudyTime, ds.PatientBirthDate, ds.PatientSex = "20200102", "100000", "", ""
        ds.AcquisitionNumber, ds.PositionReferenceIndicator, ds.Manufacturer = 1, "", "none"
        if k % 2:
            ds.PixelData = (stored()[k] * 2).tobytes()
            ds.RescaleSlope, ds.RescaleIntercept = "0.5", "-1024"

    normal = np.cross(OBLIQUE[:3], OBLIQUE[3:])
    return series(folder, change, orientation=OBLIQUE, stored=stored(), slices=SLICES, step=normal * STEP_MM)


def enhanced(path: Path, folder: Path) -> Path:
    """A classic series as a legacy converted enhanced file."""
    slices = [pydicom.dcmread(one) for one in sorted(folder.iterdir())]
    convert = LEGACY[slices[0].Modality]
    return write(convert(slices, generate_uid(), 2, generate_uid(), 1), path)


def nifti(path: Path) -> Path:
    """The phantom as NIfTI: HU in (column, row, slice), the affine straight from equation C.7.6.2.1-1."""
    first = pydicom.dcmread(next(one for one in (path.parent / "classic").iterdir()))
    cosines, spacing = np.array(OBLIQUE), [float(value) for value in first.PixelSpacing]
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = cosines[:3] * spacing[1], cosines[3:] * spacing[0]
    affine[:3, 2] = np.cross(cosines[:3], cosines[3:]) * STEP_MM
    affine[:3, 3] = -20, -30, 10
    image = nib.Nifti1Image((stored().transpose(2, 1, 0).astype(np.int16) - 1024), np.diag([-1, -1, 1, 1]) @ affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    return path
