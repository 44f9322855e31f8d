"""What is asked of a PACS, and where it is: addresses, queries, UIDs. Opens no connection."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

from pipeline.domain import Reason, ScanError, UsageError

ADDRESS = re.compile(r"(dicomweb|dicomwebs|dicomweb\+https):/{1,2}(?=[^/])(?P<rest>.+)")
"""One slash is enough: a path's form of an address has no more."""

OF_STUDY = ("StudyInstanceUID", "StudyDate", "AccessionNumber", "PatientID", "StudyDescription", "ModalitiesInStudy")
OF_SERIES = ("SeriesInstanceUID", "Modality", "SeriesDescription", "BodyPartExamined", "SeriesNumber")
"""Attributes that a query may name (PS3.18 tables 10.6.1-5 and 10.6.1-6)."""


NOT_IMAGES = frozenset(
    {"SR", "PR", "KO", "SEG", "RTSTRUCT", "RTPLAN", "RTDOSE", "RTRECORD", "REG", "FID", "DOC", "PLAN", "AU", "ECG"}
)
"""Modalities of series that hold no scan."""


@dataclass(frozen=True, slots=True)
class Study:
    """A study as the PACS lists it; identity stays out of `repr`."""

    study_uid: str = field(repr=False)
    date: str = field(default="", repr=False)
    modalities: tuple[str, ...] = ()
    description: str = field(default="", repr=False)
    patient_id: str = field(default="", repr=False)
    patient_name: str = field(default="", repr=False)
    accession_number: str = field(default="", repr=False)
    n_instances: int = 0


@dataclass(frozen=True, slots=True)
class Series:
    """A series as the PACS lists it; n_instances is 0 where it does not say."""

    study_uid: str = field(repr=False)
    series_uid: str = field(repr=False)
    modality: str = ""
    body_part: str = ""
    description: str = field(default="", repr=False)
    n_instances: int = 0

    @property
    def name(self) -> str:
        """What folders and logs call it: 16 hex digits."""
        return opaque(self.series_uid)


@dataclass(frozen=True, slots=True)
class Query:
    """Which studies, and which series of them: attribute -> value, with DICOM's * and ? and ranges of dates."""

    of_study: Mapping[str, str] = field(default_factory=dict, repr=False)
    of_series: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def parsed(cls, text: str) -> "Query":
        """The query "Modality=CT&StudyDate=20260101-20260131".

        Raises:
            UsageError: If it can't be understood or asks for nothing: a whole PACS is no batch.
        """
        pairs = parse_qsl(text, keep_blank_values=True)
        given, known = dict(pairs), (*OF_STUDY, *OF_SERIES)
        problems = [f"{key} is not known" for key in given if key not in known]
        problems += [f"{key} is empty" for key, value in given.items() if not value.strip()]
        problems += [f"{key} is given twice" for key in given if [k for k, _ in pairs].count(key) > 1]
        date = given.get("StudyDate", "")
        if date and not re.fullmatch(r"\d{8}|\d{8}-(\d{8})?|-\d{8}", date):
            problems.append("StudyDate must be YYYYMMDD, or a range YYYYMMDD-YYYYMMDD")
        if problems or not given:
            why = "; ".join(problems) or "it is empty"
            raise UsageError(
                f"--query: {why}. Expected Attribute=value, several joined by &, of {', '.join(known)}; "
                'for example "Modality=CT&StudyDate=20260101-20260131"'
            )
        of_study = {key: value for key, value in given.items() if key in OF_STUDY}
        of_series = {key: value for key, value in given.items() if key in OF_SERIES}
        if "Modality" in of_series:
            of_study.setdefault("ModalitiesInStudy", of_series["Modality"])
        return cls(of_study, of_series)


def is_address(text: str) -> bool:
    """Whether a text names a PACS, not a folder."""
    return ADDRESS.fullmatch(text) is not None


def http_url(address: str) -> str:
    """The http(s) address of dicomweb://host:port/path (http) or dicomwebs://, dicomweb+https:// (https).

    Raises:
        UsageError: If it is none, or holds credentials.
    """
    match = ADDRESS.fullmatch(address)
    if match is None:
        raise UsageError("a PACS is named dicomweb://host:port/path (http) or dicomwebs://host:port/path (https)")
    url = f"{'http' if match[1] == 'dicomweb' else 'https'}://{match['rest'].rstrip('/')}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise UsageError("the address of the PACS has no valid port; expected dicomweb://host:port/path") from None
    if parts.username is not None or parts.query or not parts.hostname or port == 0:
        raise UsageError(
            "the address of the PACS must be host, port and path only: put credentials into ~/.netrc, or into "
            "SCANLINE_PACS_USER and SCANLINE_PACS_PASSWORD, and what to look for into --query"
        )
    return url


def matches(wanted: str, found: str) -> bool:
    """Whether a value is what was asked for; servers may ignore a filter. What the server leaves out is believed."""
    if not wanted or not found or re.search(r"[*?]", wanted):
        return True
    if re.fullmatch(r"\d{8}-(\d{8})?|-\d{8}", wanted):
        first, _, last = wanted.partition("-")
        return (not first or found >= first) and (not last or found <= last)
    return found in re.split(r"[,\\]", wanted)


def opaque(uid: str) -> str:
    """16 hex digits for a UID: a file name that tells nothing and leads nowhere."""
    return hashlib.sha256(str(uid).encode()).hexdigest()[:16]


def checked_uid(value: object) -> str:
    """A UID as it may be used in further requests.

    Raises:
        ScanError: malformed.
    """
    text = str(value or "")
    if not re.fullmatch(r"[0-9][0-9.]{0,63}", text):
        raise ScanError(Reason.MALFORMED, "the PACS names an object by something that is no UID")
    return text
