"""Class B: DICOM files whose structure is broken."""

import struct
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian

from tests.bad_input.case import OK, Truth, case, reject, skip, warn
from tests.bad_input.phantoms import lone, nothing, setting, written
from tests.scans.phantoms import Change

PIXELS = b"\xe0\x7f\x10\x00OW\0\0"
"""Where the pixel element begins; its length follows."""

ROWS_TAG = b"\x28\x00\x10\x00US\x02\x00"


def one(change: Change = nothing, **more):
    """One slice with a defect."""
    return lambda folder: lone(folder, change, **more)


def edited(edit: Callable[[bytes], bytes], change: Change = nothing, **more):
    """One slice whose bytes are edited."""
    return written(one(change, **more), edit=edit)


def body(raw: bytes) -> int:
    """Where the data set begins, behind the file meta information."""
    return 144 + struct.unpack("<I", raw[140:144])[0]


def cut_to(place: Callable[[bytes], int]):
    return edited(lambda raw: raw[: place(raw)])


def with_length(length: int) -> Callable[[bytes], bytes]:
    """The pixel element claims another length."""

    def edit(raw: bytes) -> bytes:
        at = raw.rindex(PIXELS) + len(PIXELS)
        return raw[:at] + struct.pack("<I", length) + raw[at + 4 :]

    return edit


def nested(depth: int) -> Callable[[bytes], bytes]:
    opening = b"\x40\x00\x75\x02SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    closing = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
    return lambda raw: raw.replace(PIXELS, opening * depth + closing * depth + PIXELS)


def measured(depth: int) -> Callable[[bytes], bytes]:
    """The same with lengths."""
    lengths = ((12 * n + 8 * (n + 1), 20 * n) for n in reversed(range(depth)))
    start = b"\x40\x00\x75\x02SQ\0\0"
    chain = b"".join(start + struct.pack("<L4sL", outer, b"\xfe\xff\x00\xe0", inner) for outer, inner in lengths)
    return lambda raw: raw.replace(PIXELS, chain + PIXELS)


def deflated_bomb(folder: Path, element: bytes = PIXELS) -> None:
    """1 MB that inflates to one element of 1 GiB of zeros: 1,024 times the same block."""
    lone(folder, setting(Rows=32768, Columns=16384, PixelData=b""), syntax=DeflatedExplicitVRLittleEndian)
    raw = (folder / "a.dcm").read_bytes()
    header = zlib.decompress(raw[body(raw) :], -15)[: -len(PIXELS) - 4]
    header += element + struct.pack("<I", 2**30)
    engine = zlib.compressobj(9, zlib.DEFLATED, -15)
    start = engine.compress(header) + engine.flush(zlib.Z_FULL_FLUSH)
    block = engine.compress(bytes(2**20)) + engine.flush(zlib.Z_FULL_FLUSH)
    (folder / "a.dcm").write_bytes(raw[: body(raw)] + start + block * 1024 + engine.flush())


def inserted(element: bytes, before: bytes = ROWS_TAG) -> Callable[[bytes], bytes]:
    return lambda raw: raw.replace(before, element + before, 1)


def explicit_in_name_only(folder: Path) -> Truth:
    """An implicit data set under the UID of the explicit syntax."""
    truth = lone(folder, syntax=ImplicitVRLittleEndian)
    raw = (folder / "a.dcm").read_bytes()
    uid = b"1.2.840.10008.1.2.1\0"
    old = b"\x02\x00\x10\x00UI\x12\x00" + b"1.2.840.10008.1.2\0"
    new = b"\x02\x00\x10\x00UI\x14\x00" + uid
    at = raw.index(b"\x02\x00\x00\x00UL\x04\x00") + 8
    length = struct.unpack("<I", raw[at : at + 4])[0] + len(new) - len(old)
    raw = raw[:at] + struct.pack("<I", length) + raw[at + 4 :]
    (folder / "a.dcm").write_bytes(raw.replace(old, new))
    return truth


def with_preamble(preamble: bytes):
    def change(folder: Path) -> Truth:
        truth = lone(folder)
        raw = (folder / "a.dcm").read_bytes()
        (folder / "a.dcm").write_bytes(preamble.ljust(128, b"\0") + raw[128:])
        return truth

    return change


def no_image(sop_class: str, modality: str):
    return one(setting(SOPClassUID=UID(sop_class), Modality=modality, PixelData=None, Rows=None, Columns=None))


def unknown_charset(ds, k: int) -> None:
    ds.SpecificCharacterSet = "ISO_IR 100"


DEFLATED_GARBAGE = edited(lambda raw: raw[: body(raw)] + b"\xff" * 300, syntax=DeflatedExplicitVRLittleEndian)
OTHERS = {
    "SR": "1.2.840.10008.5.1.4.1.1.88.11",
    "DOC": "1.2.840.10008.5.1.4.1.1.104.1",
    "RTSTRUCT": "1.2.840.10008.5.1.4.1.1.481.3",
    "SEG": "1.2.840.10008.5.1.4.1.1.66.4",
    "PR": "1.2.840.10008.5.1.4.1.1.11.1",
    "KO": "1.2.840.10008.5.1.4.1.1.88.59",
}

CASES = (
    case("B1", "cut in the preamble", reject("truncated"), cut_to(lambda raw: 100), cut_to(lambda raw: 131)),
    case(
        "B2", "cut in the file meta information", reject("truncated"),
        *(cut_to(lambda raw, n=n: n) for n in (136, 150, 200, 260)), cut_to(lambda raw: body(raw) - 5),
    ),
    case(
        "B3", "cut in the header of the data set", reject("truncated"),
        cut_to(body), cut_to(lambda raw: body(raw) + 6), cut_to(lambda raw: body(raw) + 60),
        cut_to(lambda raw: raw.index(ROWS_TAG) + 4),
    ),
    case(
        "B3", "cut just before the pixels", reject("truncated"),
        *(cut_to(lambda raw, n=n: raw.rindex(PIXELS) + n) for n in (0, 6, 9)),
    ),
    case(
        "B4", "cut in the pixels: by 1 byte, half, all", reject("truncated"),
        cut_to(lambda raw: len(raw) - 1), cut_to(lambda raw: len(raw) - 80), cut_to(lambda raw: len(raw) - 160),
    ),
    case(
        "B5", "pixels that claim 2 GiB, or half of what is there", reject("length_mismatch"),
        edited(with_length(2**31)), edited(with_length(80)),
    ),
    case(
        "B5", "twice the pixels that the header tells: of 8 bits, of half the rows", reject("length_mismatch"),
        one(setting(BitsAllocated=8, BitsStored=8, HighBit=7)), one(setting(Rows=4)),
    ),
    case("B6", "pixels of undefined length in a native syntax", reject("malformed"), edited(with_length(0xFFFFFFFF))),
    case("B7", "a data set without preamble", reject("not_dicom"), edited(lambda raw: raw[body(raw) :])),
    case(
        "B8", "no TransferSyntaxUID", reject("malformed"),
        edited(lambda raw: raw.replace(b"\x02\x00\x10\x00UI", b"\x02\x00\x11\x00UI", 1)),
    ),
    case(
        "B9", "an unknown, a private TransferSyntaxUID", reject("unsupported_transfer_syntax"),
        one(lambda ds, k: setattr(ds.file_meta, "TransferSyntaxUID", UID("1.2.3.4.5"))),
        one(lambda ds, k: setattr(ds.file_meta, "TransferSyntaxUID", UID("1.2.840.113619.5.2"))),
    ),
    case("B10", "sequences nested 300 and 20,000 deep, of undefined and of defined length", reject("malformed"),
         *(edited(form(depth)) for form in (nested, measured) for depth in (300, 20_000))),
    case("B11", "1 MB that inflates to 1 GiB, of pixels, of header", reject("too_large"),
         deflated_bomb, partial(deflated_bomb, element=b"\x09\x00\x00\x10OB\0\0")),
    case("B12", "a deflated data set of garbage", reject("malformed"), DEFLATED_GARBAGE),
    case(
        "B13", "an element of length 0xFFFFFFFE", reject("malformed"),
        edited(inserted(b"\x28\x00\x09\x00UN\0\0\xfe\xff\xff\xff")),
    ),
    case(
        "B13", "pixels of length 0xFFFFFFFE", reject("length_mismatch"), edited(with_length(0xFFFFFFFE)),
    ),
    case(
        "B14", "a value representation that is none", reject("malformed"),
        edited(lambda raw: raw.replace(ROWS_TAG, b"\x28\x00\x10\x00Z?\x02\x00")),
    ),
    case("B14", "implicit elements under the UID of the explicit syntax", OK, explicit_in_name_only),
    case(
        "B15", "no Rows, no Columns, no BitsAllocated, no SOPInstanceUID", reject("missing_attribute"),
        *(one(setting(**{word: None})) for word in ("Rows", "Columns", "BitsAllocated", "SOPInstanceUID")),
    ),
    case(
        "B16", "no row at all; -1 frames; 65535 x 65535 pixels; 2,000,000,000 frames", reject("bad_dimensions"),
        *(one(setting(**words)) for words in ({"Rows": 0}, {"NumberOfFrames": -1}, {"Rows": 65535, "Columns": 65535})),
        one(setting(NumberOfFrames=2_000_000_000)),
    ),
    case(
        "B17", "an element twice, with other and with equal values", reject("malformed"),
        edited(inserted(ROWS_TAG + b"\x04\x00")), edited(inserted(ROWS_TAG + b"\x08\x00")),
    ),
    case(
        "B18", "an unknown character set; a name that is no text", OK,
        edited(lambda raw: raw.replace(b"ISO_IR 100", b"KLINGON 42"), setting(SpecificCharacterSet="ISO_IR 100")),
        edited(lambda raw: raw.replace(b"CANARY^NAME", b"CANARY\xff\x1b$B\xfe")),
    ),
    case(
        "B19", "a preamble that Windows or Linux would run", warn("executable_preamble"),
        with_preamble(b"MZ\x90"), with_preamble(b"\x7fELF\x02"),
    ),
    case(
        "B20", "objects without image: SR, PDF, RTSTRUCT, SEG, PR, KO", skip("DICOM without image"),
        *(no_image(sop_class, modality) for modality, sop_class in OTHERS.items()),
    ),
)  # fmt: skip
