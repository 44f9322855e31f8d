"""What a file is, by its content. Its name only decides whether a file that is no scan claims to be one."""

import re
from pathlib import Path

from pipeline.domain import Kind, Reason, ScanError
from pipeline.scans.gzipped import GZIP, check_gzip, first_inflated
from pipeline.scans.imageless import NotAScan

PICTURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First bytes of PNG, JPEG, TIFF and BigTIFF."""

CLAIMS = re.compile(r"\.(?:(dcm|dicom|ima)|(nii|nii\.gz|hdr|img|hdr\.gz|img\.gz)|(png|jpe?g|tiff?))$", re.IGNORECASE)
"""Names that promise a DICOM file, a NIfTI file, a picture."""

NIFTI_MAGIC = {(4, b"n+2\0"), (4, b"ni2\0"), (344, b"n+1\0"), (344, b"ni1\0")}


def kind_of(path: Path) -> Kind:
    """The reader that a file needs.

    Raises:
        NotAScan: For files that neither are scans nor claim to be.
        ScanError: not_an_image, not_dicom, truncated or checksum, for files whose name promises a scan that isn't
            there.
    """
    with path.open("rb", buffering=0) as file:
        start = file.read(540)
    gzipped = start[:2] == GZIP
    if gzipped:
        start = first_bytes(path, 540)
    if start[128:132] == b"DICM":
        if gzipped:
            raise ScanError(Reason.NOT_DICOM, "a gzipped DICOM file; unpack it first")
        return "dicom"
    claim = CLAIMS.search(path.name)
    if any(start[at : at + 4] == magic for at, magic in NIFTI_MAGIC):
        if re.search(r"\.img(\.gz)?$", path.name, re.IGNORECASE):
            raise NotAScan("voxels of a .hdr")
        return "nifti"
    if claim and claim[2] and _is_analyze(path, start):
        return "nifti"
    if start.startswith(PICTURES) and not (claim and (claim[1] or claim[2])):
        return "image"
    if claim is None:
        raise NotAScan("no scan")
    if claim[2]:
        check_gzip(path)
    raise _broken_promise(path, start, claim)


def first_bytes(path: Path, count: int) -> bytes:
    """The first bytes of a file, inflated where it is gzipped; fewer where it is shorter or damaged."""
    with path.open("rb") as file:
        start = file.read(count)
    return first_inflated(path, count) if start[:2] == GZIP else start


def _is_analyze(path: Path, start: bytes) -> bool:
    """Whether it is an Analyze 7.5 header, which NIfTI grew out of: 348 bytes that begin with their own length."""
    if re.search(r"\.img(\.gz)?$", path.name, re.IGNORECASE):
        if _header_beside(path):
            raise NotAScan("voxels of a .hdr")
        return False
    return path.name.lower().endswith(".hdr") and 348 in (
        int.from_bytes(start[:4], "little"),
        int.from_bytes(start[:4], "big"),
    )


def _header_beside(path: Path) -> bool:
    stem = re.sub(r"\.img(\.gz)?$", "", path.name, flags=re.IGNORECASE)
    return any(path.with_name(stem + suffix).is_file() for suffix in (".hdr", ".hdr.gz", ".HDR"))


def _broken_promise(path: Path, start: bytes, claim: "re.Match[str]") -> ScanError:
    size = path.stat().st_size
    if size == 0:
        return ScanError(Reason.NOT_AN_IMAGE, "the file is empty")
    readable = not start.strip(b"\t\n\r\f" + bytes(range(32, 127)))
    if claim[1] and not readable:
        if size < 132:
            return ScanError(Reason.TRUNCATED, "the file ends in its preamble")
        if start[1:2] == b"\0" and start[:1] in (b"\x02", b"\x08"):
            return ScanError(Reason.NOT_DICOM, "the file lacks the preamble and DICM mark of a DICOM file")
    kind = "DICOM file" if claim[1] else "NIfTI file" if claim[2] else "picture"
    return ScanError(Reason.NOT_AN_IMAGE, f"the name promises a {kind}, the content is none")
