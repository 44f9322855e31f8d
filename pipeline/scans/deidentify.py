"""One DICOM image without its patient: PS3.15 basic profile (table E.1-1), consistent by a key that stays at home.

dicom-anonymizer brings the table and the dummy values, but walks the top level only, forgets its UIDs when it ends and
keeps what the table does not know; so the walk, UIDs, dates and what the table leaves open are ours. No element is
believed to be what it is written as: a file may write a name as a time, and a UID as bytes.
"""

import hmac
import re
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

import pydicom
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag

from pipeline.domain import Reason, ScanError
from pipeline.scans.boundary import refusing
from pipeline.scans.burned_in import why_burned_in
from pipeline.scans.deflated import check_deflated
from pipeline.scans.elements import PIXEL_TAGS
from pipeline.scans.encoding import encoded
from pipeline.scans.pixel_tail import cut_pixel_tail
from pipeline.scans.profile import TEXT, act, action_of, is_obscure, is_public, is_registered, vrs_of
from pipeline.scans.values import text_in

SHIFTED = frozenset({"DA", "DT"})
CHARACTERISTICS = ("PatientSex", "PatientAge", "PatientSize", "PatientWeight")
PERSONAL = (
    *("PatientName", "PatientID", "OtherPatientIDs", "OtherPatientNames", "PatientBirthName", "PatientMotherBirthName"),
    *("PatientBirthDate", "AccessionNumber", "PatientAddress", "PatientTelephoneNumbers", "ReferringPhysicianName"),
    *("PerformingPhysicianName", "OperatorsName", "PhysiciansOfRecord", "RequestingPhysician", "InstitutionName"),
    *("StudyID", "AdmissionID", "MilitaryRank", "EthnicGroup", "Occupation", "PatientReligiousPreference"),
)
"""Their words are looked for in all that is left."""
HIDDEN_DATES = re.compile("Birth|Death")
TIME = re.compile(r"[\d:. -]*")
DOTTED = re.compile(r"(?<![\d.])\d+(?:\.\d+)+")
UID_LIKE = re.compile(r"(?=.{14})\d+(?:\.\d+){4,}")
"""What is taken for a UID in a text; UIDs that the file's own elements name are known, whatever they look like."""
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
        self._words, self._objects = set(_words(ds)), set(_objects(ds))
        self._counts = dict.fromkeys(("removed", "emptied", "replaced", "uids", "dates", "words"), 0)

    def result(self) -> Cleaned:
        """The cleaned file."""
        ds, key = self._ds, self._key
        burned_in, modality = why_burned_in(ds), text_in(ds, "Modality")
        characteristics = {name: deepcopy(ds[name]) for name in CHARACTERISTICS if self._keep and self._fits(ds, name)}
        accession, syntax = text_in(ds, "AccessionNumber"), ds.file_meta.TransferSyntaxUID
        uids = [text_in(ds, name) for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")]
        self._clean(ds)
        self._counts["removed"] += cut_pixel_tail(ds)
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

    def _fits(self, ds: Dataset, name: str) -> bool:
        """Whether an element is there, and is written as the standard says."""
        return name in ds and ds[name].VR in vrs_of(ds[name].tag) and not self._tells(ds[name])

    def _clean(self, ds: Dataset) -> None:
        """Apply the profile to a dataset and to all within it."""
        for tag in list(ds.keys()):
            self._clean_element(ds, tag, ds[tag])

    def _clean_element(self, ds: Dataset, tag: BaseTag, element: DataElement) -> None:
        action, says = action_of(tag), vrs_of(tag)
        if element.VR == "SQ":
            self._clean_sequence(ds, tag, element, action)
        elif tag.is_private or _is_beside(tag) or (action is None and is_obscure(tag, element.VR)):
            self._remove(ds, tag)
        elif (element.VR == "UI" or "UI" in says) and action != "delete":
            self._map_uids(ds, tag, element)
        elif element.VR in SHIFTED and (action is None or says & SHIFTED) and not HIDDEN_DATES.search(element.keyword):
            self._shift(ds, tag, element)
        elif element.VR == "TM" and "TM" in says and TIME.fullmatch("".join(_texts(element))):
            return  # times of day tell nothing once dates have moved, and series and SUV need them
        elif action == "delete":
            self._remove(ds, tag)
        elif action is not None:
            self._replace(ds, tag, action)
        elif self._tells(element):
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

        It has none for some VRs, and a file may write any element as one of these, the patient's name too. What the
        table lists must not stay.
        """
        try:
            if ds[tag].VR in SHIFTED:  # birth and death; the library would write year 1
                ds[tag].value = ""
            else:
                act(action, ds, tag)
        except NotImplementedError:
            self._remove(ds, tag)
            return
        self._counts["emptied" if "empty" in action else "replaced"] += 1

    def _remove(self, ds: Dataset, tag: BaseTag) -> None:
        self._counts["removed"] += 1
        del ds[tag]

    def _map_uids(self, ds: Dataset, tag: BaseTag, element: DataElement) -> None:
        """Replace UIDs; an element that should hold some, and is written as something else, becomes one that does."""
        values = _texts(element)
        mapped = [v if not v or self._stays(tag, v) else self._key.uid(v) for v in values]
        if mapped != values or (values and element.VR != "UI"):
            self._counts["uids"] += 1
            ds[tag] = DataElement(tag, "UI", mapped if len(mapped) > 1 else mapped[0])

    def _stays(self, tag: BaseTag, uid: str) -> bool:
        return uid not in self._objects and is_public(tag, uid)

    def _shift(self, ds: Dataset, tag: BaseTag, element: DataElement) -> None:
        """Move dates by the patient's own number of days; one that is no date is removed."""
        moved = [_moved(text, self._key.days(self._owner)) for text in _texts(element)]
        if not all(moved):
            self._remove(ds, tag)
        elif moved:
            self._counts["dates"] += 1
            element.value = moved if len(moved) > 1 else moved[0]

    def _tells(self, element: DataElement) -> bool:
        """Whether a text quotes the patient's name, number or the like, or the UID of some object."""
        text = " ".join(_texts(element)).casefold() if element.VR in TEXT else ""
        return any(word in text for word in self._words) or any(
            uid in self._objects or (UID_LIKE.fullmatch(uid) and not is_registered(uid)) for uid in DOTTED.findall(text)
        )

    def _declare(self, ds: Dataset) -> None:
        """Say what was done (PS3.15 E.1.1, PS3.3 C.7.1.1, CID 7050)."""
        done = [BASIC_PROFILE, MODIFIED_DATES]
        if self._keep:
            done.append(KEPT_CHARACTERISTICS)
        ds.PatientIdentityRemoved = "YES"
        ds.LongitudinalTemporalInformationModified = "MODIFIED"
        ds.DeidentificationMethod = "scanline: PS3.15 basic profile, dates moved; pixels not cleaned"
        ds.DeidentificationMethodCodeSequence = Sequence([_code(value, meaning) for value, meaning in done])


def _is_beside(tag: BaseTag) -> bool:
    """Whether an element is padding, or of an overlay: the profile takes its plane, and what is left names that."""
    return tag.group == 0xFFFC or tag.group & 0xFF00 == 0x6000


def _texts(element: DataElement) -> list[str]:
    """The values as text, whatever they are written as."""
    value = element.value
    found = []
    for one in value if isinstance(value, MultiValue | list) else [] if value is None else [value]:
        text = one.decode("latin-1") if isinstance(one, bytes) else str(one)
        found += [word.strip(" \0") for word in text.split("\\")] if text else []
    return found


def _objects(ds: Dataset) -> Iterator[str]:
    """The UIDs that name objects, at every depth."""
    for element in ds:
        if element.tag.is_private:
            continue
        if element.VR == "SQ":
            for item in element.value:
                yield from _objects(item)
        elif element.VR == "UI" or "UI" in vrs_of(element.tag):
            yield from (uid for uid in _texts(element) if uid and not is_public(element.tag, uid))


def _words(ds: Dataset) -> Iterator[str]:
    """What identifies the patient and those around, in pieces that are long enough to be looked for."""
    for name in PERSONAL:
        for word in re.split(r"[\^=\s,;]+", " ".join(_texts(ds[name]) if name in ds else []).casefold()):
            if len(word) >= 4:
                yield word


def _moved(text: str, days: int) -> str:
    """A DA or DT value, moved; empty where it is no date. A year alone, or year and month, becomes a whole date."""
    match = re.fullmatch(r"(\d{4})(?:\.?(\d{2})(?:\.?(\d{2})([\d.]*([+-]\d{4})?))?)?", text.strip())
    try:
        moved = date(int(match[1]), int(match[2] or 1), int(match[3] or 1)) + timedelta(days) if match else None
    except (ValueError, OverflowError):
        return ""
    return f"{moved:%Y%m%d}{match[4] or ''}" if moved and match else ""


def _is_over_89(age: str) -> bool:
    """Whether an age (AS: 090Y, 012M, 100D) is one that so few people reach that it may tell who it is."""
    match = re.fullmatch(r"(\d{1,3})Y", age.strip())
    return match is not None and int(match[1]) > 89


def _code(value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
    return item
