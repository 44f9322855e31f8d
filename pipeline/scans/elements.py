"""The wanted elements of a plain DICOM data set, without a general parser's cost for all the others.

Plain: little endian, and of value representations that the standard knows. All else is left to pydicom.
"""

from collections.abc import Mapping
from struct import Struct
from typing import BinaryIO, cast

from pydicom.dataelem import DataElement, RawDataElement, empty_value_for_VR
from pydicom.tag import BaseTag
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32, STANDARD_VR

from pipeline.domain import Reason, ScanError

PIXEL_TAGS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
"""FloatPixelData, DoubleFloatPixelData, PixelData."""

ANY_VR = {str(vr).encode(): str(vr) for vr in STANDARD_VR}
LONG_VRS = {code: vr for code, vr in ANY_VR.items() if vr in EXPLICIT_VR_LENGTH_32}
SHORT_VRS = {code: vr for code, vr in ANY_VR.items() if vr not in EXPLICIT_VR_LENGTH_32}
"""Value representations whose length takes two bytes; of LONG_VRS four, after two reserved ones (PS3.5 7.1.2)."""

UNDEFINED_LENGTH = 0xFFFFFFFF

ITEM = 0xFFFEE000
ITEM_GROUP = 0xFFFE

MAX_DEPTH = 100
"""Sequences within sequences: no object of the standard needs ten."""

MAX_ELEMENTS = 3_000_000
"""One damaged length makes a walk look for elements in the pixels, eight bytes at a time; this is a second's work."""

WINDOW = 16 * 1024
"""Bytes that are read at once; most headers fit."""

_EXPLICIT, _IMPLICIT, _LONG = Struct("<HH2sH"), Struct("<HHL"), Struct("<L")


class NotPlain(Exception):  # noqa: N818 - no error: a general parser is needed
    """The data set is not of the plain kind."""


def walk(
    file: BinaryIO, start: int, size: int, implicit: bool, wanted: Mapping[int, BaseTag], last_group: int = 0xFFFF
) -> tuple[dict[BaseTag, DataElement | RawDataElement], int]:
    """The wanted elements of a data set's top level, and the byte at which the walk ended.

    It ends before the pixels, before the first group beyond `last_group`, or with the file: beyond the file's end
    where that lacks what its last element announces. Sequences of undefined length are walked through (PS3.5 7.5).

    Args:
        file: A file of `size` bytes.
        start: Byte at which the data set begins.
        implicit: Whether value representations are left out (PS3.5 7.1.3).
        wanted: Tags to keep.
        last_group: The data set's last group.

    Raises:
        NotPlain: If a general parser is needed.
        ScanError: malformed, for a wanted element that comes twice or sequences nested too deeply; too_large.
    """
    elements: dict[BaseTag, DataElement | RawDataElement] = {}
    window, base, at, depth = b"", start, start, 0
    for _ in range(MAX_ELEMENTS):
        here = at - base
        if here + 12 > len(window):
            file.seek(at)
            window, base, here = file.read(WINDOW), at, 0
            if len(window) < 8:
                return elements, at
        vr, value_at = None, at + 8
        if implicit:
            if at == start and window[4:6] in ANY_VR:
                raise NotPlain  # it says implicit and is explicit: pydicom copes
            group, number, length = _IMPLICIT.unpack_from(window, here)
        else:
            group, number, code, length = _EXPLICIT.unpack_from(window, here)
            if (vr := SHORT_VRS.get(code)) is None:
                vr, length, value_at = _long(window, here, group, code, at)
        tag = group << 16 | number
        if group > last_group or (not depth and tag in PIXEL_TAGS):
            return elements, at
        if group == ITEM_GROUP or length == UNDEFINED_LENGTH:
            depth += _step(tag, vr, length, depth, tag in wanted)
            at = value_at + (length if tag == ITEM and length != UNDEFINED_LENGTH else 0)
            continue
        at = value_at + length
        if not depth and tag in wanted and at <= size:
            value = window[value_at - base : at - base]
            if len(value) < length:
                file.seek(value_at)
                value = file.read(length)
            _keep(RawDataElement(wanted[tag], vr, length, value, value_at, implicit, True), elements)
    raise ScanError(Reason.TOO_LARGE, "the header has more elements than any scan's")


def _long(window: bytes, here: int, group: int, code: bytes, at: int) -> tuple[str | None, int, int]:
    """Value representation, length and place of an explicit element whose length takes four bytes, or of an item."""
    if group == ITEM_GROUP:
        return None, _LONG.unpack_from(window, here + 4)[0], at + 8
    if code not in LONG_VRS or here + 12 > len(window):
        raise NotPlain
    return LONG_VRS[code], _LONG.unpack_from(window, here + 8)[0], at + 12


def _keep(element: RawDataElement, elements: dict[BaseTag, DataElement | RawDataElement]) -> None:
    if element.tag in elements:
        raise ScanError(Reason.MALFORMED, f"element {element.tag} comes twice")
    if not element.length:
        element = element._replace(value=cast(bytes | None, empty_value_for_VR(element.VR, raw=True)))
    elements[element.tag] = element


def _step(tag: int, vr: str | None, length: int, depth: int, wanted: bool) -> int:
    """How a sequence, an item or a delimiter changes the depth."""
    begins = length == UNDEFINED_LENGTH
    if (wanted and not depth) or vr not in ("SQ", None) or (depth == 0 and tag >> 16 == ITEM_GROUP):
        raise NotPlain
    if depth >= MAX_DEPTH and begins:
        raise ScanError(Reason.MALFORMED, f"sequences are nested deeper than {MAX_DEPTH}")
    return 1 if begins else 0 if tag == ITEM else -1
