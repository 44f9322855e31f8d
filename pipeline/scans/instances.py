"""What the search keeps of a DICOM file: identity, place, and what tells it apart from others at its place."""

import re
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from pipeline.domain import Reason, ScanError
from pipeline.scans.content import SECONDARY_CAPTURE, check_human, content_warnings, side_of
from pipeline.scans.diffusion import b_value_of, direction_of
from pipeline.scans.headers import Header
from pipeline.scans.imageless import LostSliceError, check_is_image, class_name
from pipeline.scans.values import numbers_of

# fmt: off
SINGLE_MODALITIES = frozenset({
    "BI", "CR", "DG", "DOC", "DX", "ES", "GM", "HC", "IO", "IVOCT", "IVUS", "LS", "MG", "OCT", "OP", "OPM", "OT",
    "PX", "RF", "RG", "RTIMAGE", "SC", "SM", "TG", "US", "XA", "XC",
})
# fmt: on
"""Modalities of which each file is a picture of its own, whatever its series."""

RADIOGRAPHS = frozenset({"CR", "DX", "DR", "IO", "MG", "PX", "RG"})
"""Modalities of single projections, of which a study may hold several views."""
SLICE_MODALITIES = frozenset({"CT", "MR", "PT"})
"""Modalities whose slices are worth nothing without their place."""

GE_COMPONENTS = {0.0: "MAGNITUDE", 1.0: "PHASE", 2.0: "REAL", 3.0: "IMAGINARY"}
"""What GE's raw data type (0043,102F) stands for."""

MOSAICS = frozenset({"MOSAIC", "VFRAME"})
"""Values of ImageType by which Siemens and United Imaging mark a mosaic."""


@dataclass(frozen=True, slots=True)
class Plane:
    """One slice: where it lies, and what tells it apart from others at its place.

    Attributes:
        orientation: ImageOrientationPatient, None where the slice has no place in the patient.
        position: ImagePositionPatient in mm, LPS+; None likewise.
        spacing: Distance between rows, then between columns, in mm; None where unknown.
        size: Rows, columns.
        traits: Name -> value of what makes volumes differ: image type, echo, b-value, ...; "" where absent.
        moments: Name -> number by which volumes follow each other in time; only their order counts.
        frame: Index in the file.
    """

    orientation: tuple[float, ...] | None
    position: tuple[float, ...] | None
    spacing: tuple[float, ...] | None
    size: tuple[int, int]
    traits: tuple[tuple[str, str], ...] = ()
    moments: tuple[tuple[str, float | None], ...] = ()
    n_moments: int = 0
    frame: int = 0


class Extent(NamedTuple):
    """Number of slices of a volume, 0 where unknown, and the distance between their centres in mm."""

    n_slices: int
    slice_spacing_mm: float | None


@dataclass(frozen=True, slots=True)
class Instance:
    """One DICOM file.

    Attributes:
        frames: Number of frames.
        volumes: Names of the volumes in a multi-frame file ("" for a single one).
        order: Acquisition and instance number, by which whole volumes follow each other.
        description: SeriesDescription; it may quote anything and is never shown.
        extents: Of each of `volumes`; empty where the header does not tell.
        is_part: Whether its object goes on in other files (concatenation, PS3.3 C.7.6.16.2.2.4).
    """

    path: Path
    plane: Plane
    sop_uid: str
    sop_class: str
    series_uid: str
    study_uid: str = field(repr=False)
    patient_id: str = field(repr=False)
    accession_number: str = field(repr=False)
    modality: str
    body_part: str
    acquired: str = field(repr=False)
    sex: str = field(repr=False)
    age: float | None = field(repr=False)
    manufacturer: str
    model_name: str
    transfer_syntax: str
    frame_of_reference: str
    image_type: tuple[str, ...]
    frames: int
    volumes: tuple[str, ...]
    order: tuple[int, int]
    warnings: tuple[str, ...]
    description: str = field(default="", repr=False)
    contrast_agent: bool = False
    view: str = ""
    side: str = ""
    extents: tuple[Extent, ...] = ()
    is_part: bool = False

    @property
    def is_localizer(self) -> bool:
        """Whether it calls itself a localizer."""
        return "LOCALIZER" in self.image_type

    @property
    def is_whole(self) -> bool:
        """Whether this one file holds many slices: multi-frame, or a mosaic."""
        return self.frames > 1 or self.is_mosaic

    @property
    def is_mosaic(self) -> bool:
        """Whether the slices of a volume lie as tiles in one picture (Siemens, United Imaging)."""
        return self.frames == 1 and not MOSAICS.isdisjoint(self.image_type)

    @property
    def is_single(self) -> bool:
        """Whether the file is a picture of its own, not a slice of a series."""
        placed = self.plane.position is not None and self.plane.orientation is not None
        if self.sop_class.startswith(SECONDARY_CAPTURE) or self.modality in SINGLE_MODALITIES:
            return not self.is_whole or not placed
        return not placed and not self.is_whole and self.modality not in SLICE_MODALITIES


NO_AGENT = frozenset({"", "NO", "NONE", "N", "0", "UNKNOWN"})
"""Words in Contrast/Bolus Agent (PS3.3 C.7.6.4) that name none."""


def instance_of(header: Header) -> Instance:
    """What the search keeps of a file.

    Raises:
        NotAScan: If it is a DICOM object without image (report, segmentation, plan, directory ...).
        ScanError: If an image lacks what every image must have; LostSliceError, if it names a series of slices.
    """
    try:
        return _instance_of(header)
    except ScanError as error:
        series_uid = header.text("SeriesInstanceUID")
        # vendors put objects of private classes beside the slices
        if not series_uid or header.text("Modality").upper() not in SLICE_MODALITIES or not class_name(header):
            raise
        raise LostSliceError(error.reason, error.detail, series_uid) from None


def _instance_of(header: Header) -> Instance:
    check_is_image(header)
    if not header.text("SOPInstanceUID"):
        raise ScanError(Reason.MISSING_ATTRIBUTE, "SOPInstanceUID is missing")
    if not header.text("SeriesInstanceUID") and header.text("Modality").upper() in SLICE_MODALITIES:
        raise ScanError(Reason.MISSING_ATTRIBUTE, "SeriesInstanceUID is missing; its slices can't be brought together")
    check_human(header)
    acquired = re.sub(r"\D", "", header.text("StudyDate") or header.text("SeriesDate"))[:8]
    return Instance(
        path=header.path,
        plane=plane_of(header),
        sop_uid=header.text("SOPInstanceUID"),
        sop_class=header.text("SOPClassUID"),
        series_uid=header.text("SeriesInstanceUID"),
        study_uid=header.text("StudyInstanceUID"),
        patient_id=header.text("PatientID"),
        accession_number=header.text("AccessionNumber"),
        modality=header.text("Modality").upper(),
        body_part=header.text("BodyPartExamined").upper(),
        acquired=acquired,
        sex=header.text("PatientSex").upper(),
        age=_age(header, acquired),
        manufacturer=header.text("Manufacturer"),
        model_name=header.text("ManufacturerModelName"),
        transfer_syntax=str(header.transfer_syntax),
        frame_of_reference=header.text("FrameOfReferenceUID"),
        image_type=header.image_type,
        frames=header.frames,
        volumes=("",),
        order=(int(header.number("AcquisitionNumber") or 0), int(header.number("InstanceNumber") or 0)),
        warnings=content_warnings(header),
        description=header.text("SeriesDescription"),
        contrast_agent=header.text("ContrastBolusAgent").upper() not in NO_AGENT,
        view=header.text("ViewPosition").upper(),
        side=side_of(header),
        is_part=bool(header.text("ConcatenationUID")) and header.number("InConcatenationTotalNumber") != 1,
    )


def place_of(
    header: Header,
    traits: tuple[tuple[str, str], ...] = (),
    moments: tuple[tuple[str, float | None], ...] = (),
    n_moments: int = 0,
) -> Plane:
    """The slice of a single-frame file; by itself without what tells it apart from others at its place."""
    orientation, position = header.numbers("ImageOrientationPatient"), header.numbers("ImagePositionPatient")
    spacing = header.numbers("PixelSpacing")
    if not spacing and header.text("Modality").upper() not in SLICE_MODALITIES:
        spacing = header.numbers("ImagerPixelSpacing")  # at the detector: for a slice it says nothing
    return Plane(
        orientation=orientation if len(orientation) == 6 else None,
        position=position if len(position) == 3 else None,
        spacing=spacing if len(spacing) == 2 else None,
        size=(header.whole("Rows"), header.whole("Columns")),
        traits=traits,
        moments=moments,
        n_moments=n_moments,
    )


def plane_of(header: Header) -> Plane:
    """The slice of a single-frame file."""
    acquisition = header.text("AcquisitionNumber")
    return place_of(
        header,
        traits=(
            ("type", "/".join(header.image_type[2:])),
            ("origin", "/".join(header.image_type[:2])),
            ("echo", short(header.number("EchoTime")) or header.text("EchoNumbers")),
            ("inversion", short(header.number("InversionTime"))),
            ("component", _component(header)),
            ("b", short(b_value_of(header))),
            ("direction", direction_of(header)),
            ("acquisition", acquisition),
            ("kvp", short(header.number("KVP"))),
            ("pass", acquisition if header.text("Modality").upper() == "CT" else ""),
            ("kernel", header.text("ConvolutionKernel").replace("\\", "/")),
        ),
        moments=(
            ("phase", header.number("TemporalPositionIdentifier")),
            ("delay", header.number("NominalCardiacTriggerDelayTime")),
            ("percent", header.number("NominalPercentageOfCardiacPhase")),
            ("frame", header.number("FrameReferenceTime")),
            ("trigger", header.number("TriggerTime")),
            ("acquisition", next(iter(numbers_of(acquisition)), None)),
            ("time", _seconds(header.text("AcquisitionDate"), header.text("AcquisitionTime"))),
            ("content", _seconds(header.text("ContentDate"), header.text("ContentTime"))),
            ("instance", header.number("InstanceNumber")),
        ),
        n_moments=int(header.number("NumberOfTemporalPositions") or 0),
    )


def _age(header: Header, acquired: str) -> float | None:
    match = re.fullmatch(r"(\d{1,3})([DWMY])", header.text("PatientAge").upper())
    if match:
        return round(int(match[1]) * {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1}[match[2]], 2)
    born = re.sub(r"\D", "", header.text("PatientBirthDate"))
    if len(born) == 8 and len(acquired) == 8:
        years = (int(acquired) - int(born)) // 10_000
        return float(years) if 0 <= years <= 130 else None
    return None


def _component(header: Header) -> str:
    """Which part of the complex signal it shows: the standard's ComplexImageComponent, or GE's (0043,102F)."""
    component = header.text("ComplexImageComponent").upper()
    number = header.private_numbers(0x0043102F)
    if not component and number and header.text("Manufacturer").upper().startswith("GE"):
        component = GE_COMPONENTS.get(number[0], "")
    return component


def _seconds(date: str, time: str) -> float | None:
    """Seconds of a DICOM date (YYYYMMDD) and time (HHMMSS.FFFFFF); since midnight where the date is none."""
    digits = time.replace(":", "")
    if not re.fullmatch(r"\d{6}(\.\d*)?", digits):
        return None
    return _day(date) * 86_400 + int(digits[:2]) * 3600 + int(digits[2:4]) * 60 + float(digits[4:])


@lru_cache
def _day(date: str) -> int:
    try:
        return datetime.strptime(date.replace(".", ""), "%Y%m%d").toordinal()
    except ValueError:
        return 0


def short(number: float | None) -> str:
    """A number as it stands in a group's name."""
    return "" if number is None else f"{number:g}"
