"""One DICOM file's header: the few elements that matter, checked, without its pixels."""

import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Literal, cast

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import read_dataset, read_partial
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from pipeline.domain import Reason, ScanError
from pipeline.scans.boundary import MAX_HEADER
from pipeline.scans.bounded import MAX_READS, Bounded
from pipeline.scans.elements import LONG_VRS, PIXEL_TAGS, UNDEFINED_LENGTH, NotPlain, walk
from pipeline.scans.values import number_in, numbers_in, tag_of, text_in

__all__ = ["UNDEFINED_LENGTH", "Header", "inflate", "number_in", "numbers_in", "read_header", "text_in"]

IDENTITY = ("PatientName", "PatientID", "PatientBirthDate", "StudyDate", "AccessionNumber")

KEYWORDS = (
    *(
        "SpecificCharacterSet",
        "ImageType",
        "SOPClassUID",
        "SOPInstanceUID",
        "ComplexImageComponent",
        "StudyDate",
        "SeriesDate",
        "AcquisitionDate",
        "SeriesDescription",
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
    *("RealWorldValueMappingSequence", "ContrastBolusAgent"),
)
"""What is read of a header; everything else is skipped unread."""

PRIVATE_TAGS = (
    *(0x00190010, 0x0019100A, 0x0019100C, 0x0019100E, 0x00290010, 0x00290011, 0x00291010, 0x00291110),  # Siemens
    *(0x001910BB, 0x001910BC, 0x001910BD, 0x00430010, 0x0043102F, 0x00431039),  # GE
    *(0x20010010, 0x20011003, 0x20050010, 0x200510B0, 0x200510B1, 0x200510B2),  # Philips
    *(0x00650010, 0x00651009, 0x00651037, 0x00651050, 0x00651051),  # UIH
)
"""Diffusion weighting, mosaics, and the owners of the blocks; see `diffusion` and `mosaic`."""

WANTED = {int(tag): tag for tag in (*map(tag_of, KEYWORDS), *map(BaseTag, PRIVATE_TAGS))}
FILE_META = {tag: BaseTag(tag) for tag in (0x00020002, 0x00020010)}
"""MediaStorageSOPClassUID, TransferSyntaxUID."""


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

    def private_numbers(self, tag: int) -> tuple[float, ...]:
        """The values of a private element as floats, () where it is absent, empty or no number."""
        element = self.elements.get(tag)
        value = None if element is None else element.value
        if isinstance(value, bytes):
            value = value.decode("ascii", "replace").strip(" \0")
        several = isinstance(value, list | tuple | MultiValue)
        words = value.split("\\") if isinstance(value, str) else value if several else [value]
        try:
            return tuple(float(word) for word in words)
        except (TypeError, ValueError):
            return ()

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


def read_header(path: Path, extra: Iterable[str] = ()) -> Header:
    """The header of a DICOM file; its pixels and unknown elements are skipped.

    Args:
        path: A DICOM file.
        extra: Keywords to read besides KEYWORDS.

    Raises:
        ScanError: truncated, malformed, missing_attribute, too_large.
        Exception: What pydicom raises on a malformed header (callers stand behind `boundary.refusing`).
    """
    wanted = {**WANTED, **{int(tag): tag for tag in map(tag_of, extra)}}
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        preamble = _preamble(file, size)
        try:
            elements = _plain_elements(file, size, wanted)
        except NotPlain:
            file.seek(len(preamble) + 4)
            elements = _elements(file, list(wanted))
        file_meta = elements.file_meta
        syntax = UID(text_in(file_meta, "TransferSyntaxUID"))
        source: BinaryIO = file
        deflated_at = 0
        if syntax == DeflatedExplicitVRLittleEndian:
            deflated_at = file.tell()
            source = BytesIO(inflate(file, deflated_at, MAX_HEADER))
            elements = read_dataset(source, False, True, stop_when=_until_pixels(), specific_tags=list(wanted))
            elements.file_meta = file_meta
        complete = deflated_at > 0 or source.tell() <= size  # a skipped element may end beyond the file
        tag, offset, length = _pixel_element(source, syntax)
    return Header(path, elements, syntax, tag, offset, length, size, preamble, complete, deflated_at)


def _plain_elements(file: BinaryIO, size: int, wanted: Mapping[int, BaseTag]) -> Dataset:
    """The wanted elements of a file in plain little endian; `file` then stands at its pixels.

    Raises:
        NotPlain: If pydicom has to read it.
        ScanError: malformed.
    """
    heading, body = walk(file, file.tell(), size, False, FILE_META, last_group=2)
    file_meta = FileMetaDataset(heading)
    syntax = text_in(file_meta, "TransferSyntaxUID")
    if not syntax or syntax in (DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian) or UID(syntax).is_private:
        raise NotPlain
    implicit = syntax == ImplicitVRLittleEndian
    found, end = walk(file, body, size, implicit, wanted)
    elements = Dataset(found)
    elements.set_original_encoding(implicit, True)
    elements.file_meta = file_meta
    file.seek(end)
    return elements


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
