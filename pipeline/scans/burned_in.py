"""Whether a picture may show its patient's name in its pixels, as far as its header can tell."""

from pydicom.dataset import Dataset

from pipeline.scans.content import SECONDARY_CAPTURE
from pipeline.scans.values import text_in

TEXTY = frozenset({"US", "ES", "SC", "OT", "XC", "GM", "SM", "OP", "DOC", "XA", "RF", "IVUS"})
"""Modalities whose pictures often hold the patient's name in their pixels."""


def why_burned_in(ds: Dataset) -> str:
    """Why the pixels may show the patient's name; empty where nothing points to it.

    A header can't tell with certainty: text in a picture that says nothing of it is not found.
    """
    says, modality = text_in(ds, "BurnedInAnnotation").upper(), text_in(ds, "Modality").upper()
    if says in ("YES", "NO"):
        return "BurnedInAnnotation is YES" if says == "YES" else ""
    if modality in TEXTY:
        return f"modality {modality}, and BurnedInAnnotation does not say NO"
    if text_in(ds, "SOPClassUID").startswith(SECONDARY_CAPTURE) or "ConversionType" in ds:
        return "a secondary capture, and BurnedInAnnotation does not say NO"
    if "SCREEN" in text_in(ds, "ImageType").upper():
        return "a screen capture, and BurnedInAnnotation does not say NO"
    return ""
