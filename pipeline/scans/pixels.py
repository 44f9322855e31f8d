"""How a DICOM file stores its pixels, and what the values mean: signs, padding, colour, rescale."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import nan
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, convert_color_space

from pipeline.console import count
from pipeline.domain import Reason, ScanError, Voxels
from pipeline.scans.boundary import check_voxels
from pipeline.scans.headers import UNDEFINED_LENGTH, Header, numbers_in, text_in

Stored = NDArray[Any]
"""One frame as stored, native byte order: [row, column], or [row, column, 3] in colour."""

SIGNAL_MODALITIES = ("MR", "PT", "NM")
"""Modalities of which a stored 0 means that there was no signal."""

GREY = ("MONOCHROME1", "MONOCHROME2")
RGB_CODECS = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51")
"""Transfer syntaxes whose decoder gives RGB already."""
COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "PALETTE COLOR")

LARGEST, SMALLEST = 1e30, 1e-30
"""Slopes and intercepts beyond would not fit a float32 with the values that they stand for."""

UCUM = {"[hnsf'U]": "HU", "{SUVbw}g/ml": "SUVBW", "Bq/ml": "BQML"}
"""Codes of units (PS3.16 CID 83, CID 84) -> the words of RescaleType and Units."""


@dataclass(frozen=True)
class PixelFormat:
    """How a file stores its pixels, checked."""

    rows: int
    columns: int
    frames: int
    samples: int
    photometric: str
    planar: int
    allocated: int
    stored: int
    signed: bool
    floating: bool

    @cached_property
    def dtype(self) -> np.dtype[np.generic]:
        """The type of one sample, native byte order."""
        kind = "f" if self.floating else "i" if self.signed else "u"
        return np.dtype(f"{kind}{self.allocated // 8}")

    @property
    def colour(self) -> bool:
        """Whether a pixel has three values in the end."""
        return self.photometric not in GREY

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame, uncompressed."""
        samples = 2 if self.photometric == "YBR_FULL_422" else self.samples
        return self.rows * self.columns * samples * self.allocated // 8


def pixel_format(header: Header, max_voxels: int) -> PixelFormat:
    """The pixel format of a file, every number checked before anything is allocated.

    Raises:
        ScanError: missing_attribute, bad_dimensions, bad_bits, too_large, unsupported_pixels.
    """
    rows, columns, frames = header.whole("Rows"), header.whole("Columns"), header.frames
    if rows < 1 or columns < 1:
        raise ScanError(Reason.BAD_DIMENSIONS, f"Rows and Columns must be at least 1, got {rows} and {columns}")
    _check_count(header, rows * columns * frames, max_voxels)
    floating = header.pixel_tag in (0x7FE00008, 0x7FE00009)
    allocated = header.whole("BitsAllocated")
    stored = header.whole("BitsStored", allocated)
    high = header.whole("HighBit", stored - 1)
    samples = header.whole("SamplesPerPixel", 1)
    photometric = header.text("PhotometricInterpretation").upper() or ("RGB" if samples == 3 else "MONOCHROME2")
    if allocated == 1 or samples not in (1, 3) or photometric not in GREY + COLOUR:
        raise ScanError(
            Reason.UNSUPPORTED_PIXELS,
            f"pixels of {count(allocated, 'bit')} with {count(samples, 'sample')} as {photometric[:16]}: not supported",
        )
    widths = (32, 64) if floating else (8, 16, 32)
    if allocated not in widths or not 1 <= stored <= allocated or high != stored - 1:
        raise ScanError(
            Reason.BAD_BITS, f"BitsAllocated {allocated}, BitsStored {stored}, HighBit {high} don't fit together"
        )
    if (samples == 1) != (photometric in (*GREY, "PALETTE COLOR")):
        raise ScanError(Reason.MALFORMED, f"{photometric} can't have {count(samples, 'sample')} a pixel")
    return PixelFormat(
        *(rows, columns, frames, samples, photometric, header.whole("PlanarConfiguration", 0), allocated, stored),
        signed=header.whole("PixelRepresentation", 0) == 1,
        floating=floating,
    )


def _check_count(header: Header, n_pixels: int, limit: int) -> None:
    """Refuse too many pixels; as `bad_dimensions` where the file has no room for them."""
    is_plain = header.pixel_length != UNDEFINED_LENGTH and not header.deflated_at
    if n_pixels > limit and is_plain and n_pixels > header.size:
        raise ScanError(Reason.BAD_DIMENSIONS, f"the header claims {n_pixels} pixels, the file has {header.size} bytes")
    check_voxels(n_pixels, limit)


def clean_bits(values: Stored, form: PixelFormat) -> Stored:
    """The values without what lies in their unused high bits (old overlays), with the sign extended."""
    spare = form.allocated - form.stored
    if form.floating or spare == 0:
        return values
    if form.signed:
        low, high = values.min(), values.max()
        if low >= -(1 << (form.stored - 1)) and high < 1 << (form.stored - 1):
            return values
        return np.right_shift(np.left_shift(values, spare), spare)
    if values.max() < 1 << form.stored:
        return values
    return np.bitwise_and(values, (1 << form.stored) - 1)


def padding(header: Header, form: PixelFormat, values: Stored) -> NDArray[np.bool_] | None:
    """Where the scanner filled in pixels that show nothing (PixelPaddingValue); None for nowhere.

    Zeros of MR, PET and SPECT are no such pixels, though they be declared: they stand for no signal, as others do.
    """
    first = header.number("PixelPaddingValue")
    if first is None or form.samples != 1 or form.floating:
        return None
    last = header.number("PixelPaddingRangeLimit")
    bounds = np.array([first, first if last is None else last]).astype(np.int64)
    # the same bits may be written as a signed or as an unsigned number; bring them to the pixels' own type
    low, high = sorted(clean_bits(bounds.astype(form.dtype), form).tolist())
    if low == high == 0 and header.text("Modality").upper() in SIGNAL_MODALITIES:
        return None
    mask: NDArray[np.bool_] = values == low if low == high else (values >= low) & (values <= high)
    return mask if mask.any() else None


def rgb(header: Header, form: PixelFormat, values: Stored) -> Stored:
    """Colour values as red, green, blue: [row, column, 3]."""
    if form.photometric == "PALETTE COLOR":
        return apply_color_lut(values, header.elements)
    if form.photometric in ("YBR_FULL", "YBR_FULL_422") and header.transfer_syntax not in RGB_CODECS:
        return convert_color_space(values, "YBR_FULL", "RGB")
    return values


def rescale_of(slope_word: str, intercept_word: str) -> tuple[float, float] | None:
    """(slope, intercept) from stored values to the unit, None where the file has neither.

    Args:
        slope_word: RescaleSlope as written, empty where absent (then 1).
        intercept_word: RescaleIntercept likewise (then 0).

    Raises:
        ScanError: bad_rescale, if either is no finite number or beyond reason, or the slope is 0.
    """
    if not slope_word and not intercept_word:
        return None
    try:
        slope, intercept = float(slope_word or 1), float(intercept_word or 0)
    except ValueError:
        slope, intercept = nan, nan
    if not (SMALLEST <= abs(slope) <= LARGEST and abs(intercept) <= LARGEST):
        raise ScanError(
            Reason.BAD_RESCALE,
            f"RescaleSlope and RescaleIntercept must be finite numbers up to {LARGEST:g}, the slope not 0",
        )
    return slope, intercept


def real_world_map(maps: Sequence[Dataset] | None) -> tuple[str, str, str]:
    """(slope, intercept, unit) of a file's one linear real-world value map as written; empty where it has none.

    Real-world values (PS3.3 C.7.6.16.2.11) come next to the rescale, not after it: only a file without rescale needs
    them. Of several maps none is chosen.
    """
    if not maps or len(maps) > 1 or "RealWorldValueSlope" not in maps[0]:
        return "", "", ""
    code = text_in((maps[0].get("MeasurementUnitsCodeSequence") or [Dataset()])[0], "CodeValue")
    words = text_in(maps[0], "RealWorldValueSlope"), text_in(maps[0], "RealWorldValueIntercept")
    return *words, UCUM.get(code, code.upper())


def to_unit(
    header: Header, form: PixelFormat, rescale: tuple[float, float] | None, values: Stored, out: Voxels
) -> bool:
    """Write the values in their unit into `out` (same shape), padding as NaN; tells whether there is padding.

    The Modality LUT comes first (PS3.3 C.11.1), else the linear rescale. MONOCHROME1 is turned around the range of
    the stored bits, or of what the LUT gives, except where the values get a unit of their own (HU): there it only
    concerns display.
    """
    hidden = padding(header, form, values)
    table = header.items("ModalityLUTSequence")
    is_in_unit = (rescale or table) and header.text("Modality").upper() in ("CT", "PT")
    turned = form.photometric == "MONOCHROME1" and not is_in_unit
    if table:
        out[...] = apply_modality_lut(values, header.elements)
        if turned:
            np.subtract((1 << int(numbers_in(table[0], "LUTDescriptor")[2])) - 1, out, out=out)
    else:
        if turned:  # low + high of the range: 2^n - 1, or -1 for signed values
            values = np.subtract(-1 if form.signed else (1 << form.stored) - 1, values, dtype=np.float32)
        slope, intercept = rescale or (1.0, 0.0)
        if slope == 1:
            out[...] = values
        else:
            np.multiply(values, np.float32(slope), out=out, casting="unsafe")
        if intercept:
            out += np.float32(intercept)
    if hidden is not None:
        np.copyto(out, np.nan, where=hidden)
    return hidden is not None


def fill_padding(voxels: Voxels) -> None:
    """Give padded voxels (NaN) the smallest value of the others, in place; 0 where all are padded."""
    smallest = np.fmin.reduce(voxels, axis=None)
    for one in voxels:
        np.copyto(one, 0.0 if np.isnan(smallest) else smallest, where=np.isnan(one))
