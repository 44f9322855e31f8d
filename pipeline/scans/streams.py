"""What a compressed stream claims in its own header: a lie there costs a decoder minutes, or gigabytes."""

from struct import unpack_from

from pipeline.domain import Reason, ScanError

SIZE_OF_2000 = b"\xff\x4f\xff\x51"
"""Start of a JPEG 2000 codestream and its marker of image and tile size."""

START_OF_FRAME = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}
"""Markers of the frame header in JPEG (ISO/IEC 10918-1 table B.1) and JPEG-LS (ISO/IEC 14495-1 annex C)."""

MAX_TILES = 65_535
"""What JPEG 2000 can number (ISO/IEC 15444-1 A.4.2)."""


def check_stream(encoded: bytes, rows: int, columns: int) -> None:
    """Refuse a stream whose header says other things than the file's; one that says nothing passes.

    Raises:
        ScanError: dims_mismatch, malformed.
    """
    if stream_size(encoded) not in (None, (rows, columns)):
        raise ScanError(Reason.DIMS_MISMATCH, "a compressed frame claims another size than Rows and Columns")


def stream_size(encoded: bytes) -> tuple[int, int] | None:
    """(rows, columns) that a JPEG, JPEG-LS or JPEG 2000 stream claims; None where its header does not say.

    Raises:
        ScanError: malformed, for JPEG 2000 tiles that can't be.
    """
    at = encoded.find(SIZE_OF_2000, 0, 4096)
    if at >= 0 and len(encoded) >= at + 40:
        return _size_of_2000(*unpack_from(">8I", encoded, at + 8))
    if encoded[:2] != b"\xff\xd8":
        return None
    at = 2
    while at + 9 <= len(encoded) and encoded[at] == 0xFF:
        marker, length = unpack_from(">BH", encoded, at + 1)
        if marker in START_OF_FRAME:
            rows, columns = unpack_from(">HH", encoded, at + 5)
            return (rows, columns) if rows else None  # 0: the rows follow the scan (marker DNL)
        at += 2 + length
    return None


def _size_of_2000(
    right: int, bottom: int, left: int, top: int, width: int, height: int, tiles_left: int, tiles_top: int
) -> tuple[int, int]:
    """(rows, columns) from that marker: the image on its reference grid, and the tiles that must cover it.

    ISO/IEC 15444-1 A.5.1 and B.3: the first tile begins at or before the image, and holds its first pixel.
    """
    covers = tiles_left <= left < tiles_left + width and tiles_top <= top < tiles_top + height
    if not covers or -(-(right - tiles_left) // width) * -(-(bottom - tiles_top) // height) > MAX_TILES:
        raise ScanError(Reason.MALFORMED, "the tiles of a JPEG 2000 frame don't cover it, or are too many")
    return bottom - top, right - left
