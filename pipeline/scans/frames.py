"""Frames of one DICOM file as they are stored, compressed or not."""

from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from typing import Any, BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydicom.encaps import generate_frames
from pydicom.pixels.utils import expand_ybr422

from pipeline.domain import Reason, ScanError
from pipeline.scans.boundary import check_inflation
from pipeline.scans.codecs import codec_of, decoded, in_parallel
from pipeline.scans.headers import UNDEFINED_LENGTH, Header, inflate
from pipeline.scans.pixels import PixelFormat, Stored, clean_bits

T = TypeVar("T")

NATIVE = frozenset({"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"})
"""Transfer syntaxes whose pixels are not compressed (deflate packs the whole file)."""

BIG_ENDIAN = "1.2.840.10008.1.2.2"

END_OF_IMAGE = b"\xff\xd9"
"""Last bytes of every JPEG, JPEG-LS and JPEG 2000 stream; decoders fill up what is missing before it with grey."""


def stored_frames(header: Header, form: PixelFormat, which: Sequence[int] = (0,)) -> Iterator[Stored]:
    """Frames of a file in the order asked for, to keep; see `each_frame`."""
    return each_frame(header, form, which, lambda _, frame: frame.copy())


def each_frame(header: Header, form: PixelFormat, which: Sequence[int], use: Callable[[int, Stored], T]) -> Iterator[T]:
    """What `use` makes of frames of a file, in the order asked for; of several compressed ones at a time.

    Args:
        header: The file's header.
        form: Its pixel format.
        which: Indices of the frames.
        use: Gets a frame's place in `which` and its pixels, [row, column] or [row, column, 3], unused bits removed;
            what it keeps of them it must copy.

    Raises:
        ScanError: truncated, length_mismatch, malformed, too_large, unsupported_transfer_syntax, decoder_crash,
            timeout.
    """
    if is_native(header):
        return (use(i, clean_bits(frame, form)) for i, frame in enumerate(_native(header, form, which)))
    return _each_decoded(header, form, which, use)


def is_native(header: Header) -> bool:
    """Whether the file's pixels are not compressed."""
    return header.transfer_syntax in NATIVE


def _native(header: Header, form: PixelFormat, which: Sequence[int]) -> Iterator[Stored]:
    """Uncompressed frames, each read straight into an array."""
    dtype = form.dtype.newbyteorder(">" if header.transfer_syntax == BIG_ENDIAN else "<")
    check_length(header, form)
    with BytesIO(_inflated(header, form)) if header.deflated_at else header.path.open("rb") as file:
        swapped = form.allocated == 8 and _has_big_endian_words(file, header)
        for index in which:
            start, end = index * form.frame_bytes, (index + 1) * form.frame_bytes
            first = start - start % 2 if swapped else start
            raw = np.empty(end + end % 2 - first if swapped else end - first, np.uint8)
            file.seek(header.pixel_offset + first)
            if file.readinto(raw.data) < len(raw):
                raise ScanError(Reason.IO_ERROR, "the file became shorter while it was read")
            if swapped:
                raw = raw.reshape(-1, 2)[:, ::-1].ravel()[start - first : end - first]
            yield _shaped(raw.view(dtype).astype(form.dtype, copy=False), form)


def _has_big_endian_words(file: BinaryIO, header: Header) -> bool:
    """Whether bytes come as halves of 16-bit words, the second first: OW in big endian (PS3.5 A.3, 8.1.2)."""
    if header.transfer_syntax != BIG_ENDIAN:
        return False
    file.seek(header.pixel_offset - 8)  # VR, two reserved bytes, length
    return file.read(2) == b"OW"


def check_length(header: Header, form: PixelFormat) -> None:
    """Refuse a file whose uncompressed pixels are not all there, or that claims other lengths.

    Some padding behind the pixels is common; half a frame and more means that frames, size or bits are not as told.

    Raises:
        ScanError: malformed, truncated, length_mismatch.
    """
    expected, length = form.frame_bytes * form.frames, header.pixel_length
    if length == UNDEFINED_LENGTH:
        raise ScanError(Reason.MALFORMED, "uncompressed pixels must have a defined length")
    present = length if header.deflated_at else header.size - header.pixel_offset
    if present < expected:
        raise ScanError(Reason.TRUNCATED, f"{expected} bytes of pixels expected, {max(present, 0)} found")
    if length < expected or length > present or length - expected >= max(form.frame_bytes // 2, 2):
        raise ScanError(Reason.LENGTH_MISMATCH, f"{expected} bytes of pixels expected, the file claims {length}")


def _inflated(header: Header, form: PixelFormat) -> bytes:
    """The data set of a deflated file up to the end of its pixels."""
    expected = form.frame_bytes * form.frames
    end = header.pixel_offset + expected
    check_inflation(header.size, end)
    with header.path.open("rb") as file:
        raw = inflate(file, header.deflated_at, end)
    if len(raw) < end:
        raise ScanError(
            Reason.TRUNCATED, f"{expected} bytes of pixels expected, {len(raw) - header.pixel_offset} found"
        )
    return raw


def _shaped(values: NDArray[Any], form: PixelFormat) -> Stored:
    if form.photometric == "YBR_FULL_422":
        values = np.frombuffer(bytearray(expand_ybr422(values.tobytes(), form.allocated)), form.dtype)
    if form.samples == 1:
        return values.reshape(form.rows, form.columns)
    if form.planar == 1 and form.photometric != "YBR_FULL_422":
        return values.reshape(3, form.rows, form.columns).transpose(1, 2, 0)
    return values.reshape(form.rows, form.columns, 3)


def _each_decoded(
    header: Header, form: PixelFormat, which: Sequence[int], use: Callable[[int, Stored], T]
) -> Iterator[T]:
    """`each_frame` of compressed pixels."""
    codec = codec_of(header.transfer_syntax)
    if form.floating:
        raise ScanError(Reason.UNSUPPORTED_PIXELS, "compressed floating-point pixels aren't defined")
    request = {
        "codec": codec,
        "rows": form.rows,
        "columns": form.columns,
        "samples": form.samples,
        "dtype": form.dtype.str,
        "photometric": form.photometric,
    }
    encoded = encoded_frames(header, form.frames)
    wanted = [encoded[index] for index in which]
    if codec != "rle" and any(END_OF_IMAGE not in frame[-64:] for frame in wanted):
        raise ScanError(Reason.TRUNCATED, "a compressed frame has no end")

    def work(i: int) -> T:
        with decoded(request, wanted[i]) as frame:
            return use(i, clean_bits(frame, form))

    yield from in_parallel(work, range(len(wanted)))


def encoded_frames(header: Header, count: int) -> list[bytes]:
    """The compressed frames of a file (PS3.5 A.4).

    Raises:
        ScanError: malformed, truncated.
    """
    if header.pixel_length != UNDEFINED_LENGTH:
        raise ScanError(Reason.MALFORMED, "compressed pixels must come in fragments of undefined total length")
    with header.path.open("rb", buffering=0) as file:
        file.seek(header.pixel_offset)
        raw = file.read()
    ((table, first), *fragments), end = _fragments(raw)
    if not fragments:
        raise ScanError(Reason.MALFORMED, f"frames expected: {count}, found: none")
    if count == 1 and len(fragments) == 1 and first - table <= 4:
        frames = [raw[slice(*fragments[0])]]
    else:
        frames = list(generate_frames(raw[:end], number_of_frames=count))
    if len(frames) != count:
        raise ScanError(Reason.MALFORMED, f"frames expected: {count}, found: {len(frames)}")
    return frames


def _fragments(raw: bytes) -> tuple[list[tuple[int, int]], int]:
    """Where each item begins and ends, the table of offsets first; and where the sequence ends, its delimiter included.

    Raises:
        ScanError: truncated, if a fragment or the delimiter is not all there; malformed for anything else than items.
    """
    at, found = 0, list[tuple[int, int]]()
    while at + 8 <= len(raw):
        tag, length = raw[at : at + 4], int.from_bytes(raw[at + 4 : at + 8], "little")
        at += 8
        if tag == b"\xfe\xff\xdd\xe0":
            if not found:
                raise ScanError(Reason.MALFORMED, "the compressed pixels have no table of offsets")
            return found, at
        if tag != b"\xfe\xff\x00\xe0" or length == UNDEFINED_LENGTH:
            raise ScanError(Reason.MALFORMED, "the compressed pixels are no sequence of fragments")
        found.append((at, at + length))
        at += length
    raise ScanError(Reason.TRUNCATED, "the compressed pixels end early")
