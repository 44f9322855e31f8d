"""Values of DICOM elements as text and numbers, converted by pydicom only where that is needed."""

from functools import cache
from typing import TypeAlias, cast

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag
from pydicom.valuerep import VR

Element: TypeAlias = DataElement | RawDataElement

PLAIN_TEXT = frozenset({"AS", "CS", "DA", "DS", "IS", "TM", "UI"})
"""Value representations whose bytes are their text (PS3.5 6.2)."""
LETTERS = frozenset({"LO", "SH"})
"""The same where they are ASCII."""


def text_in(elements: Dataset, keyword: str) -> str:
    """An element's value as text, empty where it is absent; several values joined by a backslash."""
    element = elements.get_item(tag_of(keyword))
    return "" if element is None else text_of(element, elements)


def text_of(element: Element, elements: Dataset) -> str:
    """The value of one of the elements as text; several values joined by a backslash."""
    text = plain_text(element)
    if text is not None:
        return text
    value = elements.get(element.tag)
    if value is None or value.value is None:
        return ""
    several = isinstance(value.value, list | tuple | MultiValue)
    return "\\".join(str(item).strip(" \0") for item in (value.value if several else [value.value])).strip()


def plain_text(raw: Element) -> str | None:
    """The text of an element that needs no character set, None where pydicom's conversion is needed."""
    if not isinstance(raw, RawDataElement):
        return None
    vr, value = raw.VR or _vr(raw.tag), raw.value
    if not value:
        return None
    if vr in PLAIN_TEXT or (vr in LETTERS and value.isascii() and b"\x1b" not in value):
        text = value.decode("latin-1")
        if "\\" in text:
            text = "\\".join([word.strip(" \0") for word in text.split("\\")])
        return text.strip(" \0").strip()
    if vr == "US" and len(value) == 2:
        return str(int.from_bytes(value, "little" if raw.is_little_endian else "big"))
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
    return numbers_of(text_in(elements, keyword))


def numbers_of(text: str) -> tuple[float, ...]:
    """The values in an element's text as floats, () where they are none."""
    try:
        return tuple([float(word) for word in text.split("\\")]) if text else ()
    except ValueError:
        return ()


def number_in(elements: Dataset, keyword: str) -> float | None:
    """The first value as a float, None where it is absent, empty or no number."""
    return next(iter(numbers_in(elements, keyword)), None)
