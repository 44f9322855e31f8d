"""What each demo patient's scans look like on paper: identity, scanner, geometry, coding, order. No voxels, no files.

Nothing here knows the labels, so no header can give one away; `labels_of` draws them from a stream of its own.
"""

import hashlib
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum

import numpy as np
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from pipeline.domain import Affine

NIFTI_SHARE = 0.04
"""Share of the patients whose scan is a lone NIfTI file."""
VISIT_SHARES = (0.76, 0.20, 0.04)
"""Shares of the patients with one, two and three studies."""
SCANNERS: dict[str, tuple[tuple[str, str], ...]] = {
    "A": (("SIEMENS", "SOMATOM Definition AS"), ("SIEMENS", "Sensation 64"), ("GE MEDICAL SYSTEMS", "LightSpeed VCT")),
    "B": (("GE MEDICAL SYSTEMS", "Revolution CT"), ("GE MEDICAL SYSTEMS", "LightSpeed VCT"), ("Philips", "iCT 256")),
    "C": (("Philips", "Ingenuity CT"), ("TOSHIBA", "Aquilion ONE"), ("SIEMENS", "SOMATOM Force")),
}
"""Site -> (Manufacturer, ManufacturerModelName) of its scanners."""
SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless, JPEG2000Lossless)
SYNTAX_SHARES = (0.48, 0.2, 0.16, 0.16)
POSITIONS = {"HFS": (1, 1), "FFS": (-1, 1), "HFP": (-1, -1), "FFP": (1, -1)}
"""PatientPosition -> signs of the row direction along Left and of the column direction along Posterior."""
POSITION_SHARES = (0.6, 0.2, 0.1, 0.1)
KERNELS = {"SIEMENS": "B30f", "GE MEDICAL SYSTEMS": "STANDARD", "Philips": "B", "TOSHIBA": "FC08"}


@dataclass(frozen=True)
class Coding:
    """How HU become stored numbers: HU = slope x stored + intercept."""

    bits: int
    signed: bool
    slope: float
    intercept: float


CODINGS = (
    Coding(12, False, 1.0, -1024.0),
    Coding(12, True, 1.0, 0.0),
    Coding(16, False, 1.0, -1024.0),
    Coding(16, False, 1.0, -8192.0),
    Coding(16, False, 0.5, -1024.0),
    Coding(16, True, 1.0, 0.0),
    Coding(16, True, 1.0, -1024.0),
)


class Localizer(StrEnum):
    """Whether a scout image lies beside the slices."""

    NONE = "none"
    SERIES = "series"
    """As a series of its own."""
    IMAGE = "image"
    """Inside the series."""


class Defect(StrEnum):
    """What is broken on purpose."""

    NONE = "none"
    MISSING_SLICE = "missing_slice"
    TRUNCATED_FILE = "truncated_file"


@dataclass(frozen=True)
class Visit:
    """One study with one series of `shape[2]` slices."""

    number: int
    study_date: date
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    thickness_mm: float
    origin_mm: tuple[float, float, float]
    manufacturer: str
    model_name: str
    kvp: int
    exposure_mas: int
    position: str
    syntax: UID
    coding: Coding
    instance_numbers: tuple[int, ...]
    naming: str
    localizer: Localizer
    window: tuple[int, int]
    orientation: str

    @property
    def affine(self) -> Affine:
        """Voxel [i, j, k] of the phantom's RAS+ grid to the scanner's RAS+ frame, in mm."""
        affine = np.diag([*self.spacing_mm, 1.0])
        middle = (np.array(self.shape) - 1) / 2 * np.array(self.spacing_mm)
        affine[:3, 3] = np.round(np.array(self.origin_mm) - middle, 4)
        return affine


@dataclass(frozen=True)
class Patient:
    """One synthetic patient."""

    number: int
    site: str
    sex: str
    birth_date: date
    visits: tuple[Visit, ...]
    as_nifti: bool
    defect: Defect

    @property
    def name(self) -> str:
        """Folder name, and the family of all names and IDs."""
        return f"P{self.number:04d}"

    def age(self, visit: Visit) -> int:
        """Whole years at a visit."""
        days = (visit.study_date - self.birth_date).days
        return int(days / 365.25)

    def scan_path(self, visit: Visit) -> str:
        """Where a visit's scan lies, relative to the scans folder: a file for NIfTI, else a folder."""
        return f"nifti/{self.name}.nii.gz" if self.as_nifti else f"{self.name}/study{visit.number + 1}/chest"


def digest(*parts: object) -> int:
    """A 128-bit number from any values, the same on every machine."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:16], "big")


def uid(*parts: object) -> UID:
    """A DICOM UID from any values, the same on every machine (PS3.5 annex B.2: 2.25 and a 128-bit number)."""
    return UID(f"2.25.{digest(*parts)}")


def labels_of(seed: int, patients: int) -> list[bool]:
    """Who carries a nodule: half of the patients, in random order."""
    order = np.random.default_rng(digest(seed, "labels")).permutation(patients)
    return [bool(rank < patients // 2) for rank in order]


def plan(seed: int, patients: int, small: bool = False) -> list[Patient]:
    """All patients of the demo, one series with a missing slice and one with a truncated file among them.

    `small` asks for tiny grids, for tests.
    """
    order = np.random.default_rng(digest(seed, "formats")).permutation(patients)
    lone = set(order[: round(patients * NIFTI_SHARE)].tolist())
    planned = [_patient(seed, index, small, index in lone) for index in range(patients)]
    for defect in (Defect.MISSING_SLICE, Defect.TRUNCATED_FILE):
        index = next((int(i) for i in order[::-1] if _can_break(planned[i])), None)
        if index is not None:
            planned[index] = _patient(seed, index, small, False, defect)
    return planned


def _can_break(patient: Patient) -> bool:
    return patient.defect is Defect.NONE and not patient.as_nifti and not patient.visits[0].syntax.is_compressed


def _patient(seed: int, index: int, small: bool, as_nifti: bool, defect: Defect = Defect.NONE) -> Patient:
    rng = np.random.default_rng(digest(seed, "patient", index))
    site = str(rng.choice(list(SCANNERS)))
    sex = str(rng.choice(["F", "M"]))
    birth_date = date(1935, 1, 1) + timedelta(days=int(rng.integers(0, 365 * 45)))
    day = date(2016, 1, 4) + timedelta(days=int(rng.integers(0, 365 * 5)))
    count = 1 + int(rng.choice(len(VISIT_SHARES), p=VISIT_SHARES))
    visits = []
    for number in range(1 if as_nifti else count):
        visits.append(_visit(rng, site, number, day, small))
        day += timedelta(days=int(rng.integers(80, 400)))
    return Patient(index + 1, site, sex, birth_date, tuple(visits), as_nifti, defect)


def _visit(rng: np.random.Generator, site: str, number: int, day: date, small: bool) -> Visit:
    shape, spacing_mm = _grid(rng, small)
    manufacturer, model_name = SCANNERS[site][rng.integers(len(SCANNERS[site]))]
    return Visit(
        number=number,
        study_date=day,
        shape=shape,
        spacing_mm=spacing_mm,
        thickness_mm=float(rng.choice([spacing_mm[2], round(spacing_mm[2] * 0.8, 2), 5.0])),
        origin_mm=(
            round(float(rng.uniform(-12, 12)), 1),
            round(float(rng.uniform(-160, 160)), 1),
            round(float(rng.uniform(-1500, 300)), 1),
        ),
        manufacturer=manufacturer,
        model_name=model_name,
        kvp=int(rng.choice([80, 100, 120, 140], p=[0.05, 0.25, 0.6, 0.1])),
        exposure_mas=int(rng.integers(25, 220)),
        position=str(rng.choice(list(POSITIONS), p=POSITION_SHARES)),
        syntax=SYNTAXES[rng.choice(len(SYNTAXES), p=SYNTAX_SHARES)],
        coding=CODINGS[rng.integers(len(CODINGS))],
        instance_numbers=_numbering(rng, shape[2]),
        naming=str(rng.choice(["number", "bare", "uid", "random"])),
        localizer=Localizer(str(rng.choice(list(Localizer), p=[0.8, 0.1, 0.1]))),
        window=((-600, 1500), (40, 400), (50, 350))[rng.integers(3)],
        orientation=str(rng.choice(["RAS", "LPS", "LAS"])),
    )


def _grid(rng: np.random.Generator, small: bool) -> tuple[tuple[int, int, int], tuple[float, float, float]]:
    """Shape and spacing of a series: a field of view of 308 to 375 mm that covers 236 to 270 mm of the body."""
    view_mm, cover_mm = rng.uniform(308, 375), rng.uniform(236, 270)
    if small:
        rows, slices = int(rng.choice([40, 48])), int(rng.integers(14, 19))
    else:
        rows = int(rng.choice([n for n in (128, 144, 160, 176, 192) if 1.6 <= view_mm / n <= 2.4]))
        slices = round(cover_mm / float(rng.choice([6.8, 7.0, 7.5, 8.0])))
    pixel = round(view_mm / rows, 3)
    return (rows, rows, slices), (pixel, pixel, round(cover_mm / slices, 2))


def _numbering(rng: np.random.Generator, slices: int) -> tuple[int, ...]:
    """InstanceNumber of each slice from feet to head: ascending, reversed, or shuffled."""
    way = rng.choice(["ascending", "reversed", "shuffled"], p=[0.4, 0.4, 0.2])
    numbers = np.arange(1, slices + 1)
    if way == "shuffled":
        numbers = rng.permutation(numbers)
    return tuple((numbers[::-1] if way == "reversed" else numbers).tolist())
