"""PET activity -> standardised uptake value by body weight (SUVbw), where the header allows it."""

import math
import re
from collections.abc import Sequence
from datetime import datetime, timedelta

from pydicom.dataset import Dataset

from pipeline.scans.headers import Header, number_in, read_header, text_in

KEYWORDS = (
    *("PatientWeight", "SUVType", "CorrectedImage", "DecayCorrection", "DecayCorrectionDateTime", "SeriesTime"),
    *("RadiopharmaceuticalInformationSequence", "AttenuationCorrected", "DecayCorrected"),
)
"""What is read of a PET header besides `keywords.KEYWORDS`."""

LONGEST = timedelta(days=1)
"""Longest time between injection and scan that is taken for true."""


def suv_factor(units: str, headers: Sequence[Header]) -> float | None:
    """What values are multiplied by to be SUVbw in g/ml; None where the header does not allow it.

    * Units GML: they are SUVbw already, unless SUVType names another kind (PS3.3 C.8.9.1); so is SUVBW, the unit of a
      real-world value map.
    * Units BQML, corrected for attenuation and decay (PS3.3 C.8.9.1, for enhanced files C.8.22.5), one injection: body
      weight / dose at the moment to which decay was corrected. That is the administration (DecayCorrection ADMIN),
      DecayCorrectionDateTime, or the start of the series (START). Series that were made after the scan carry another
      time than the scan's; nothing is computed for them.

    Source: SUVbw formula of the QIBA FDG-PET profile, "happy path only".

    Args:
        units: Units (0054,1001), or the unit of the real-world values, in capitals.
        headers: The headers of the series' slices.
    """
    if units == "SUVBW":
        return 1.0
    pet = read_header(headers[0].path, KEYWORDS)
    if units == "GML":
        return 1.0 if pet.text("SUVType").upper() in ("", "BW") else None
    injections = pet.items("RadiopharmaceuticalInformationSequence")
    if units != "BQML" or not _is_corrected(pet) or len(injections) != 1:
        return None
    weight_kg, dose_bq = pet.number("PatientWeight"), number_in(injections[0], "RadionuclideTotalDose")
    half_life_s = number_in(injections[0], "RadionuclideHalfLife")
    waited = _decayed_for(pet, injections[0], headers)
    if not weight_kg or not dose_bq or not half_life_s or waited is None or min(weight_kg, dose_bq, half_life_s) < 0:
        return None
    return 1000 * weight_kg / (dose_bq * math.exp2(-waited.total_seconds() / half_life_s))


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
