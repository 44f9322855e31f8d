"""The converter dcm2niix as an independent reader: its volumes of a folder, in canonical RAS."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from pipeline.domain import Affine, Volume


@dataclass(frozen=True)
class Reference:
    """A volume that dcm2niix made.

    Attributes:
        name: Of its file: series number and echo.
        time: Index in the file.
        voxels: [i, j, k], or [i, j, k, 3] in colour.
    """

    name: str
    time: int
    voxels: np.ndarray
    affine: Affine

    def agrees(self, volume: Volume, *, placed: bool = True) -> bool:
        """Whether voxels are equal (rescaled ones to the precision of a float32) and affines within 1e-3 mm.

        Of what has no place in the patient, only the spacing is compared.
        """
        if volume.voxels.shape != self.voxels.shape or not np.allclose(
            volume.voxels, self.voxels, rtol=1e-5, atol=1e-3
        ):
            return False
        if placed:
            return np.allclose(volume.affine, self.affine, atol=1e-3)
        return "no_spacing" in volume.warnings or np.allclose(
            volume.spacing_mm[:2], np.linalg.norm(self.affine[:3, :2], axis=0), atol=1e-3
        )


def references(folder: Path, out: Path) -> list[Reference]:
    """What dcm2niix makes of the DICOM files in a folder, rescaled as the standard says (-p n)."""
    dcm2niix = pytest.importorskip("dcm2niix")
    out.mkdir()
    command = [dcm2niix.bin, "-p", "n", "-z", "n", "-b", "n", "-f", "%s_%e", "-o", out, folder]
    subprocess.run(command, capture_output=True, check=False, timeout=60)
    return [reference for path in sorted(out.glob("*.nii")) for reference in _volumes(path)]


def _volumes(path: Path) -> list[Reference]:
    image = nib.as_closest_canonical(nib.load(path))
    stored = np.asarray(image.dataobj)
    if stored.dtype.names:  # colour
        stored = np.stack([stored[name] for name in stored.dtype.names], axis=-1)[:, :, :, None]
    else:
        stored = stored.reshape(*stored.shape[:3], *(1,) * (3 - stored.ndim), -1)
    volumes = stored.astype(np.float32)
    return [Reference(path.stem, time, volumes[:, :, :, time], image.affine) for time in range(volumes.shape[3])]
