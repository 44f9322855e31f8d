"""Values of DICOM elements as text and numbers, converted by pydicom only where that is needed."""

from functools import cache
from typing import cast

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag
from pydicom.valuerep import VR

PLAIN_TEXT = {VR.AS, VR.CS, VR.DA, VR.DS, VR.IS, VR.TM, VR.UI}
"""Value representations whose bytes are their text (PS3.5 6.2)."""


def text_in(elements: Dataset, keyword: str) -> str:
    """An element's value as text, empty where it is absent; several values joined by a backslash."""
    tag = tag_of(keyword)
    raw = elements.get_item(tag)
    text = _plain_text(raw) if isinstance(raw, RawDataElement) else None
    if text is not None:
        return text
    value = elements.get(tag) if raw is not None else None
    if value is None or value.value is None:
        return ""
    several = isinstance(value.value, list | tuple | MultiValue)
    return "\\".join(str(item).strip(" \0") for item in (value.value if several else [value.value])).strip()


def _plain_text(raw: RawDataElement) -> str | None:
    """The text of an element that needs no character set, None where pydicom's conversion is needed."""
    vr, value = raw.VR or _vr(raw.tag), raw.value
    if vr == VR.US and value is not None and len(value) == 2:
        return str(int.from_bytes(value, "little" if raw.is_little_endian else "big"))
    if value and (vr in PLAIN_TEXT or (vr in (VR.LO, VR.SH) and value.isascii() and b"\x1b" not in value)):
        words = value.decode("latin-1").split("\\")
        return "\\".join(word.strip(" \0") for word in words).strip()
    return None


@cache
def tag_of(keyword: str) -> BaseTag:
    """The tag of a keyword of the standard, for example (0028,0010) of Rows."""
    return BaseTag(cast(int, tag_for_keyword(keyword)))


@cache
def _vr(tag: BaseTag) -> str:
    try:
        return dictionary_VR(tag)
    except KeyError:
        return VR.UN


def numbers_in(elements: Dataset, keyword: str) -> tuple[float, ...]:
    """An element's values as floats, () where it is absent, empty or no number."""
    words = text_in(elements, keyword).split("\\")
    try:
        return tuple(float(word) for word in words) if words != [""] else ()
    except ValueError:
        return ()


def number_in(elements: Dataset, keyword: str) -> float | None:
    """The first value as a float, None where it is absent, empty or no number."""
    return next(iter(numbers_in(elements, keyword)), None)
