"""One DICOM image without its patient: PS3.15 basic profile (table E.1-1), consistent by a key that stays at home.

dicom-anonymizer brings the table and the dummy values, but walks the top level only, forgets its UIDs when it ends and
keeps what the table does not know; so the walk, UIDs, dates and what the table leaves open are ours.
"""

import hmac
import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cache
from pathlib import Path

import pydicom
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag

from pipeline.domain import Reason, ScanError, UsageError
from pipeline.scans.boundary import refusing
from pipeline.scans.burned_in import why_burned_in
from pipeline.scans.deflated import check_deflated
from pipeline.scans.elements import PIXEL_TAGS
from pipeline.scans.encoding import encoded
from pipeline.scans.values import text_in

Action = Callable[[Dataset, tuple[int, int]], None]

STANDARD_ROOT = "1.2.840.10008."
"""UIDs below it name classes and syntaxes, never a patient's objects."""
SHIFTED = ("DA", "DT")
FREE_TEXT = ("LT", "ST", "UT", "UC", "UN", "UR", "PN")
"""What the table does not list of these is removed: nobody knows what was typed there."""
TEXT = ("AE", "CS", "LO", "SH", *FREE_TEXT)
CHARACTERISTICS = ("PatientSex", "PatientAge", "PatientSize", "PatientWeight")
PERSONAL = (
    *("PatientName", "PatientID", "OtherPatientIDs", "OtherPatientNames", "PatientBirthName", "PatientMotherBirthName"),
    *("PatientBirthDate", "AccessionNumber", "PatientAddress", "PatientTelephoneNumbers", "ReferringPhysicianName"),
    *("PerformingPhysicianName", "OperatorsName", "PhysiciansOfRecord", "RequestingPhysician", "InstitutionName"),
    *("StudyID", "AdmissionID", "MilitaryRank", "EthnicGroup", "Occupation", "PatientReligiousPreference"),
)
"""Their words are looked for in all that is left."""
BASIC_PROFILE = ("113100", "Basic Application Confidentiality Profile")
MODIFIED_DATES = ("113107", "Retain Longitudinal Temporal Information Modified Dates Option")
KEPT_CHARACTERISTICS = ("113108", "Retain Patient Characteristics Option")


@dataclass(frozen=True)
class Key:
    """What makes pseudonyms: the same for the same secret, and nothing to anybody without it."""

    secret: bytes = field(repr=False)

    def digest(self, what: str, value: str) -> bytes:
        """32 bytes for a value (HMAC-SHA-256)."""
        return hmac.digest(self.secret, f"{what}\0{value}".encode(), "sha256")

    def uid(self, value: str) -> str:
        """The UID that stands for another one."""
        return f"2.25.{int.from_bytes(self.digest('uid', value)[:15], 'big')}"

    def pseudonym(self, what: str, value: str) -> str:
        """12 characters that stand for an identifier."""
        return self.digest(what, value).hex()[:12].upper()

    def days(self, patient: str) -> int:
        """By how much a patient's dates move: 1 to 3652 days back."""
        return -1 - int.from_bytes(self.digest("days", patient)[:4], "big") % 3652


@dataclass
class Cleaned:
    """An image without identity.

    Attributes:
        encoded: The file.
        name: Its place in the output: patient, study, series, instance, all opaque.
        counts: "removed", "emptied", "replaced", "uids", "dates", "words" -> elements.
        burned_in: Why its pixels may show the patient, empty where nothing points to it.
    """

    encoded: bytes
    name: Path
    modality: str
    counts: dict[str, int]
    burned_in: str


def deidentified(path: Path, key: Key, keep_characteristics: bool = False) -> Cleaned:
    """The image in a file, without its patient. The file is not altered.

    Args:
        key: The same key gives the same pseudonyms, UIDs and shift of dates.
        keep_characteristics: Keep sex, age, size and weight (PS3.15 option 113108; SUV needs the weight).

    Raises:
        ScanError: non_image for what is no image, malformed for what can't be read, too_large for a bomb.
    """
    with refusing():
        with path.open("rb") as file:
            check_deflated(file)
        ds = pydicom.dcmread(path)
        if not any(tag in ds for tag in PIXEL_TAGS):
            raise ScanError(Reason.NON_IMAGE, "the object holds no image; its text can't be cleaned with certainty")
        return _Cleaner(ds, key, keep_characteristics).result()


class _Cleaner:
    """Cleans one dataset in memory."""

    def __init__(self, ds: Dataset, key: Key, keep_characteristics: bool) -> None:
        self._ds, self._key, self._keep = ds, key, keep_characteristics
        owner = text_in(ds, "PatientID") or text_in(ds, "StudyInstanceUID") or text_in(ds, "SOPInstanceUID")
        self._owner = f"{text_in(ds, 'IssuerOfPatientID')}\0{owner}"
        self._words = set(_words(ds))
        self._counts = dict.fromkeys(("removed", "emptied", "replaced", "uids", "dates", "words"), 0)

    def result(self) -> Cleaned:
        """The cleaned file."""
        ds, key = self._ds, self._key
        burned_in, modality = why_burned_in(ds), text_in(ds, "Modality")
        characteristics = {name: deepcopy(ds[name]) for name in CHARACTERISTICS if self._keep and name in ds}
        accession, syntax = text_in(ds, "AccessionNumber"), ds.file_meta.TransferSyntaxUID
        uids = [text_in(ds, name) for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")]
        self._clean(ds)
        patient = key.pseudonym("patient", self._owner)
        ds.PatientID, ds.PatientName = patient, patient
        ds.AccessionNumber = key.pseudonym("accession", accession) if accession else ""
        for keyword, element in characteristics.items():
            ds[keyword] = element
            if keyword == "PatientAge" and _is_over_89(str(element.value)):
                ds.PatientAge = "090Y"
        self._declare(ds)
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = syntax
        study, series, instance = (key.digest("file", uid).hex()[:16] for uid in uids)
        name = Path(patient, study, series, f"{instance}.dcm")
        return Cleaned(encoded(ds, "the copy"), name, modality, self._counts, burned_in)

    def _clean(self, ds: Dataset) -> None:
        """Apply the profile to a dataset and to all within it."""
        for tag in list(ds.keys()):
            self._clean_element(ds, tag, ds[tag])

    def _clean_element(self, ds: Dataset, tag: BaseTag, element: DataElement) -> None:
        action = _action(tag)
        if element.VR == "SQ":
            self._clean_sequence(ds, tag, element, action)
        elif tag.is_private or tag.group == 0xFFFC or (action is None and element.VR in FREE_TEXT):
            self._remove(ds, tag)
        elif element.VR == "UI":
            self._map_uids(element)
        elif element.VR in SHIFTED and not re.search("Birth|Death", element.keyword):
            self._shift(ds, tag, element)
        elif element.VR == "TM":
            return  # times of day tell nothing once dates have moved, and series and SUV need them
        elif action == "delete":
            self._remove(ds, tag)
        elif action is not None:
            self._replace(ds, tag, action)
        elif element.VR in TEXT and self._tells(element):
            self._counts["words"] += 1
            del ds[tag]

    def _clean_sequence(self, ds: Dataset, tag: BaseTag, element: DataElement, action: str | None) -> None:
        if tag.is_private or action == "delete":
            self._remove(ds, tag)
        elif action is None or action == "delete_or_empty_or_replace_UID":
            for item in element.value:
                self._clean(item)
        else:
            self._counts["emptied"] += 1
            element.value = Sequence()

    def _replace(self, ds: Dataset, tag: BaseTag, action: str) -> None:
        """An empty or a dummy value, as dicom-anonymizer has it.

        It raises NotImplementedError, the value untouched, for a VR that it has no dummy for (AT, OW, OF, UV): a file
        may write any element as one of these, the patient's name too. What the table lists must not stay.
        """
        try:
            if ds[tag].VR in SHIFTED:  # birth and death; the library would write year 1
                ds[tag].value = ""
            else:
                _library()[action](ds, (tag.group, tag.element))
        except NotImplementedError:
            self._remove(ds, tag)
            return
        self._counts["emptied" if "empty" in action else "replaced"] += 1

    def _remove(self, ds: Dataset, tag: BaseTag) -> None:
        self._counts["removed"] += 1
        del ds[tag]

    def _map_uids(self, element: DataElement) -> None:
        values = [str(value) for value in _values(element)]
        mapped = [v if not v or v.startswith(STANDARD_ROOT) else self._key.uid(v) for v in values]
        if mapped != values:
            self._counts["uids"] += 1
            element.value = mapped if len(mapped) > 1 else mapped[0]

    def _shift(self, ds: Dataset, tag: BaseTag, element: DataElement) -> None:
        """Move dates by the patient's own number of days; one that is no date is removed."""
        moved = [_moved(str(value), self._key.days(self._owner)) for value in _values(element)]
        if not all(moved):
            self._remove(ds, tag)
        elif moved:
            self._counts["dates"] += 1
            element.value = moved if len(moved) > 1 else moved[0]

    def _tells(self, element: DataElement) -> bool:
        """Whether an element quotes the patient's name, number or the like."""
        text = " ".join(str(value) for value in _values(element)).casefold()
        return any(word in text for word in self._words)

    def _declare(self, ds: Dataset) -> None:
        """Say what was done (PS3.15 E.1.1, PS3.3 C.7.1.1, CID 7050)."""
        done = [BASIC_PROFILE, MODIFIED_DATES]
        if self._keep:
            done.append(KEPT_CHARACTERISTICS)
        ds.PatientIdentityRemoved = "YES"
        ds.LongitudinalTemporalInformationModified = "MODIFIED"
        ds.DeidentificationMethod = "scanline: PS3.15 basic profile, dates moved; pixels not cleaned"
        ds.DeidentificationMethodCodeSequence = Sequence([_code(value, meaning) for value, meaning in done])


@cache
def _library() -> dict[str, Action]:
    """The functions of dicom-anonymizer by name."""
    return {action.__name__: action for action in _table().values()}


@cache
def _table() -> dict[tuple[int, ...], Action]:
    """Table E.1-1 of PS3.15 2024b: tag (or tag and mask) -> function of dicom-anonymizer."""
    try:
        from dicomanonymizer.simpledicomanonymizer import initialize_actions_2024b  # type: ignore[import-untyped]
    except ImportError:
        raise UsageError("de-identifying needs further packages: pip install 'scanline[pacs]'") from None
    return dict(initialize_actions_2024b())


@cache
def _action(tag: BaseTag) -> str | None:
    """The profile's action, by the name of dicom-anonymizer's function; None for what it does not list."""
    table = _table()
    found = table.get((tag.group, tag.element))
    if found is None:
        for known, action in table.items():
            if len(known) == 4 and tag.group & known[2] == known[0] and tag.element & known[3] == known[1]:
                found = action
    return found.__name__ if found else None


def _values(element: DataElement) -> list[object]:
    value = element.value
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, MultiValue | list) else [value]


def _words(ds: Dataset) -> Iterator[str]:
    """What identifies the patient and those around, in pieces that are long enough to be looked for."""
    for name in PERSONAL:
        for word in re.split(r"[\^=\\\s,;]+", text_in(ds, name).casefold()):
            if len(word) >= 4:
                yield word


def _moved(text: str, days: int) -> str:
    """A DA or DT value, moved; empty where it is no date. A year alone, or year and month, becomes a whole date."""
    match = re.fullmatch(r"(\d{4})(\d{2})?(\d{2})?(.*)", text.strip())
    try:
        moved = date(int(match[1]), int(match[2] or 1), int(match[3] or 1)) + timedelta(days) if match else None
    except (ValueError, OverflowError):
        return ""
    return f"{moved:%Y%m%d}{match[4]}" if moved and match else ""


def _is_over_89(age: str) -> bool:
    """Whether an age (AS: 090Y, 012M, 100D) is one that so few people reach that it may tell who it is."""
    match = re.fullmatch(r"(\d{1,3})Y", age.strip())
    return match is not None and int(match[1]) > 89


def _code(value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
    return item
