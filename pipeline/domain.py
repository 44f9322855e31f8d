"""The nouns of the program: scans, volumes, rejections, predictions. No I/O and no torch lives here."""

import re
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import ClassVar, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict

Affine: TypeAlias = NDArray[np.float64]
"""4x4 matrix that maps a voxel index (i, j, k, 1) to millimetres in the patient's RAS+ frame."""

Voxels: TypeAlias = NDArray[np.float32]
"""Intensities [i, j, k], or [i, j, k, 3] in colour."""

Kind: TypeAlias = Literal["dicom", "nifti", "image"]
"""Which reader a scan needs."""


class Reason(StrEnum):
    """Why a scan was refused, or not selected. A closed list: tables, logs and tests rely on these codes."""

    NOT_AN_IMAGE = "not_an_image"
    NOT_DICOM = "not_dicom"
    NON_IMAGE = "non_image"
    NO_SCANS = "no_scans"
    IO_ERROR = "io_error"
    WRONG_EXTENSION = "wrong_extension"
    TRUNCATED = "truncated"
    LENGTH_MISMATCH = "length_mismatch"
    SIZE_MISMATCH = "size_mismatch"
    MALFORMED = "malformed"
    CHECKSUM = "checksum"
    TOO_LARGE = "too_large"
    MISSING_ATTRIBUTE = "missing_attribute"
    BAD_HEADER = "bad_header"
    BAD_DIMENSIONS = "bad_dimensions"
    BAD_BITS = "bad_bits"
    BAD_RESCALE = "bad_rescale"
    BAD_SPACING = "bad_spacing"
    BAD_GEOMETRY = "bad_geometry"
    DIMS_MISMATCH = "dims_mismatch"
    UNSUPPORTED_TRANSFER_SYNTAX = "unsupported_transfer_syntax"
    UNSUPPORTED_PIXELS = "unsupported_pixels"
    COLOUR_NOT_SUPPORTED = "colour_not_supported"
    DECODER_CRASH = "decoder_crash"
    TIMEOUT = "timeout"
    NON_FINITE = "non_finite"
    BLANK = "blank"
    MIXED_UNITS = "mixed_units"
    MIXED_PATIENTS = "mixed_patients"
    MIXED_GEOMETRY = "mixed_geometry"
    MISSING_SLICES = "missing_slices"
    CONFLICTING_SLICES = "conflicting_slices"
    AMBIGUOUS_VOLUME = "ambiguous_volume"
    FOUR_DIMENSIONS = "4d"
    GANTRY_TILT = "gantry_tilt"
    NO_GEOMETRY = "no_geometry"
    NO_SPACING = "no_spacing"
    NO_ORIENTATION = "no_orientation"
    ORIENTATION_CONFLICT = "orientation_conflict"
    TOO_FEW_SLICES = "too_few_slices"
    NOT_ONE_SLICE = "not_one_slice"
    MODALITY = "modality"
    BODY_PART = "body_part"
    VIEW = "view"
    NON_HUMAN = "non_human"
    DERIVED = "derived"
    SLICE_SPACING = "slice_spacing"
    DESCRIPTION = "description"
    NOT_PREFERRED = "not_preferred"
    BAD_ARCHIVE = "bad_archive"
    PACS_UNREACHABLE = "pacs_unreachable"
    PACS_TIMEOUT = "pacs_timeout"
    PACS_DENIED = "pacs_denied"
    PACS_INCOMPLETE = "pacs_incomplete"
    PACS_MALFORMED = "pacs_malformed"
    PACS_WRONG_INSTANCE = "pacs_wrong_instance"
    FAULT = "fault"


class UsageError(ValueError):
    """Wrong use: settings, tables or folders that can't be worked with. The text says what was expected and found."""


class ScanError(Exception):
    """A scan that was refused.

    Attributes:
        reason: The code that goes into tables.
        detail: One or two sentences (expected, found, what to do), free of patient data and of paths.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason.value}: {detail}")
        self.reason, self.detail = reason, detail

    def __reduce__(self) -> tuple[type[Self], tuple[Reason, str]]:
        """Rebuild from both arguments, so that the error crosses process borders."""
        return type(self), (self.reason, self.detail)


@dataclass(frozen=True, slots=True)
class Rejection:
    """A scan that was refused, as a row.

    Attributes:
        path: The file, or the folder that holds the `files` of a refused series, which agree on `ids` (fields of Scan).
    """

    path: Path
    reason: Reason
    detail: str
    scan_id: str = ""
    files: tuple[Path, ...] = ()
    ids: dict[str, str] = field(default_factory=dict, repr=False, hash=False)


@dataclass(frozen=True, slots=True)
class Scan:
    """What can become one Volume: found, not read. Identity fields stay out of `repr`.

    Attributes:
        scan_id: 16 hex digits, the same on every machine (`pipeline.scans.find.scan_id_of`).
        path: The file, or the deepest folder that holds all its files.
        paths: The files to read, one an instance, sorted by name.
        aliases: Further copies of the same instances; a row of labels.csv may name any of them.
        acquired: Study date, YYYYMMDD, empty where unknown.
        group: What tells volumes of one series apart (echo, time, b-value, geometry); empty for a series of one volume.
        age: In years, None where unknown.
        warnings: Stable codes, for example `localizer_dropped`.
        n_slices: As the headers tell, 0 where they don't.
        slice_spacing_mm: Median distance between slice centres, None where unknown or for a single slice.
        description: SeriesDescription, which may quote anything: matched against the rules, never shown.
        view: ViewPosition of a radiograph ("PA", "LL"), empty where it names none.
        side: Which of the patient's sides it shows: "L", "R", "B" (both), empty where unknown, none or contradicted.
        contrast_agent: Whether the header names one; what it calls it is not kept.
    """

    scan_id: str
    path: Path
    paths: tuple[Path, ...]
    kind: Kind
    aliases: tuple[Path, ...] = ()
    patient_id: str = field(default="", repr=False)
    accession_number: str = field(default="", repr=False)
    study_uid: str = field(default="", repr=False)
    series_uid: str = field(default="", repr=False)
    modality: str = ""
    body_part: str = ""
    acquired: str = field(default="", repr=False)
    group: str = ""
    sex: str = field(default="", repr=False)
    age: float | None = field(default=None, repr=False)
    manufacturer: str = ""
    model_name: str = ""
    warnings: tuple[str, ...] = ()
    n_slices: int = 0
    slice_spacing_mm: float | None = None
    description: str = field(default="", repr=False)
    contrast_agent: bool = False
    view: str = ""
    side: str = ""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a scan shows, for the reader's banner only: never logged, cached on disk or put into a URL."""

    patient_name: str = field(default="", repr=False)
    patient_id: str = field(default="", repr=False)
    birth_date: str = field(default="", repr=False)
    study_date: str = field(default="", repr=False)
    accession_number: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Volume:
    """Voxels and where they lie.

    The axes are those of the scan, flipped and swapped (never interpolated) until i, j, k run as near as possible
    to Right, Anterior, Superior. A picture without a patient frame counts as an axial slice seen from the feet:
    its columns run to the Left, its rows to Posterior.

    Attributes:
        voxels: float32 [i, j, k], or [i, j, k, 3] for colour.
        affine: 4x4, voxel index to RAS+ millimetres.
        unit: "HU", "SUVbw" or "a.u." (arbitrary, or not known).
        orientation: Axis codes of the grid as it was stored, for example "LPS".
        warnings: Stable codes, for example `no_rescale`.
    """

    voxels: Voxels
    affine: Affine
    unit: str = "a.u."
    orientation: str = "RAS"
    warnings: tuple[str, ...] = ()

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distances between voxel centres along i, j and k."""
        i, j, k = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(i), float(j), float(k)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along i, j and k."""
        i, j, k = self.voxels.shape[:3]
        return i, j, k

    def with_warnings(self, *codes: str) -> "Volume":
        """The same volume with further warnings, each once."""
        return replace(self, warnings=tuple(dict.fromkeys((*self.warnings, *codes))))


@dataclass(frozen=True, slots=True)
class ReadRules:
    """How scans are read and chosen; part of the config and of the model folder."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    allow_gaps: bool = False
    """Resample a series with missing slices or uneven spacing on an even grid instead of refusing it."""
    straighten_tilt: bool = False
    """Resample a stack with gantry tilt on a straight grid instead of keeping the tilt as a shear of the affine."""
    assume_ras: bool = False
    """Take a NIfTI file without sform and qform for RAS+ instead of refusing it."""
    modalities: tuple[str, ...] = ()
    """Accepted DICOM modalities, for example CT; empty accepts all. Training fills it from its own scans."""
    allow_unknown_modality: bool = True
    """Accept scans that have no modality at all (NIfTI, PNG)."""
    body_parts: tuple[str, ...] = ()
    """Accepted values of BodyPartExamined, for example CHEST; empty accepts all. Scans that name none are accepted."""
    views: tuple[str, ...] = ()
    """Accepted values of ViewPosition, for example PA and AP; empty accepts all. Scans that name none are accepted."""
    min_slices: int = 1
    """Refuse volumes of fewer slices."""
    slice_spacing_mm: tuple[float, float] | None = None
    """Smallest and largest distance between slice centres that is accepted; empty accepts all."""
    description: str = ""
    """Regular expression (case does not count) that a DICOM scan's SeriesDescription must match somewhere, for example
    "lung|thorax"; empty accepts all. Only the match is used: descriptions are never written down."""
    select: Literal["all", "one"] = "all"
    """all: every accepted scan; one: only the best of each study."""
    prefer: Literal["thinnest", "most_slices"] = "thinnest"
    """Which accepted scan of a study is the best for `select: one`: the smallest slice spacing, or the most slices."""
    max_voxels: int = 2_000_000_000
    """Refuse larger volumes before anything is allocated."""

    def __post_init__(self) -> None:
        """Refuse rules that no scan could meet.

        Raises:
            UsageError: Naming the rule.
        """
        if self.slice_spacing_mm is not None and not 0 <= self.slice_spacing_mm[0] <= self.slice_spacing_mm[1]:
            raise UsageError("read.slice_spacing_mm needs the smallest, then the largest distance in mm")
        try:
            re.compile(self.description)
        except re.error as error:
            raise UsageError(f"read.description is no regular expression: {error}") from None


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A threshold that was fixed before the test set was opened.

    A scan is positive when its calibrated probability is at least the threshold.
    """

    finding: str
    threshold: float
    target: str
    chosen_on: str = "tune"


@dataclass(frozen=True, slots=True)
class Prediction:
    """What one model says about one scan.

    Attributes:
        probabilities: Finding -> calibrated probability.
        positive: Finding -> probability at or above the operating point; absent where the model has none.
        uncertainty: Binary entropy of the calibrated probability in bits, the largest over the findings.
        spread: Standard deviation over the ensemble's members (largest over findings), 0 for a single model.
        in_distribution: None where the model has no gate.
        model: Name and hash of the model folder.
    """

    scan_id: str
    probabilities: dict[str, float]
    positive: dict[str, bool]
    uncertainty: float
    spread: float
    in_distribution: bool | None
    warnings: tuple[str, ...]
    model: str
