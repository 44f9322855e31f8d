"""What a DICOM header says about the content of its pixels: whose they are, which side, and what else they may show."""

import re

from pydicom.dataelem import RawDataElement

from pipeline.domain import Reason, ScanError
from pipeline.scans.headers import Header, text_in
from pipeline.scans.values import tag_of

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"

HUMAN = re.compile(r"homo|human", re.IGNORECASE)
HUMAN_CODES = frozenset({"337915000", "L-85B00"})
"""Homo sapiens in SNOMED CT, and in the older SRT (PS3.16 CID 7454)."""

LITTLE = 1.1
"""Magnification up to which distances at the detector pass for the patient's: that of a chest radiograph."""

PROJECTIONS = frozenset({"CR", "DX", "MG"})
PAIRED = frozenset({
    "ANKLE", "ARM", "BREAST", "CALCANEUS", "CLAVICLE", "ELBOW", "EYE", "FEMUR", "FINGER", "FOOT", "FOREARM", "HAND",
    "HIP", "HUMERUS", "KNEE", "LEG", "PATELLA", "SCAPULA", "SHOULDER", "THIGH", "THUMB", "TOE", "WRIST",
})  # fmt: skip
"""Parts that a patient has on either side (PS3.16 annex L)."""

SIDE_IN_VIEW = re.compile(r"^([LR])[ _-]?(?:CC|MLO|ML|LM|XCCL|XCCM|LMO)\b|\b([LR])(?:EFT|IGHT)?\b")
"""The side in a ViewPosition such as "R MLO" or "LEFT LAT"; "LL" and "RLO" name directions, not sides."""


def content_warnings(header: Header) -> tuple[str, ...]:
    """The codes `derived`, `burned_in`, `executable_preamble`, `laterality` and `phantom`, where they hold."""
    says = {
        "derived": header.text("SOPClassUID").startswith(SECONDARY_CAPTURE) or header.image_type[:1] == ("DERIVED",),
        "burned_in": header.text("BurnedInAnnotation").upper() == "YES",
        "executable_preamble": header.preamble[:2] == b"MZ" or header.preamble[:4] == b"\x7fELF",
        "laterality": _side_is_doubtful(header),
        "phantom": _is_phantom(header),
    }
    return tuple(code for code, holds in says.items() if holds)


def check_human(header: Header) -> None:
    """Refuse what shows an animal.

    Raises:
        ScanError: non_human.
    """
    species = header.text("PatientSpeciesDescription")
    codes = header.items("PatientSpeciesCodeSequence")
    coded = any(text_in(code, "CodeValue") not in HUMAN_CODES for code in codes)
    if (species and not HUMAN.search(species)) or coded:
        raise ScanError(Reason.NON_HUMAN, "the header names another species than human")


def is_magnified(header: Header) -> bool:
    """Whether a picture's only pixel spacing is that at the detector, and the patient's may be quite another.

    Projection magnifies by (source to detector) / (source to patient) (PS3.3 C.8.11.5). A breast lies on its
    detector, unless the header names a factor.
    """
    if header.numbers("PixelSpacing"):
        return False
    factor = header.number("EstimatedRadiographicMagnificationFactor")
    detector, patient = header.number("DistanceSourceToDetector"), header.number("DistanceSourceToPatient")
    if not factor and detector and patient:
        factor = detector / patient
    if not factor and header.text("Modality").upper() == "MG":
        factor = 1.0
    return not factor or not 1 <= factor <= LITTLE


def side_of(header: Header) -> str:
    """The side that a picture shows: "L", "R", "B" (both); empty where the header names none, or contradicts itself."""
    sides = _sides(header) | {word for word in _laterality(header) if word == "B"}
    return min(sides) if len(sides) == 1 else ""


def _side_is_doubtful(header: Header) -> bool:
    """Whether the header contradicts itself about left and right, or is silent where it must say (PS3.3 C.7.3.1)."""
    sides = _sides(header)
    modality = header.text("Modality").upper()
    must_say = modality == "MG" or (modality in PROJECTIONS and header.text("BodyPartExamined").upper() in PAIRED)
    return len(sides) > 1 or (must_say and not sides and not any(_laterality(header)))


def _sides(header: Header) -> set[str]:
    """Every side, L or R, that some element names."""
    view = SIDE_IN_VIEW.search(header.text("ViewPosition").upper())
    return {word for word in _laterality(header) if word in ("L", "R")} | ({view[1] or view[2]} if view else set())


def _laterality(header: Header) -> list[str]:
    return [header.text(keyword).upper() for keyword in ("Laterality", "ImageLaterality")]


def _is_phantom(header: Header) -> bool:
    name = header.raw.get(tag_of("PatientName"))
    spelled = name.value if isinstance(name, RawDataElement) else b""  # the bytes, whatever their character set
    words = (*header.image_type, *map(header.text, ("BodyPartExamined", "PatientID", "SeriesDescription")))
    says = any("PHANTOM" in word.upper() for word in words) or b"PHANTOM" in (spelled or b"").upper()
    return says or header.text("QualityControlImage").upper() == "YES"
