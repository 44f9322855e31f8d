"""The size that a compressed stream claims, in its own header: a lie would cost the decoder minutes, or gigabytes."""

from struct import unpack_from

SIZE_OF_2000 = b"\xff\x4f\xff\x51"
"""Start of a JPEG 2000 codestream and its SIZ marker."""

START_OF_FRAME = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}
"""Markers of the frame header in JPEG (ISO/IEC 10918-1 table B.1) and JPEG-LS (ISO/IEC 14495-1 annex C)."""


def stream_size(encoded: bytes) -> tuple[int, int] | None:
    """(rows, columns) that a JPEG, JPEG-LS or JPEG 2000 stream claims; None where its header does not say.

    JPEG 2000: image size without the offset of its area (ISO/IEC 15444-1 A.5.1). The others: the frame header.
    """
    at = encoded.find(SIZE_OF_2000, 0, 4096)
    if at >= 0 and len(encoded) >= at + 24:
        right, bottom, left, top = unpack_from(">4I", encoded, at + 8)
        return bottom - top, right - left
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
