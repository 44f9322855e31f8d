"""One DICOM file's header: the few elements that matter, checked, without its pixels."""

import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Literal, cast

import pydicom
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset, read_partial
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from pipeline.domain import Reason, ScanError
from pipeline.scans.boundary import MAX_HEADER
from pipeline.scans.bounded import MAX_READS, Bounded

PIXEL_TAGS = (0x7FE00008, 0x7FE00009, 0x7FE00010)
"""FloatPixelData, DoubleFloatPixelData, PixelData."""

LONG_VRS = (b"OB", b"OW", b"OF", b"OD", b"UN", b"OL", b"OV")
"""Value representations whose length takes four bytes after two reserved ones (PS3.5 7.1.2)."""

UNDEFINED_LENGTH = 0xFFFFFFFF

IDENTITY = ("PatientName", "PatientID", "PatientBirthDate", "StudyDate", "AccessionNumber")

KEYWORDS = (
    *(
        "SpecificCharacterSet",
        "ImageType",
        "SOPClassUID",
        "SOPInstanceUID",
        "StudyDate",
        "SeriesDate",
        "AcquisitionDate",
    ),
    *("AccessionNumber", "Modality", "Manufacturer", "ManufacturerModelName", "AcquisitionTime", "ContentTime"),
    *("PatientID", "PatientSex", "PatientAge", "PatientBirthDate", "BodyPartExamined", "PatientSpeciesDescription"),
    *("SliceThickness", "EchoTime", "EchoNumbers", "TriggerTime", "SpacingBetweenSlices", "ImagerPixelSpacing"),
    *("StudyInstanceUID", "SeriesInstanceUID", "AcquisitionNumber", "InstanceNumber", "FrameOfReferenceUID"),
    *("ImagePositionPatient", "ImageOrientationPatient", "TemporalPositionIdentifier", "NumberOfTemporalPositions"),
    *("DiffusionBValue", "DiffusionGradientOrientation", "InversionTime", "NominalCardiacTriggerDelayTime"),
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns"),
    *("PixelSpacing", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue"),
    *("PixelPaddingRangeLimit", "BurnedInAnnotation", "RescaleIntercept", "RescaleSlope", "RescaleType", "Units"),
    *("ModalityLUTSequence", "RedPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableDescriptor"),
    *("BluePaletteColorLookupTableDescriptor", "RedPaletteColorLookupTableData", "GreenPaletteColorLookupTableData"),
    *("Laterality", "ImageLaterality", "ViewPosition", "QualityControlImage", "PatientSpeciesCodeSequence"),
    *("BluePaletteColorLookupTableData", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
)
"""What is read of a header; everything else is skipped unread."""

PRIVATE_TAGS = (
    0x00190010,
    0x0019100C,
    0x00290010,
    0x00290011,
    0x00291010,
    0x00291110,
    0x0019100A,
    0x00430010,
    0x00431039,
)
"""Siemens' CSA header and b-value, GE's b-value, and the blocks' owners."""

TAGS = [cast(int, tag_for_keyword(word)) for word in KEYWORDS] + list(PRIVATE_TAGS)


@dataclass(frozen=True)
class Header:
    """A file's header, and where its pixels lie.

    Attributes:
        elements: The elements of KEYWORDS that the file has.
        transfer_syntax: UID, empty where the file names none.
        pixel_tag: Tag of the pixel element, 0 where there is none.
        pixel_offset: Byte at which the pixels begin (in a deflated file: after inflating).
        pixel_length: Their length as the file states it; UNDEFINED_LENGTH for encapsulated pixels.
        size: Bytes of the file.
        preamble: The 128 bytes before the DICM mark.
        complete: Whether the last element lies within the file.
        deflated_at: Byte at which a deflated data set begins, 0 where nothing is deflated.
    """

    path: Path
    elements: Dataset
    transfer_syntax: UID
    pixel_tag: int
    pixel_offset: int
    pixel_length: int
    size: int
    preamble: bytes
    complete: bool
    deflated_at: int = 0

    def text(self, keyword: str) -> str:
        """An element's value as text, empty where it is absent; several values joined by a backslash."""
        return text_in(self.elements, keyword)

    def numbers(self, keyword: str) -> tuple[float, ...]:
        """An element's values as floats, () where it is absent, empty or no number."""
        return numbers_in(self.elements, keyword)

    def number(self, keyword: str) -> float | None:
        """The first value as a float, None where it is absent, empty or no number."""
        return number_in(self.elements, keyword)

    def whole(self, keyword: str, default: int | None = None) -> int:
        """A value that must be a whole number.

        Raises:
            ScanError: missing_attribute without a default, bad_dimensions for a value that is no whole number.
        """
        value = self.text(keyword)
        if not value and default is not None:
            return default
        if not value:
            raise ScanError(Reason.MISSING_ATTRIBUTE, f"{keyword} is missing")
        try:
            return int(value)
        except ValueError:
            raise ScanError(Reason.BAD_DIMENSIONS, f"{keyword} is no whole number") from None

    def private_number(self, tag: int) -> float | None:
        """The first value of a private element as a float, None where it is absent or no number."""
        element = self.elements.get(tag)
        value = None if element is None else element.value
        if isinstance(value, bytes):
            value = value.decode("ascii", "replace").strip(" \0")
        words = value.split("\\") if isinstance(value, str) else value if isinstance(value, MultiValue) else [value]
        try:
            return float(words[0]) if words and words[0] is not None else None
        except (TypeError, ValueError):
            return None

    @cached_property
    def image_type(self) -> tuple[str, ...]:
        """ImageType's values in capitals."""
        return tuple(word.strip().upper() for word in self.text("ImageType").split("\\") if word.strip())

    @property
    def frames(self) -> int:
        """NumberOfFrames, 1 where absent.

        Raises:
            ScanError: bad_dimensions below 1.
        """
        frames = self.whole("NumberOfFrames", 1)
        if frames < 1:
            raise ScanError(Reason.BAD_DIMENSIONS, f"NumberOfFrames must be at least 1, got {frames}")
        return frames


def text_in(elements: Dataset, keyword: str) -> str:
    """An element's value as text, empty where it is absent; several values joined by a backslash."""
    value = elements.get(keyword)
    if value is None:
        return ""
    if isinstance(value, list | tuple | MultiValue):
        return "\\".join(str(item) for item in value).strip()
    return str(value).strip().strip("\0")


def numbers_in(elements: Dataset, keyword: str) -> tuple[float, ...]:
    """An element's values as floats, () where it is absent, empty or no number."""
    words = text_in(elements, keyword).split("\\")
    try:
        return tuple(float(word) for word in words) if words != [""] else ()
    except ValueError:
        return ()


def number_in(elements: Dataset, keyword: str) -> float | None:
    """The first value as a float, None where it is absent, empty or no number."""
    return next(iter(numbers_in(elements, keyword)), None)


def read_header(path: Path, extra: Iterable[str] = ()) -> Header:
    """The header of a DICOM file; its pixels and unknown elements are skipped.

    Args:
        path: A DICOM file.
        extra: Keywords to read besides KEYWORDS.

    Raises:
        ScanError: truncated, malformed, missing_attribute, too_large.
        Exception: What pydicom raises on a malformed header (callers stand behind `boundary.refusing`).
    """
    tags: list[BaseTag | int] = [*TAGS, *(cast(int, tag_for_keyword(word)) for word in extra)]
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        preamble = _preamble(file, size)
        elements = _elements(file, tags)
        file_meta = elements.file_meta
        syntax = UID(str(file_meta.TransferSyntaxUID))
        source: BinaryIO = file
        deflated_at = 0
        if syntax == DeflatedExplicitVRLittleEndian:
            deflated_at = file.tell()
            source = BytesIO(inflate(file, deflated_at, MAX_HEADER))
            file_meta, elements = (
                elements.file_meta,
                read_dataset(source, False, True, stop_when=_until_pixels(), specific_tags=tags),
            )
            elements.file_meta = file_meta
        complete = deflated_at > 0 or source.tell() <= size  # a skipped element may end beyond the file
        tag, offset, length = _pixel_element(source, syntax)
    return Header(path, elements, syntax, tag, offset, length, size, preamble, complete, deflated_at)


def inflate(file: BinaryIO, offset: int, limit: int) -> bytes:
    """At most `limit` bytes of a raw deflate stream (PS3.5 A.5) that begins at `offset`.

    Raises:
        ScanError: malformed.
    """
    file.seek(offset)
    engine = zlib.decompressobj(-zlib.MAX_WBITS)
    parts: list[bytes] = []
    left = limit
    while left > 0 and not engine.eof and (chunk := engine.unconsumed_tail or file.read(2**20)):
        try:
            part = engine.decompress(chunk, min(left, 2**22))
        except zlib.error:
            raise ScanError(Reason.MALFORMED, "the deflated data set can't be inflated") from None
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _until_pixels() -> Callable[[BaseTag, str | None, int], bool]:
    """Tells pydicom to stop at the pixels, and refuses an element that comes twice: it would keep the last, unsaid."""
    seen: set[BaseTag] = set()

    def at_pixels(tag: BaseTag, vr: str | None, length: int) -> bool:  # noqa: ARG001 - pydicom's signature
        if tag in seen and len(seen) > 1:  # for the first element pydicom may ask twice
            raise ScanError(Reason.MALFORMED, f"element {tag} comes twice")
        seen.add(tag)
        return tag in PIXEL_TAGS

    return at_pixels


def _preamble(file: BinaryIO, size: int) -> bytes:
    """The 128 bytes before the DICM mark; `file` then stands behind the mark."""
    start = file.read(132)
    if size < 132:
        raise ScanError(Reason.TRUNCATED, "the file ends in its preamble")
    if start[128:] != b"DICM":
        raise ScanError(Reason.NOT_DICOM, "the file has no DICM mark after its preamble")
    return start[:128]


def _elements(file: BinaryIO, tags: list[BaseTag | int]) -> Dataset:
    """The wanted elements; of a deflated file only the file meta information, so that nothing is inflated here."""
    file_meta = pydicom.filereader._read_file_meta_info(file)
    body = file.tell()
    if "TransferSyntaxUID" not in file_meta:
        reason = Reason.MALFORMED if file.read(1) else Reason.TRUNCATED
        raise ScanError(reason, "the file meta information names no transfer syntax")
    if file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        elements = pydicom.FileDataset("", {}, file_meta=file_meta)
        file.seek(body)
        return elements
    file.seek(0)
    bounded = cast(BinaryIO, Bounded(file, MAX_READS))
    return read_partial(bounded, stop_when=_until_pixels(), specific_tags=tags)


def _pixel_element(source: BinaryIO, syntax: UID) -> tuple[int, int, int]:
    """(tag, offset of the value, length) of the pixel element at which `source` stands; zeros where it has ended."""
    start = source.read(12)
    if len(start) < 8:
        return 0, 0, 0
    order: Literal["big", "little"] = "big" if syntax == "1.2.840.10008.1.2.2" else "little"
    tag = int.from_bytes(start[:2], order) << 16 | int.from_bytes(start[2:4], order)
    if tag not in PIXEL_TAGS:
        return 0, 0, 0
    implicit = syntax == "1.2.840.10008.1.2" or start[4:6] not in LONG_VRS
    length = int.from_bytes(start[4:8] if implicit else start[8:12], order)
    return tag, source.tell() - (4 if implicit else 0), length
