"""Extensions of a NIfTI header: not used here, but one that lies about its size makes the rest of the file doubtful."""

from typing import Literal

from pipeline.domain import Reason, ScanError


def check_extensions(start: bytes, header_bytes: int, voxels_at: int, order: Literal["little", "big"]) -> None:
    """Refuse extensions that don't fit between header and voxels.

    Each begins with its own size and a code, four bytes each (NIfTI-1 standard, "extension"); a first byte of 0 behind
    the header says that there are none.

    Args:
        start: The first bytes of the file; extensions that begin beyond them are not seen.
        header_bytes: Size of the header.
        voxels_at: Byte at which the voxels begin.
        order: Byte order of the header.

    Raises:
        ScanError: bad_header.
    """
    at = header_bytes + 4
    if not any(start[header_bytes : header_bytes + 1]):
        return
    while at + 8 <= min(len(start), voxels_at):
        size = int.from_bytes(start[at : at + 4], order, signed=True)
        if size < 8 or at + size > voxels_at:
            raise ScanError(
                Reason.BAD_HEADER, f"a header extension claims {size} bytes where {voxels_at - at} are left"
            )
        at += size
