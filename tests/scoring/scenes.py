"""Small models and folders of scans for the tests of scoring."""

from collections.abc import Callable, Generator, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import torch
from pydicom.data import get_testdata_file

from pipeline.domain import OperatingPoint, ReadRules, ScanError
from pipeline.evaluation.calibration import uncalibrated
from pipeline.model.backbone import build_network
from pipeline.model.package import Settings, save_model
from pipeline.scans.isolated import Finished, Item, Result
from pipeline.sections import ModelSection, PreprocessSection

CANARY = "Zzyzx"
"""Stands in for a patient's name, id and numbers."""


def save_tiny_model(
    folder: Path,
    seed: int = 0,
    findings: tuple[str, ...] = ("nodule",),
    read: ReadRules = ReadRules(modalities=("CT",)),  # noqa: B008 - frozen
    **changes: object,
) -> Path:
    """An untrained 3D network in a model folder."""
    network = ModelSection(dimensions=3, backbone="resnet10", width=0.125)
    torch.manual_seed(seed)
    settings = Settings(
        name="tiny",
        task="binary" if len(findings) == 1 else "multilabel",
        findings=findings,
        read=read,
        preprocess=PreprocessSection(size=(32, 32, 32), intensity="minmax"),
        model=network,
        calibration=uncalibrated("binary" if len(findings) == 1 else "multilabel", len(findings)),
        operating_points={findings[0]: OperatingPoint(findings[0], 0.5, "youden")},
        **changes,
    )
    save_model(folder, settings, [build_network(network, len(findings))])
    return folder


def save_nifti(path: Path, seed: int, shape: tuple[int, int, int] = (20, 18, 12)) -> Path:
    """Noise with a bright ball, as a NIfTI file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    voxels = rng.normal(0, 100, shape).astype(np.float32)
    voxels[4 : 6 + seed % 9, 5:9, 3:8] += 900
    nib.save(nib.Nifti1Image(voxels, np.diag([2.0, 2.0, 3.0, 1.0])), path)
    return path


def save_series(folder: Path, slices: int = 4) -> Path:
    """A CT series of a patient called CANARY in every field that may tell."""
    folder.mkdir(parents=True, exist_ok=True)
    one = pydicom.dcmread(str(get_testdata_file("CT_small.dcm")))
    one.PatientName = one.PatientID = one.AccessionNumber = one.InstitutionName = CANARY
    one.ReferringPhysicianName = one.SeriesDescription = one.StudyDescription = one.PatientComments = CANARY
    x, y, z = one.ImagePositionPatient
    uid = one.SOPInstanceUID
    for n in range(slices):
        one.ImagePositionPatient = [x, y, z + 5.0 * n]
        one.InstanceNumber = n + 1
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = f"{uid}.{n}"
        one.save_as(folder / f"{n}.dcm")
    return folder


def save_folder(folder: Path, good: int = 10) -> Path:
    """`good` NIfTI files, a CT series, and four that are refused: two by the survey, two by the reader."""
    for n in range(good):
        save_nifti(folder / f"v{n:02d}.nii.gz", n)
    save_series(folder / "series")
    (folder / "letter.dcm").write_text("Dear colleague")
    whole = (folder / "v00.nii.gz").read_bytes()
    (folder / "torn.nii.gz").write_bytes(whole[: len(whole) // 2])
    mr = pydicom.dcmread(str(get_testdata_file("MR_small.dcm")))
    mr.save_as(folder / "mr.dcm")
    save_nifti(folder / "flat.nii", 3, (16, 16, 1))
    (folder / "notes.txt").write_text("not a scan")
    return folder


def run_here(
    items: Sequence[Item], work: Callable[[Item], Result], workers: int, time_limit_s: float
) -> Generator[Finished[Item, Result], None, None]:
    """As `run_isolated`, without the processes: for tests of something else."""
    for item in items:
        try:
            yield Finished(item, work(item), 0.25)
        except ScanError as error:
            yield Finished(item, error, 0.25)
