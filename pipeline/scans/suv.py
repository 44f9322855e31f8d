"""PET activity -> standardised uptake value by body weight (SUVbw), where the header allows it."""

import math
import re
from collections.abc import Sequence
from datetime import datetime, timedelta

from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

from pipeline.scans.headers import Header, number_in, read_header, text_in

KEYWORDS = (
    *("PatientWeight", "SUVType", "CorrectedImage", "DecayCorrection", "DecayCorrectionDateTime", "SeriesTime"),
    *("RadiopharmaceuticalInformationSequence", "AttenuationCorrected", "DecayCorrected"),
)
"""What is read of a PET header besides `keywords.KEYWORDS`."""

LONGEST = timedelta(days=1)
"""Longest time between injection and scan that is taken for true."""

MOST_HALF_LIVES = 10.0
"""What is left of the dose after more would give no image: a half-life in minutes, not seconds."""
LEAST_DOSE_BQ = 1e6
"""No PET is made with less: a dose in MBq or kBq, not Bq."""
HEAVIEST_KG = 650.0
"""No patient weighs more: a weight in grams, not kilograms."""

PHILIPS, PHILIPS_OWNER = 0x70530010, "Philips PET Private Group"
TO_SUV, TO_ACTIVITY = 0x70531000, 0x70531009
"""Philips: what counts are multiplied by to be SUVbw, or Bq/ml; 0 for unknown."""
GE, GE_OWNER = 0x00090010, "GEMS_PETD_01"
GE_SCANNED = 0x0009100D
"""GE: date and time of the scan, also in series that were made later."""


def suv_factor(units: str, headers: Sequence[Header]) -> float | None:
    """What values are multiplied by to be SUVbw in g/ml; None where the header does not allow it.

    * Units GML: they are SUVbw already, unless SUVType names another kind (PS3.3 C.8.9.1); so is SUVBW, the unit of a
      real-world value map.
    * Units BQML, corrected for attenuation and decay (PS3.3 C.8.9.1, for enhanced files C.8.22.5), one injection: body
      weight / dose at the moment to which decay was corrected. That is the administration (DecayCorrection ADMIN),
      DecayCorrectionDateTime, or the start of the series (START). Series that were made after the scan carry another
      time than the scan's; nothing is computed for them, unless it is GE's, which keeps the scan's elsewhere.
    * Units CNTS of Philips, likewise corrected: its own factor to SUVbw, or else to Bq/ml.

    Source: SUVbw formula of the QIBA FDG-PET profile, "happy path" and the vendors' private elements in it.

    Args:
        units: Units (0054,1001), or the unit of the real-world values, in capitals.
        headers: The headers of the series' slices.
    """
    if units == "SUVBW":
        return 1.0
    pet = read_header(headers[0].path, KEYWORDS)
    if units == "GML":
        return 1.0 if pet.text("SUVType").upper() in ("", "BW") else None
    if not _is_corrected(pet):
        return None
    if units == "BQML":
        return _activity_factor(pet, headers)
    if units == "CNTS" and _owner(pet, PHILIPS) == PHILIPS_OWNER:
        return _counts_factor(pet, headers)
    return None


def _activity_factor(pet: Header, headers: Sequence[Header]) -> float | None:
    """From Bq/ml to SUVbw."""
    injections = pet.items("RadiopharmaceuticalInformationSequence")
    if len(injections) != 1:
        return None
    weight_kg, dose_bq = pet.number("PatientWeight"), number_in(injections[0], "RadionuclideTotalDose")
    half_life_s = number_in(injections[0], "RadionuclideHalfLife")
    waited = _decayed_for(pet, injections[0], headers)
    if not weight_kg or not dose_bq or not half_life_s or waited is None:
        return None
    half_lives = waited.total_seconds() / half_life_s
    if not 0 < weight_kg <= HEAVIEST_KG or dose_bq < LEAST_DOSE_BQ or not 0 <= half_lives <= MOST_HALF_LIVES:
        return None
    return 1000 * weight_kg / (dose_bq * math.exp2(-half_lives))


def _counts_factor(pet: Header, headers: Sequence[Header]) -> float | None:
    """From the counts of a Philips PET to SUVbw; None where slices differ in it."""
    to_suv, to_activity = (_common(tag, headers) for tag in (TO_SUV, TO_ACTIVITY))
    if to_suv > 0:
        return to_suv
    from_activity = _activity_factor(pet, headers) if to_activity > 0 else None
    return None if from_activity is None else to_activity * from_activity


def _common(tag: int, headers: Sequence[Header]) -> float:
    """The number that all slices have in a private element, else 0."""
    values = {one.private_numbers(tag) for one in headers}
    return next(iter(values.pop()), 0.0) if len(values) == 1 else 0.0


def _owner(pet: Header, tag: int) -> str:
    """Who uses a block of private elements."""
    element = pet.elements.get(BaseTag(tag))
    value = "" if element is None else element.value
    return (value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)).strip(" \0")


def _is_corrected(pet: Header) -> bool:
    """Whether attenuation and decay were corrected, as a classic or as an enhanced file says it."""
    said = (pet.text("AttenuationCorrected").upper(), pet.text("DecayCorrected").upper())
    return said == ("YES", "YES") or {"ATTN", "DECY"} <= set(pet.text("CorrectedImage").upper().split("\\"))


def _decayed_for(pet: Header, dose: Dataset, headers: Sequence[Header]) -> timedelta | None:
    """Time from the injection to the moment to which decay was corrected; None where it is not known."""
    if pet.text("DecayCorrection").upper() == "ADMIN":
        return timedelta()
    series = _moment(pet.text("SeriesDate") + pet.text("SeriesTime"))
    scan = _moment(pet.text("DecayCorrectionDateTime"))
    if scan is None and pet.text("DecayCorrection").upper() == "START":
        acquired = [_moment(one.text("AcquisitionDate") + one.text("AcquisitionTime")) for one in headers]
        known = [moment for moment in acquired if moment is not None]
        scan = series if series and len(known) == len(acquired) and series <= min(known) else None
        stated = pet.private_numbers(GE_SCANNED) if _owner(pet, GE) == GE_OWNER else ()
        if scan is None and stated and len(known) == len(acquired):
            scan = _moment(f"{int(stated[0])}")
            scan = scan if scan and scan <= min(known) else None
    injected = _moment(text_in(dose, "RadiopharmaceuticalStartDateTime"))
    if scan and not injected:
        injected = _moment(f"{scan:%Y%m%d}" + text_in(dose, "RadiopharmaceuticalStartTime"))
        if injected and injected > scan:  # injected before midnight
            injected -= timedelta(days=1)
    waited = scan - injected if scan and injected else None
    return waited if waited is not None and timedelta() <= waited <= LONGEST else None


def _moment(words: str) -> datetime | None:
    """A local date and time (YYYYMMDDHHMMSS, the fraction dropped); None for others, those with an offset too."""
    match = re.fullmatch(r"(\d{14})(\.\d*)?", words)
    try:
        return datetime.strptime(match[1], "%Y%m%d%H%M%S") if match else None
    except ValueError:
        return None
