"""The phantoms of tests/scans, each with its Truth, and a canary in every text that may name a patient."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from tests.bad_input.case import Build, Truth
from tests.scans.phantoms import AXIAL, ORIGIN, SLICES, SPACING, STEP, Change, dicom, nifti, pixels, series

CANARY = "CANARY"
"""No detail, warning, log line or repr may hold it."""

PATIENT_TEXTS = (
    *("AccessionNumber", "InstitutionName", "ReferringPhysicianName", "StudyDescription", "SeriesDescription"),
    *("OperatorsName", "StudyID", "OtherPatientNames", "PatientAddress", "PatientComments", "ImageComments"),
)
NIFTI_AFFINE = np.array([[2.0, 0, 0, -10], [0, 3, 0, -20], [0, 0, 4, 5], [0, 0, 0, 1]])


def nothing(ds: Dataset, k: int = 0) -> None:
    """No defect."""


def setting(**values: object) -> Change:
    """Give elements these values; None removes one."""

    def change(ds: Dataset, k: int = 0) -> None:
        for keyword, value in values.items():
            if value is None:
                delattr(ds, keyword)
            else:
                setattr(ds, keyword, value)

    return change


def at(k: int, change: Change) -> Change:
    """The change at slice `k` alone."""
    return lambda ds, slice_: change(ds, slice_) if slice_ == k else None


def both(*changes: Change) -> Change:
    """One change after the other."""

    def change(ds: Dataset, k: int = 0) -> None:
        for one in changes:
            one(ds, k)

    return change


def plant(ds: Dataset) -> None:
    """The canary in every text of the header that may name a patient."""
    for keyword in PATIENT_TEXTS:
        setattr(ds, keyword, CANARY)


def dicom_affine(
    orientation: Sequence[float] = AXIAL,
    step: Sequence[float] = (0, 0, STEP),
    origin: Sequence[float] = tuple(ORIGIN),
    spacing: Sequence[float] = SPACING,
) -> np.ndarray:
    """(slice, row, column) to RAS+ mm: equation C.7.6.2.1-1, x and y turned around."""
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 3] = step, origin
    affine[:3, 1] = np.asarray(orientation[3:], dtype=float) * spacing[0]
    affine[:3, 2] = np.asarray(orientation[:3], dtype=float) * spacing[1]
    return np.diag([-1, -1, 1, 1]) @ affine


PICTURE_AFFINE = dicom_affine(step=(0, 0, 1), origin=(0, 0, 0))
"""Of a radiograph with the phantom's pixel spacing: it has no place in the patient."""


def ct(folder: Path, change: Change = nothing, values: np.ndarray | None = None, **more) -> Truth:
    """A CT series; `values` in HU where the change alters them."""

    def planted(ds: Dataset, k: int) -> None:
        plant(ds)
        change(ds, k)

    series(folder, planted, **more)
    orientation = more.get("orientation", AXIAL)
    step = more.get("step")
    step = np.cross(orientation[:3], orientation[3:]) * STEP if step is None else step
    stored = more.get("stored", pixels(more.get("slices", SLICES)))
    return Truth(stored - 1024.0 if values is None else values, dicom_affine(orientation, step))


def lone(
    folder: Path,
    change: Change = nothing,
    values: np.ndarray | None = None,
    stored: np.ndarray | None = None,
    name: str = "a.dcm",
    syntax: UID = ExplicitVRLittleEndian,
) -> Truth:
    """One CT slice."""
    stored = pixels(1)[0] if stored is None else stored
    ds = dicom(stored, ORIGIN, syntax=syntax)
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2", "1.2.3"
    plant(ds)
    change(ds, 0)
    syntax = ds.file_meta.TransferSyntaxUID
    native = syntax.is_transfer_syntax and not syntax.is_encapsulated
    ds.save_as(
        folder / name,
        enforce_file_format=True,
        implicit_vr=native and syntax.is_implicit_VR,
        little_endian=not native or syntax.is_little_endian,
    )
    return Truth((stored - 1024.0 if values is None else values)[None], dicom_affine(step=(0, 0, 9)))


def as_radiograph(ds: Dataset, k: int = 0) -> None:
    """A DX picture: no place in the patient, no unit."""
    ds.Modality, ds.SOPClassUID = "DX", UID("1.2.840.10008.5.1.4.1.1.1.1")
    del ds.RescaleSlope, ds.RescaleIntercept, ds.ImagePositionPatient, ds.ImageOrientationPatient


def radiograph(folder: Path, change: Change = nothing, values: np.ndarray | None = None, **more) -> Truth:
    """One DX picture; `values` as they must be read."""
    stored = more.get("stored", pixels(1)[0])
    lone(folder, both(as_radiograph, change), **more)
    return Truth(np.asarray(stored if values is None else values, dtype=float)[None], PICTURE_AFFINE)


def nii(
    folder: Path,
    name: str = "a.nii",
    change: Callable[[nib.Nifti1Header], None] = lambda header: None,
    voxels: np.ndarray | None = None,
    affine: np.ndarray = NIFTI_AFFINE,
) -> Truth:
    """A NIfTI file."""

    def planted(header: nib.Nifti1Header) -> None:
        header["descrip"], header["aux_file"], header["intent_name"] = (CANARY.encode(),) * 3
        change(header)

    voxels = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6) if voxels is None else voxels
    nifti(folder / name, voxels, affine, planted)
    return Truth(voxels, affine)


def written(build: Build, name: str = "a.dcm", edit: Callable[[bytes], bytes] = bytes) -> Build:
    """What `build` writes, the bytes of file `name` edited."""

    def edited(folder: Path) -> Truth | Sequence[Truth] | None:
        truth = build(folder)
        (folder / name).write_bytes(edit((folder / name).read_bytes()))
        return truth

    return edited


def content(name: str, raw: bytes) -> Build:
    """A file of these bytes."""
    return lambda folder: (folder / name).write_bytes(raw) and None


def mutants(build: Build, count: int, first: Callable[[bytes], int], name: str = "a.dcm") -> Build:
    """`count` copies of a file with one flipped bit each, at or after byte `first(file)`."""

    def build_all(folder: Path) -> None:
        build(folder)
        raw = (folder / name).read_bytes()
        (folder / name).unlink()
        rng = random.Random(0)
        for n in range(count):
            mutant = bytearray(raw)
            mutant[rng.randrange(first(raw), len(raw) - 8)] ^= 1 << rng.randrange(8)
            (folder / f"{n:03d}{Path(name).suffix}").write_bytes(bytes(mutant))

    return build_all
