"""NIfTI-1 and NIfTI-2 (`.nii`, `.nii.gz`, `.hdr` + `.img`) -> Volumes, one for each time point."""

from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from nibabel.nifti1 import Nifti1Header, Nifti1PairHeader
from nibabel.nifti2 import Nifti2Header, Nifti2PairHeader
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from pipeline.domain import ReadRules, Reason, Scan, ScanError, Volume, Voxels
from pipeline.scans.boundary import check_inflation, check_voxels
from pipeline.scans.extensions import check_extensions
from pipeline.scans.geometry import is_tilted, to_closest_ras
from pipeline.scans.gzipped import check_gzip, inflated, is_gzip
from pipeline.scans.nifti_affine import nifti_affine
from pipeline.scans.select import check_slices
from pipeline.scans.sniff import first_bytes
from pipeline.scans.straighten import straighten

HEADER_BYTES = 540
MAX_OFFSET = 64 * 2**20
"""Bytes between header and voxels (extensions) that are accepted."""

MAX_DEFLATE_RATIO = 1032
"""No gzip stream grows by more (zlib's own limit)."""

MAX_TRAILING = 2**20
"""Bytes behind the voxels that are passed over, unless a whole volume has room in them."""

MOST_VOXELS = 10**12
"""Voxels that no scanner's volume has, nor any file."""


@dataclass(frozen=True)
class NiftiHeader:
    """A NIfTI file's header, checked against the file's size.

    Attributes:
        voxels_in: The file that holds the voxels: the same one, or the .img beside the .hdr.
        shape: i, j, k of one volume.
        times: Number of volumes.
        offset: Byte at which the voxels begin.
        analyze: A header of NIfTI's forerunner, which has no orientation.
    """

    header: Nifti1Header
    voxels_in: Path
    shape: tuple[int, int, int]
    times: int
    offset: int
    analyze: bool = False

    @property
    def sform_code(self) -> int:
        """What the sform refers to, 0 for none."""
        return 0 if self.analyze else int(self.header["sform_code"])

    @property
    def qform_code(self) -> int:
        """What the qform refers to, 0 for none."""
        return 0 if self.analyze else int(self.header["qform_code"])

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Type of one stored voxel, with the file's byte order."""
        dtype: np.dtype[np.generic] = self.header.get_data_dtype()
        return dtype

    @property
    def n_bytes(self) -> int:
        """Bytes of one volume."""
        return prod(self.shape) * self.dtype.itemsize


def read_nifti_header(path: Path) -> NiftiHeader:
    """The header of a NIfTI file, checked before any voxel is touched.

    Raises:
        ScanError: not_an_image, truncated, bad_header, unsupported_pixels, size_mismatch, too_large, 4d; checksum for a
            damaged gzip stream, whatever its header says.
    """
    try:
        return _read_header(path)
    except ScanError:
        check_gzip(path)
        raise


def _read_header(path: Path) -> NiftiHeader:
    start = first_bytes(path, HEADER_BYTES)
    try:
        header, analyze = _parse(start)
        shape, times = _dimensions(header)
        dtype = header.get_data_dtype()
    except (HeaderDataError, WrapStructError, KeyError):
        raise ScanError(Reason.BAD_HEADER, "the NIfTI header is inconsistent") from None
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise ScanError(Reason.UNSUPPORTED_PIXELS, f"voxels of type {dtype.name} aren't supported; expected numbers")
    single = start[344:347] == b"n+1" or start[4:7] == b"n+2"
    header_bytes = len(header.structarr.tobytes())
    offset = _offset(header, header_bytes + 4 if single else 0)
    if single:
        check_extensions(start, header_bytes, offset, "big" if header.endianness == ">" else "little")
    opened = NiftiHeader(header, path if single else _pair(path), shape, times, offset, analyze)
    _check_size(opened)
    return opened


def volume_names(opened: NiftiHeader) -> list[str]:
    """Groups of a file's volumes: "" for one, else "t0", "t1", ..."""
    return [""] if opened.times == 1 else [f"t{i}" for i in range(opened.times)]


def read_nifti(scan: Scan, rules: ReadRules) -> Volume:
    """One volume of a NIfTI file.

    Raises:
        ScanError: With the reason, wherever geometry, voxels or the file's checksum can't be trusted.
    """
    opened = read_nifti_header(scan.paths[0])
    try:
        return _read(opened, scan, rules)
    except ScanError:
        check_gzip(opened.voxels_in)
        raise


def _read(opened: NiftiHeader, scan: Scan, rules: ReadRules) -> Volume:
    check_slices(opened.shape[2], rules)
    check_voxels(prod(opened.shape), rules.max_voxels)
    affine = nifti_affine(opened.header, opened.sform_code, opened.qform_code, rules)
    slope, intercept = _scaling(opened.header)
    time = int(scan.group.removeprefix("t") or 0)
    raw = _stored_bytes(opened, time)
    stored = np.frombuffer(raw, opened.dtype).reshape(opened.shape, order="F")
    voxels = np.empty(opened.shape, dtype=np.float32, order="F")
    if (slope, intercept) == (1.0, 0.0):
        voxels[...] = stored
    else:
        voxels[...] = stored.astype(np.float64) * slope + intercept
    warnings = _check_finite(voxels)
    if not (opened.sform_code or opened.qform_code):
        warnings += ("assumed_ras",)
    if voxels.min() == voxels.max():
        warnings += ("blank",)
    if is_tilted(affine):
        warnings += ("gantry_tilt",)
        if rules.straighten_tilt:
            slices, affine = straighten(voxels.transpose(2, 1, 0), affine, rules.max_voxels)
            voxels, warnings = slices.transpose(2, 1, 0), (*warnings, "tilt_straightened")
    turned, affine, code = to_closest_ras(voxels, affine)
    return Volume(turned, affine, "a.u.", code, (*scan.warnings, *warnings))


def _parse(start: bytes) -> tuple[Nifti1Header, bool]:
    """The header in a file's first bytes, and whether it is plain Analyze (which has no orientation)."""
    if len(start) < 348:
        raise ScanError(Reason.NOT_AN_IMAGE, "the file ends in its header")
    if start[4:8] in (b"n+2\0", b"ni2\0"):
        kind = Nifti2Header if start[4:6] == b"n+" else Nifti2PairHeader
        return kind(start[:540], check=False), False
    if start[344:348] in (b"n+1\0", b"ni1\0"):
        kind = Nifti1Header if start[344:346] == b"n+" else Nifti1PairHeader
        return kind(start[:348], check=False), False
    if int.from_bytes(start[:4], "little") == 348 or int.from_bytes(start[:4], "big") == 348:
        return Nifti1PairHeader(start[:348], check=False), True
    raise ScanError(Reason.NOT_AN_IMAGE, "the file has no NIfTI header")


def _dimensions(header: Nifti1Header) -> tuple[tuple[int, int, int], int]:
    sizes = [int(size) for size in header["dim"]]
    if not 1 <= sizes[0] <= 7:
        raise ScanError(Reason.BAD_HEADER, f"dim[0] must be 1 to 7, got {sizes[0]}")
    used = sizes[1 : sizes[0] + 1]
    if min(used) < 1:
        raise ScanError(Reason.BAD_HEADER, "every dimension must be at least 1")
    i, j, k, times, *more = [*used, 1, 1, 1, 1]
    if prod(more) > 1:
        raise ScanError(Reason.FOUR_DIMENSIONS, f"{sizes[0]} dimensions; expected three, or four with time")
    return (i, j, k), times


def _offset(header: Nifti1Header, smallest: int) -> int:
    value = float(header["vox_offset"])
    if not np.isfinite(value) or not smallest <= value <= MAX_OFFSET or value % 1:
        raise ScanError(
            Reason.BAD_HEADER, f"vox_offset must be a whole number of bytes from {smallest} to {MAX_OFFSET}"
        )
    return int(value)


def _pair(path: Path) -> Path:
    """The .img beside a .hdr."""
    name = path.name[: -len(".hdr.gz")] if path.name.lower().endswith(".gz") else path.stem
    for suffix in (".img", ".img.gz", ".IMG"):
        if (beside := path.with_name(name + suffix)).is_file():
            return beside
    raise ScanError(Reason.TRUNCATED, "the .img file that belongs to this .hdr is missing")


def _check_size(opened: NiftiHeader) -> None:
    if prod(opened.shape) > MOST_VOXELS:
        raise ScanError(Reason.TOO_LARGE, f"the header claims {prod(opened.shape)} voxels a volume")
    expected = opened.offset + opened.n_bytes * opened.times
    present = opened.voxels_in.stat().st_size
    if is_gzip(opened.voxels_in):
        if expected > MAX_DEFLATE_RATIO * present + 1024:
            raise ScanError(
                Reason.SIZE_MISMATCH, f"the header claims {expected} bytes; {present} gzipped bytes can't hold them"
            )
        check_inflation(present, expected)
    elif opened.offset > max(present, HEADER_BYTES + 4):
        raise ScanError(Reason.BAD_HEADER, f"vox_offset lies behind the end of the file, which has {present} bytes")
    elif present < expected:
        reason = Reason.TRUNCATED if present > opened.offset + 4 else Reason.SIZE_MISMATCH
        raise ScanError(reason, f"the header claims {expected} bytes, the file has {present}")
    else:
        _check_trailing(opened, present)


def _check_trailing(opened: NiftiHeader, present: int) -> None:
    """Refuse a file that goes on behind its voxels: it may hold more volumes, or larger ones, than its header tells."""
    expected = opened.offset + opened.n_bytes * opened.times
    if present - expected >= max(min(opened.n_bytes, MAX_TRAILING), 16):
        raise ScanError(Reason.SIZE_MISMATCH, f"the file goes on beyond the {expected} bytes of its header")


def _stored_bytes(opened: NiftiHeader, time: int) -> bytes | bytearray:
    """The bytes of one volume; a gzip stream is read to its end, so that its checksum is verified."""
    start, count = opened.offset + time * opened.n_bytes, opened.n_bytes
    if is_gzip(opened.voxels_in):
        return _inflated(opened, start, count)
    with opened.voxels_in.open("rb") as file:
        file.seek(start)
        raw = file.read(count)
    if len(raw) < count:
        raise ScanError(Reason.IO_ERROR, "the file became shorter while it was read")
    return raw


def _inflated(opened: NiftiHeader, start: int, count: int) -> bytearray:
    """Bytes start..start+count of a gzip stream.

    Raises:
        ScanError: truncated; checksum for a damaged stream; size_mismatch for one that goes on beyond its end.
    """
    kept, at = bytearray(), 0
    for part in inflated(opened.voxels_in):
        kept += part[max(start - at, 0) : max(start + count - at, 0)]
        at += len(part)
        _check_trailing(opened, at)
    total = opened.offset + opened.n_bytes * opened.times
    if at < total:
        raise ScanError(Reason.TRUNCATED, f"the gzip stream ends after {at} of {total} bytes")
    return kept


def _scaling(header: Nifti1Header) -> tuple[float, float]:
    """(slope, intercept); a slope of 0 means none (NIfTI-1 standard)."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0:
        return 1.0, 0.0
    if not np.isfinite([slope, intercept]).all() or max(abs(slope), abs(intercept)) > 1e30:
        raise ScanError(Reason.BAD_RESCALE, "scl_slope and scl_inter must be finite numbers")
    return slope, intercept


def _check_finite(voxels: Voxels) -> tuple[str, ...]:
    """Fill single NaN with the smallest value, in place; refuse infinities and volumes of nothing but NaN."""
    bad: NDArray[np.bool_] = ~np.isfinite(voxels)
    if not bad.any():
        return ()
    if np.isinf(voxels).any() or bad.all():
        raise ScanError(Reason.NON_FINITE, "voxels that are no finite numbers")
    voxels[bad] = voxels[~bad].min()
    return ("non_finite_filled",)
