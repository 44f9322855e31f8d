"""Class G, second part: what NIfTI headers say of size, place, unit and type."""

import struct
from itertools import permutations, product
from pathlib import Path

import nibabel as nib
import numpy as np

from pipeline.domain import ReadRules
from tests.bad_input.case import OK, SPLIT, Truth, case, reject, warn
from tests.bad_input.phantoms import CANARY, NIFTI_AFFINE, nii, written

VOXELS = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
ASSUMED = Truth(VOXELS, np.diag([2.0, 3, 4, 1]))
NAN, INF = np.nan, np.inf


def patched(*fields: tuple[int, str, float]):
    """A NIfTI file with other values at these bytes of its header."""

    def edit(raw: bytes) -> bytes:
        header = bytearray(raw)
        for at, form, value in fields:
            struct.pack_into(form, header, at, value)
        return bytes(header)

    return written(nii, "a.nii", edit)


def dim(axis: int, size: int):
    return patched((40 + 2 * axis, "<h", size))


def pixdim(value: float):
    return patched((80, "<f", value))


def slope(value: float):
    return patched((112, "<f", value))


def lying_extension(size: int):
    """An extension that claims so many bytes, in the 64 before the voxels."""

    def edit(raw: bytes) -> bytes:
        header = raw[:108] + struct.pack("<f", 416) + raw[112:348] + b"\1\0\0\0"
        return header + struct.pack("<ii", size, 4) + b"x" * 56 + raw[352:]

    return written(nii, "a.nii", edit)


def forms(sform: int, qform: int, truth: Truth | None = None, mirrored: bool = False):
    """A file with these codes; `mirrored` turns the qform's left and right around."""

    def build(folder: Path) -> Truth | None:
        image = nib.Nifti1Image(VOXELS, NIFTI_AFFINE)
        image.set_sform(NIFTI_AFFINE, sform)
        image.set_qform(NIFTI_AFFINE @ np.diag([-1.0 if mirrored else 1.0, 1, 1, 1]), qform)
        nib.save(image, folder / "a.nii")
        return truth

    return build


def of_type(voxels: np.ndarray, truth: np.ndarray | None = None):
    def build(folder: Path) -> Truth:
        nii(folder, voxels=voxels)
        return Truth(voxels if truth is None else truth, NIFTI_AFFINE)

    return build


def odd(value: float):
    """Ones, and a few odd numbers; the reader gives a NaN the smallest of the others."""
    voxels = np.ones((4, 5, 6), np.float32)
    voxels[0, 0, 0], voxels[1] = 5, value
    return of_type(voxels, np.nan_to_num(voxels, nan=1.0))


def time_series(folder: Path) -> list[Truth]:
    voxels = np.stack([VOXELS, VOXELS + 1, VOXELS[::-1]], axis=-1)
    nii(folder, voxels=voxels)
    return [Truth(voxels[..., t], NIFTI_AFFINE) for t in range(3)]


def stored_as(axes: tuple[int, ...], signs: tuple[int, ...]):
    """One phantom, stored along other axes: the same place for every voxel."""

    def build(folder: Path) -> Truth:
        turned = np.stack([[axis, sign] for axis, sign in zip(axes, signs, strict=True)])
        image = nib.Nifti1Image(VOXELS, NIFTI_AFFINE).as_reoriented(turned)
        image.set_sform(image.affine, 1)
        nib.save(image, folder / "a.nii")
        return Truth(VOXELS, NIFTI_AFFINE)

    return build


def another_format(kind: type, name: str, voxels: np.ndarray = VOXELS):
    def build(folder: Path) -> Truth:
        image = kind(voxels, NIFTI_AFFINE, dtype=voxels.dtype)
        image.set_sform(NIFTI_AFFINE, 1)
        image.header["descrip"] = CANARY.encode()
        nib.save(image, folder / name)
        return Truth(voxels, NIFTI_AFFINE)

    return build


def big_endian(folder: Path) -> Truth:
    image = nib.Nifti1Image(VOXELS, NIFTI_AFFINE, nib.Nifti1Header(endianness=">"))
    image.set_data_dtype(np.int16)
    image.set_sform(NIFTI_AFFINE, 1)
    nib.save(image, folder / "a.nii")
    return Truth(VOXELS, NIFTI_AFFINE)


def analyze(folder: Path) -> Truth:
    nib.save(nib.AnalyzeImage(VOXELS, np.diag([2.0, 3, 4, 1])), folder / "a.hdr")
    return ASSUMED


RGB24 = np.zeros((4, 5, 6), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
ASSUME = ReadRules(assume_ras=True)
SROW_X = [(280 + 4 * n, "<f", 0.0) for n in range(4)]

CASES = (
    case("G11", "a negative dimension", reject("bad_header"), dim(1, -4)),
    case("G12", "a dimension of zero", reject("bad_header"), dim(3, 0)),
    case("G13", "9 dimensions, none", reject("bad_header"), dim(0, 9), dim(0, 0)),
    case("G14", "a data type that is none", reject("bad_header"), patched((70, "<h", 9999))),
    case("G15", "voxels that begin 1 GB on, before the file, at no number", reject("bad_header"),
         patched((108, "<f", 1e9)), patched((108, "<f", -500)), patched((108, "<f", NAN))),
    case("G15", "voxels that begin just beyond the end of the file, in the header", reject("bad_header"),
         patched((108, "<f", 10_000)), patched((108, "<f", 0)), patched((108, "<f", 348))),
    case("G16", "an extension that claims 2 GB, a negative size, none", reject("bad_header"),
         lying_extension(0x7FFFFFF0), lying_extension(-16), lying_extension(0)),
    case("G16", "an extension that fits", OK, lying_extension(64)),
    case("G17", "pixdim 0", reject("bad_spacing"), pixdim(0)),
    case("G18", "pixdim -1", reject("bad_spacing"), pixdim(-1)),
    case("G19", "pixdim NaN", reject("bad_spacing"), pixdim(NAN)),
    case("G20", "neither sform nor qform", reject("no_orientation"), forms(0, 0)),
    case("G20", "neither, and read.assume_ras is set", warn("assumed_ras"), forms(0, 0, ASSUMED), rules=ASSUME),
    case("G21", "sform and qform differ in left and right", reject("orientation_conflict"), forms(1, 1, mirrored=True)),
    case("G22", "a sform that is singular, that is no number", reject("bad_geometry"),
         patched(*SROW_X), patched((280, "<f", NAN))),
    case("G22", "a qform that is no rotation: its handedness is 9, its quaternion too long", reject("bad_geometry"),
         patched((76, "<f", 9.0)), patched((256, "<f", 5.0))),
    case("G22", "a qform whose handedness is 0: it counts as 1", OK, patched((76, "<f", 0.0))),
    case("G23", "scl_slope inf, NaN, 1e38", reject("bad_rescale"), slope(INF), slope(NAN), slope(1e38)),
    case("G24", "nothing but NaN", reject("non_finite"), of_type(np.full((4, 5, 6), NAN, np.float32))),
    case("G25", "some voxels infinite", reject("non_finite"), odd(INF), odd(-INF)),
    case("G25", "some voxels NaN: filled with the smallest value", warn("non_finite_filled"), odd(NAN)),
    case("G26", "complex voxels", reject("unsupported_pixels"), of_type(VOXELS.astype(np.complex64), VOXELS)),
    case("G27", "RGB24 voxels", reject("unsupported_pixels"), of_type(RGB24, VOXELS)),
    case("G28", "three time points: three volumes", SPLIT, time_series),
    case("G28", "five dimensions", reject("4d"), of_type(np.zeros((2, 2, 2, 2, 3), np.int16))),
    case("G29", "one phantom stored in all 48 axis codes", OK,
         *(stored_as(axes, signs) for axes in permutations(range(3)) for signs in product((1, -1), repeat=3))),
    case("G30", "a big-endian header, NIfTI-2, a .hdr with its .img, unsigned 64-bit voxels", OK,
         big_endian, another_format(nib.Nifti2Image, "a.nii"), another_format(nib.Nifti1Pair, "a.hdr"),
         another_format(nib.Nifti1Image, "a.nii", VOXELS.astype(np.uint64))),
    case("G30", "Analyze 7.5, which has no orientation", reject("no_orientation"), analyze),
    case("G30", "Analyze 7.5, and read.assume_ras is set", warn("assumed_ras"), analyze, rules=ASSUME),
)  # fmt: skip
