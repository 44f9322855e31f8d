"""Scans of a chosen size for the viewer, and what a process holds of them."""

import os
from pathlib import Path

import nibabel as nib
import numpy as np


def volumes(folder: Path, count: int, size: int) -> Path:
    """NIfTI scans; each file's name is the canary that only its own reader may see."""
    folder.mkdir()
    for number in range(count):
        voxels = np.random.default_rng(number).normal(-500, 300, (size, size, size // 2)).astype(np.int16)
        nib.save(nib.Nifti1Image(voxels, np.diag([2.0, 2.0, 3.0, 1.0])), folder / f"canary{number:02d}.nii")
    return folder


def resident_bytes(process: int) -> int:
    """Memory that a process holds, as Linux counts it."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
