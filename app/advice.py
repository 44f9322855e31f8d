"""What a reader can do about a refused scan: each reason's key in the section "advice" of the page's words."""

from collections.abc import Mapping

from pipeline.domain import Reason

_REASONS: Mapping[str, tuple[Reason, ...]] = {
    "copy": (
        Reason.IO_ERROR, Reason.TRUNCATED, Reason.LENGTH_MISMATCH, Reason.SIZE_MISMATCH, Reason.MALFORMED,
        Reason.CHECKSUM, Reason.BAD_ARCHIVE, Reason.DECODER_CRASH,
    ),
    "export": (
        Reason.MISSING_ATTRIBUTE, Reason.BAD_HEADER, Reason.BAD_DIMENSIONS, Reason.BAD_BITS, Reason.BAD_RESCALE,
        Reason.BAD_SPACING, Reason.BAD_GEOMETRY, Reason.DIMS_MISMATCH, Reason.NON_FINITE, Reason.BLANK,
        Reason.MIXED_UNITS, Reason.NO_GEOMETRY, Reason.NO_SPACING, Reason.NO_ORIENTATION, Reason.ORIENTATION_CONFLICT,
    ),
    "uncompressed": (Reason.UNSUPPORTED_TRANSFER_SYNTAX, Reason.UNSUPPORTED_PIXELS),
    "series": (Reason.MISSING_SLICES, Reason.CONFLICTING_SLICES, Reason.PACS_INCOMPLETE),
    "another": (
        Reason.TOO_FEW_SLICES, Reason.NOT_ONE_SLICE, Reason.MODALITY, Reason.BODY_PART, Reason.VIEW, Reason.NON_HUMAN,
        Reason.DERIVED, Reason.SLICE_SPACING, Reason.DESCRIPTION, Reason.NOT_PREFERRED, Reason.COLOUR_NOT_SUPPORTED,
        Reason.GANTRY_TILT,
    ),
    "one": (Reason.MIXED_GEOMETRY, Reason.AMBIGUOUS_VOLUME, Reason.FOUR_DIMENSIONS),
    "whose": (Reason.MIXED_PATIENTS,),
    "smaller": (Reason.TOO_LARGE, Reason.TIMEOUT),
    "no_scan": (Reason.NOT_AN_IMAGE, Reason.NOT_DICOM, Reason.NON_IMAGE, Reason.NO_SCANS, Reason.WRONG_EXTENSION),
    "pacs": (
        Reason.PACS_UNREACHABLE, Reason.PACS_TIMEOUT, Reason.PACS_DENIED, Reason.PACS_MALFORMED,
        Reason.PACS_WRONG_INSTANCE,
    ),
    "report": (Reason.FAULT,),
}  # fmt: skip

ADVICE: Mapping[Reason, str] = {reason: key for key, reasons in _REASONS.items() for reason in reasons}
"""Every reason -> key of what to do."""
