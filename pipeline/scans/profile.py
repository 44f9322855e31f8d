"""What the PS3.15 basic profile (table E.1-1, 2024b) does with an element; table and dummies are dicom-anonymizer's."""

import re
from collections.abc import Callable
from functools import cache

from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag
from pydicom.uid import UID

from pipeline.domain import UsageError
from pipeline.scans.elements import PIXEL_TAGS

Action = Callable[[Dataset, tuple[int, int]], None]

FREE_TEXT = frozenset({"LT", "ST", "UT", "UC", "UN", "UR", "PN"})
"""What the table does not list of these is removed: nobody knows what was typed there."""
TEXT = FREE_TEXT | {"AE", "AS", "CS", "DA", "DT", "LO", "SH", "TM"}
KINDS = re.compile(r"SOPClass|TransferSyntax|^(CodingScheme|Context|MappingResource)UID$")
"""Elements, by keyword, whose UIDs name a kind of things, not one of them; the table lists none."""


@cache
def action_of(tag: BaseTag) -> str | None:
    """The profile's action, by the name of dicom-anonymizer's function; None for what it does not list."""
    table = _table()
    found = table.get((tag.group, tag.element))
    if found is None:
        for known, action in table.items():
            if len(known) == 4 and tag.group & known[2] == known[0] and tag.element & known[3] == known[1]:
                found = action
    return found.__name__ if found else None


def act(action: str, ds: Dataset, tag: BaseTag) -> None:
    """Do to an element what the library does.

    Raises:
        NotImplementedError: For a VR that it has no dummy for (AT, OW, OF, UV); the value is then untouched.
    """
    _library()[action](ds, (tag.group, tag.element))


@cache
def vrs_of(tag: BaseTag) -> frozenset[str]:
    """The VRs that the standard gives an element, none for one that it does not know. Files may write any other."""
    try:
        return frozenset(dictionary_VR(tag).split(" or "))
    except KeyError:
        return frozenset()


def is_obscure(tag: BaseTag, vr: str) -> bool:
    """Whether nobody knows what an element holds that the table does not list: free text, or bytes for text."""
    says = vrs_of(tag)
    if tag in PIXEL_TAGS or "UI" in says:
        return False
    if vr in FREE_TEXT:
        return True
    return vr not in says and (vr.startswith("O") or (vr not in TEXT and bool(says) and says <= TEXT))


def is_public(tag: BaseTag, uid: str) -> bool:
    """Whether a UID of an element names nothing of the patient's: it is the standard's own, or that of a kind."""
    return is_registered(uid) or (KINDS.search(keyword_for_tag(tag)) is not None and UID(uid).is_valid)


def is_registered(uid: str) -> bool:
    """Whether PS3.6 lists a UID. To begin as those do (1.2.840.10008) is not enough: some objects' UIDs do, too."""
    return UID(uid).type != ""


@cache
def _library() -> dict[str, Action]:
    """The functions of dicom-anonymizer by name."""
    return {action.__name__: action for action in _table().values()}


@cache
def _table() -> dict[tuple[int, ...], Action]:
    """Tag (or tag and mask) -> function of dicom-anonymizer."""
    try:
        from dicomanonymizer.simpledicomanonymizer import initialize_actions_2024b  # type: ignore[import-untyped]
    except ImportError:
        raise UsageError("de-identifying needs further packages: pip install 'scanline[pacs]'") from None
    return dict(initialize_actions_2024b())
