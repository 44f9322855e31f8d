"""The wanted elements of a plain DICOM data set, without a general parser's cost for all the others.

Plain: little endian, and of value representations that the standard knows. All else is left to pydicom.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from struct import Struct
from typing import BinaryIO

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
NO_LENGTH = 2**31
"""Bytes from which on an element's length is a lie; what comes behind it can't be found."""

ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
ITEM_GROUP = 0xFFFE

MAX_DEPTH = 100
"""Sequences within sequences: no object of the standard needs ten."""
TOO_DEEP = f"sequences are nested deeper than {MAX_DEPTH}"

SMALLEST_LEVEL, NEIGHBOURS = 20, 8
"""Bytes that a sequence in a sequence adds at the least; elements before it among which it is looked for."""

MAX_STEPS, STEPS_A_WINDOW = 3_000_000, 300
"""One damaged length makes a walk look for elements in the pixels, eight bytes at a time; this is a second's work."""

WINDOW = 16 * 1024
"""Bytes that are read at once; most headers fit."""

MAX_VALUE = 64 * 2**20
"""Bytes of one wanted element: the functional groups of 10,000 frames take a third of them."""

_EXPLICIT, _IMPLICIT, _LONG = Struct("<HH2sH"), Struct("<HHL"), Struct("<L")
_EXPLICIT_TURNED, _IMPLICIT_TURNED = Struct("<L2sH").unpack_from, Struct("<LL").unpack_from


@dataclass(frozen=True)
class Wanted:
    """Elements to keep.

    Attributes:
        tags: Their tags.
        stops: Theirs and those that mean something in a walk, as the four bytes in the file read as one number.
    """

    tags: Mapping[int, BaseTag]
    stops: frozenset[int]


def wanted_of(tags: Iterable[BaseTag]) -> Wanted:
    """These elements."""
    tags = tuple(tags)
    stops = (*tags, *PIXEL_TAGS, ITEM, ITEM_END, SEQUENCE_END)
    return Wanted({int(tag): tag for tag in tags}, frozenset((tag & 0xFFFF) << 16 | tag >> 16 for tag in stops))


class NotPlain(Exception):  # noqa: N818 - no error: a general parser is needed
    """The data set is not of the plain kind."""


def walk(
    file: BinaryIO, start: int, size: int, implicit: bool, wanted: Wanted, last_group: int = 0xFFFF
) -> tuple[dict[BaseTag, DataElement | RawDataElement], int]:
    """The wanted elements of a data set's top level, and the byte at which the walk ended.

    It ends before the pixels, before the first group beyond `last_group`, or with the file: beyond the file's end
    where that lacks what its last element announces. Sequences of undefined length are walked through (PS3.5 7.5).

    Args:
        file: A file of `size` bytes.
        start: Byte at which the data set begins.
        implicit: Whether value representations are left out (PS3.5 7.1.3).
        wanted: What to keep.
        last_group: The data set's last group.

    Raises:
        NotPlain: If a general parser is needed.
        ScanError: malformed, for a wanted element that comes twice, a length that can't be, sequences nested too
            deeply; truncated; too_large.
    """
    elements: dict[BaseTag, DataElement | RawDataElement] = {}
    window, base, at, depth, left = _window(file, start), start, start, 0, MAX_STEPS
    if implicit and window[4:6] in ANY_VR:
        raise NotPlain  # it says implicit and is explicit: pydicom copes
    tags = wanted.tags
    skip = _skip_nothing if last_group < 0xFFFF else _skip_implicit if implicit else _skip_explicit
    while left > 0:
        left -= 1
        here = skip(window, at - base, wanted.stops)
        at = base + here
        if here + 12 > len(window):
            left -= STEPS_A_WINDOW
            window, base, here = _window(file, at), at, 0
            if len(window) < 8:
                return elements, at
        vr, value_at = None, at + 8
        if implicit:
            group, number, length = _IMPLICIT.unpack_from(window, here)
        else:
            group, number, code, length = _EXPLICIT.unpack_from(window, here)
            if (vr := SHORT_VRS.get(code)) is None:
                vr, length, value_at = _long(window, here, group, code, at)
        tag = group << 16 | number
        if group > last_group or (not depth and tag in PIXEL_TAGS):
            return elements, at
        if group == ITEM_GROUP or length == UNDEFINED_LENGTH:
            depth += _step(tag, vr, length, depth, tag in tags)
            at = value_at + (length if tag == ITEM and length != UNDEFINED_LENGTH else 0)
            continue
        at = _behind(file, vr, value_at, length)
        if not depth and tag in tags and at <= size:
            kept = tags[tag]
            if kept in elements:
                raise ScanError(Reason.MALFORMED, f"element {kept} comes twice")
            value = window[value_at - base : at - base] if length else empty_value_for_VR(vr, raw=True)
            if value is not None and len(value) < length:
                value = _long_value(file, value_at, length)
            elements[kept] = RawDataElement._make((kept, vr, length, value, value_at, implicit, True, True, False))
    raise ScanError(Reason.TOO_LARGE, "the header has more elements than any scan's")


def _behind(file: BinaryIO, vr: str | None, value_at: int, length: int) -> int:
    """Where an element of defined length ends."""
    if length >= NO_LENGTH:
        raise ScanError(Reason.MALFORMED, f"an element of the header claims {length} bytes")
    if vr == "SQ" and length > MAX_DEPTH * SMALLEST_LEVEL and _is_too_deep(_window(file, value_at)):
        raise ScanError(Reason.MALFORMED, TOO_DEEP)
    return value_at + length


def _is_too_deep(items: bytes) -> bool:
    """Whether first items hold sequences whose first items hold sequences, and so on (explicit VR).

    Other than sequences of undefined length, those of a defined one are skipped and do no harm here; a file with
    such a chain is not to be trusted all the same.
    """
    at = 0
    for _ in range(MAX_DEPTH):
        at += 8  # the item's tag and length
        for _ in range(NEIGHBOURS):
            if at + 12 > len(items):
                return False
            _, _, code, length = _EXPLICIT.unpack_from(items, at)
            if code == b"SQ":
                break
            at += 12 + _LONG.unpack_from(items, at + 8)[0] if code in LONG_VRS else 8 + length
        else:
            return False
        at += 12  # tag, VR and length of the sequence
    return True


def _window(file: BinaryIO, at: int) -> bytes:
    file.seek(at)
    return file.read(WINDOW)


def _long_value(file: BinaryIO, at: int, length: int) -> bytes:
    if length > MAX_VALUE:
        raise ScanError(Reason.TOO_LARGE, f"the header has an element of {length} bytes; at most {MAX_VALUE} are read")
    file.seek(at)
    return file.read(length)


def _skip_nothing(window: bytes, here: int, stops: frozenset[int]) -> int:  # noqa: ARG001 - one of the skips
    return here


def _skip_explicit(window: bytes, here: int, stops: frozenset[int]) -> int:
    """The next element that is wanted or not of the commonest form, or the window's end."""
    last = len(window) - 12
    while here <= last:
        tag, code, length = _EXPLICIT_TURNED(window, here)
        if tag in stops or code not in SHORT_VRS:
            break
        here += 8 + length
    return here


def _skip_implicit(window: bytes, here: int, stops: frozenset[int]) -> int:
    """The same where value representations are left out."""
    last = len(window) - 12
    while here <= last:
        tag, length = _IMPLICIT_TURNED(window, here)
        if tag in stops or length >= NO_LENGTH:
            break
        here += 8 + length
    return here


def _long(window: bytes, here: int, group: int, code: bytes, at: int) -> tuple[str | None, int, int]:
    """Value representation, length and place of an explicit element whose length takes four bytes, or of an item."""
    if group == ITEM_GROUP:
        return None, _LONG.unpack_from(window, here + 4)[0], at + 8
    if code not in LONG_VRS:
        raise NotPlain
    if here + 12 > len(window):
        raise ScanError(Reason.TRUNCATED, "the file ends in its header")
    return LONG_VRS[code], _LONG.unpack_from(window, here + 8)[0], at + 12


def _step(tag: int, vr: str | None, length: int, depth: int, wanted: bool) -> int:
    """How a sequence, an item or a delimiter changes the depth."""
    begins = length == UNDEFINED_LENGTH
    if (wanted and not depth) or vr not in ("SQ", None) or (depth == 0 and tag >> 16 == ITEM_GROUP):
        raise NotPlain
    if depth >= MAX_DEPTH and begins:
        raise ScanError(Reason.MALFORMED, TOO_DEEP)
    return 1 if begins else 0 if tag == ITEM else -1
