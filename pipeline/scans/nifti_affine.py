"""Where NIfTI voxels lie: sform, qform, or the reason why neither can be trusted."""

import numpy as np
from nibabel.nifti1 import Nifti1Header
from nibabel.spatialimages import HeaderDataError

from pipeline.domain import Affine, ReadRules, Reason, ScanError

MILLIMETRES = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}


def nifti_affine(header: Nifti1Header, sform_code: int, qform_code: int, rules: ReadRules) -> Affine:
    """Voxel index to RAS+ mm: the sform if it is set, else the qform, else (by the rules) spacing alone.

    Raises:
        ScanError: bad_header, bad_spacing, no_orientation, orientation_conflict, bad_geometry.
    """
    used = header["pixdim"][1 : 1 + max(int(header["dim"][0]), 1)][:3].astype(np.float64)
    if not np.isfinite(used).all() or (used <= 0).any():
        raise ScanError(Reason.BAD_SPACING, "pixdim needs positive numbers")
    scale = _millimetres(header)
    if sform_code > 0:
        affine = np.asarray(header.get_sform(), dtype=np.float64)
        _check_regular(affine)
        if qform_code > 0:
            _check_agree(affine, _qform(header))
    elif qform_code > 0:
        affine = _qform(header)
        _check_regular(affine)
    elif rules.assume_ras:
        affine = np.diag([*(*used, 1.0, 1.0)[:3], 1.0])
    else:
        raise ScanError(
            Reason.NO_ORIENTATION,
            "neither sform nor qform says how the voxels lie; set read.assume_ras if they are RAS+",
        )
    affine[:3] *= scale
    return affine


def _millimetres(header: Nifti1Header) -> float:
    """Millimetres in the header's unit of length."""
    try:
        return MILLIMETRES[header.get_xyzt_units()[0]]
    except KeyError:
        raise ScanError(
            Reason.BAD_HEADER, "xyzt_units names no unit of length; expected 0 (unknown), 1 (m), 2 (mm) or 3 (um)"
        ) from None


def _qform(header: Nifti1Header) -> Affine:
    """The qform; a pixdim[0] of 0 counts as 1 (NIfTI-1 standard, "method 2")."""
    if header["pixdim"][0] == 0:
        header = header.copy()
        header["pixdim"][0] = 1
    try:
        return np.asarray(header.get_qform(), dtype=np.float64)
    except (HeaderDataError, ValueError):
        raise ScanError(Reason.BAD_GEOMETRY, "the qform is no rotation: see pixdim[0] and the quaternion") from None


def _check_regular(affine: Affine) -> None:
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or lengths.min() <= 0 or abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-6:
        raise ScanError(Reason.BAD_GEOMETRY, "the affine is singular or not finite")


def _check_agree(sform: Affine, qform: Affine) -> None:
    """Refuse a sform and a qform that mirror each other or disagree about left and right."""
    if not np.isfinite(qform).all():
        raise ScanError(Reason.BAD_GEOMETRY, "the qform is not finite")
    cosines, others = (form[:3, :3] / np.linalg.norm(form[:3, :3], axis=0) for form in (sform, qform))
    if np.sign(np.linalg.det(cosines)) != np.sign(np.linalg.det(others)):
        raise ScanError(Reason.ORIENTATION_CONFLICT, "sform and qform mirror each other")
    across = int(np.abs(cosines[0]).argmax())  # the voxel axis from left to right
    if cosines[:, across] @ others[:, across] < np.sqrt(0.5):
        raise ScanError(Reason.ORIENTATION_CONFLICT, "sform and qform disagree about left and right")
