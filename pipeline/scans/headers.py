"""One DICOM file's header: the few elements that matter, checked, without its pixels."""

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import pydicom
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset, read_partial
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from pipeline.domain import Reason, ScanError
from pipeline.scans.boundary import MAX_HEADER
from pipeline.scans.bounded import MAX_READS, Bounded
from pipeline.scans.elements import LONG_VRS, PIXEL_TAGS, UNDEFINED_LENGTH, NotPlain, Wanted, walk
from pipeline.scans.keywords import FILE_META, MEDIA_CLASS, SYNTAX, wanted
from pipeline.scans.values import Element, number_in, numbers_in, numbers_of, plain_text, tag_of, text_in, text_of

__all__ = ["UNDEFINED_LENGTH", "Header", "inflate", "number_in", "numbers_in", "read_header", "text_in"]

IDENTITY = ("PatientName", "PatientID", "PatientBirthDate", "StudyDate", "AccessionNumber")


@dataclass(frozen=True)
class Header:
    """A file's header, and where its pixels lie.

    Attributes:
        elements: The elements of KEYWORDS that the file has.
        raw: The same, as read; quicker to look up.
        transfer_syntax: UID, empty where the file names none.
        media_class: MediaStorageSOPClassUID, likewise.
        pixel_tag: Tag of the pixel element, 0 where there is none.
        pixel_offset: Byte at which the pixels begin (in a deflated file: after inflating).
        pixel_length: Their length as the file states it; UNDEFINED_LENGTH for encapsulated pixels.
        size: Bytes of the file.
        preamble: The 128 bytes before the DICM mark.
        deflated_at: Byte at which a deflated data set begins, 0 where nothing is deflated.
    """

    path: Path
    elements: Dataset
    raw: Mapping[BaseTag, Element]
    transfer_syntax: UID
    media_class: str
    pixel_tag: int
    pixel_offset: int
    pixel_length: int
    size: int
    preamble: bytes
    deflated_at: int = 0

    def text(self, keyword: str) -> str:
        """An element's value as text, empty where it is absent; several values joined by a backslash."""
        element = self.raw.get(tag_of(keyword))
        return "" if element is None else text_of(element, self.elements)

    def numbers(self, keyword: str) -> tuple[float, ...]:
        """An element's values as floats, () where it is absent, empty or no number."""
        return numbers_of(self.text(keyword))

    def number(self, keyword: str) -> float | None:
        """The first value as a float, None where it is absent, empty or no number."""
        return next(iter(self.numbers(keyword)), None)

    def items(self, keyword: str) -> Sequence[Dataset]:
        """The items of a sequence, () where it is absent or empty."""
        return (self.elements.get(keyword) or ()) if tag_of(keyword) in self.raw else ()

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
        raw = self.raw.get(BaseTag(tag))
        if raw is None:
            return ()
        value: Any = plain_text(raw) or self.elements[tag].value
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
    kept = wanted(tuple(extra))
    try:
        with path.open("rb", buffering=0) as file:
            return _plain_header(path, file, kept)
    except NotPlain:
        with path.open("rb") as buffered:
            return _any_header(path, buffered, list(kept.tags.values()))


def _plain_header(path: Path, file: BinaryIO, kept: Wanted) -> Header:
    """The header of a file in plain little endian.

    Raises:
        NotPlain: If pydicom has to read it.
        ScanError: As `read_header`.
    """
    preamble, size = _preamble(file)
    heading, body = walk(file, len(preamble) + 4, size, False, FILE_META, last_group=2)
    media_class, syntax = (_plain_uid(heading.get(tag)) for tag in (MEDIA_CLASS, SYNTAX))
    if not _is_plain(syntax):
        raise NotPlain
    implicit = syntax == ImplicitVRLittleEndian
    raw, at = walk(file, body, size, implicit, kept)
    elements = Dataset(raw)
    elements.set_original_encoding(implicit, True)
    file.seek(at)
    return Header(path, elements, raw, syntax, media_class, *_pixel_element(file, syntax), size, preamble)


def _plain_uid(element: Element | None) -> UID:
    text = "" if element is None else plain_text(element)
    if text is None:
        raise NotPlain
    return _uid(text)


@lru_cache
def _uid(text: str) -> UID:
    return UID(text)


@lru_cache
def _is_plain(syntax: UID) -> bool:
    others = (DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian)
    return bool(syntax) and syntax not in others and not syntax.is_private


def _any_header(path: Path, file: BinaryIO, tags: list[BaseTag | int]) -> Header:
    """The header of any file, read by pydicom."""
    preamble, size = _preamble(file)
    elements = _elements(file, tags)
    file_meta = elements.file_meta
    syntax = UID(text_in(file_meta, "TransferSyntaxUID"))
    source: BinaryIO = file
    deflated_at = 0
    if syntax == DeflatedExplicitVRLittleEndian:
        deflated_at = file.tell()
        source = BytesIO(inflate(file, deflated_at, MAX_HEADER))
        elements = read_dataset(source, False, True, stop_when=_until_pixels(), specific_tags=tags)
        elements.file_meta = file_meta
    raw = {tag: element for tag in (*elements.keys(),) if (element := elements.get_item(tag))}
    media_class = text_in(file_meta, "MediaStorageSOPClassUID")
    pixels = _pixel_element(source, syntax)
    if deflated_at and not pixels[0] and source.seek(0, 2) >= MAX_HEADER:
        raise ScanError(Reason.TOO_LARGE, f"the deflated header has more than {MAX_HEADER} bytes")
    return Header(path, elements, raw, syntax, media_class, *pixels, size, preamble, deflated_at)


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


def _preamble(file: BinaryIO) -> tuple[bytes, int]:
    """The 128 bytes before the DICM mark, and the file's size; `file` then stands behind the mark."""
    start = file.read(132)
    size = file.seek(0, 2)
    file.seek(132)
    if size < 132:
        raise ScanError(Reason.TRUNCATED, "the file ends in its preamble")
    if start[128:] != b"DICM":
        raise ScanError(Reason.NOT_DICOM, "the file has no DICM mark after its preamble")
    return start[:128], size


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
