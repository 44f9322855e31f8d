"""Class C, first part: transfer syntaxes and compressed streams."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import imagecodecs
import numpy as np
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from pipeline.scans import codecs
from tests.bad_input.case import OK, Truth, case, either, reject
from tests.bad_input.phantoms import lone, mutants
from tests.scans.phantoms import put_pixels

JPEG = "1.2.840.10008.1.2.4."
REFUSALS = ("malformed", "truncated", "dims_mismatch", "decoder_crash", "timeout", "too_large", "length_mismatch")


def smooth(bits: int) -> np.ndarray:
    """A picture that compresses well: [48, 40]."""
    rows, columns = np.mgrid[:48, :40]
    wave = (np.sin(rows / 9) + np.cos(columns / 7) + 2) / 4 * ((1 << bits) - 1)
    return wave.astype(np.uint8 if bits == 8 else np.uint16)


def native(syntax: UID):
    def build(folder: Path) -> Truth:
        stored = smooth(12)
        order = ">" if syntax == ExplicitVRBigEndian else "<"

        def change(ds, k: int) -> None:
            ds.PixelData = stored.astype(f"{order}u2").tobytes()

        return lone(folder, change, stored=stored, syntax=syntax)

    return build


def compressed(
    syntax: str,
    encode: Callable[[np.ndarray], bytes],
    bits: int = 12,
    within: float = 0,
    fragments: Callable[[bytes], Sequence[bytes]] = lambda encoded: [encoded],
    table: bool = True,
    stored: np.ndarray | None = None,
):
    """One slice, its pixels encoded: `fragments` cuts the stream, `table` is the basic offset table."""

    def build(folder: Path) -> Truth:
        values = smooth(bits)

        def change(ds, k: int) -> None:
            put_pixels(ds, values if stored is None else stored, bits)
            ds.PixelData = encapsulate(list(fragments(bytes(encode(values)))), has_bot=table)
            ds["PixelData"].is_undefined_length, ds["PixelData"].VR = True, "OB"

        truth = lone(folder, change, stored=values, syntax=UID(syntax))
        return Truth(truth.values, truth.affine, within)

    return build


def rle(folder: Path) -> Truth:
    def change(ds, k: int) -> None:
        ds.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)

    return lone(folder, change, stored=smooth(12))


def j2k(values: np.ndarray) -> bytes:
    return imagecodecs.jpeg2k_encode(values, reversible=True, codecformat="j2k")


def sof3(values: np.ndarray) -> bytes:
    return imagecodecs.ljpeg_encode(values, bitspersample=12)


def lying(field: int, number: int):
    """HTJ2K whose marker of sizes says something else at one place: some such streams take minutes to decode."""

    def encode(values: np.ndarray) -> bytes:
        encoded = imagecodecs.htj2k_encode(values)
        at = encoded.index(b"\xff\x4f\xff\x51") + 8 + 4 * field
        return encoded[:at] + number.to_bytes(4, "big") + encoded[at + 4 :]

    return compressed(JPEG + "201", encode)


LOSSLESS_JPEG = [compressed(JPEG + number, sof3) for number in ("57", "70")]
BASELINE = compressed(JPEG + "50", lambda v: imagecodecs.jpeg8_encode(v, level=95), 8, within=8)
EXTENDED = compressed(JPEG + "51", lambda v: imagecodecs.jpeg8_encode(v, level=95, bitspersample=12), within=60)
JPEG_LS = compressed(JPEG + "80", imagecodecs.jpegls_encode)
NEAR_LOSSLESS = [
    compressed(JPEG + "81", imagecodecs.jpegls_encode),
    compressed(JPEG + "81", lambda v: imagecodecs.jpegls_encode(v, level=3), within=3),
]
JPEG_2000 = compressed(JPEG + "90", j2k)
LOSSY_2000 = compressed(JPEG + "91", lambda v: imagecodecs.jpeg2k_encode(v, level=60, codecformat="j2k"), 8, within=8)
HTJ2K = [compressed(JPEG + number, imagecodecs.htj2k_encode) for number in ("201", "202", "203")]


def lethal(name: str, offset: int, byte: int):
    """A file of pydicom's whose one changed byte aborts GDCM 3.2.6."""

    def build(folder: Path) -> None:
        raw = bytearray(Path(str(get_testdata_file(name))).read_bytes())
        raw[offset] = byte
        (folder / name).write_bytes(raw)

    return build


def pixels_begin(raw: bytes) -> int:
    return raw.rindex(b"\xe0\x7f\x10\x00OB") + 20


@contextmanager
def without_htj2k(folder: Path) -> Iterator[None]:
    """The decoder's process finds imagecodecs built without HTJ2K."""
    (folder.parent.parent / "sitecustomize.py").write_text("import sys; sys.modules['imagecodecs._htj2k'] = None")
    pool = codecs.Pool()
    with patch.object(codecs, "_POOL", pool), patch.dict("os.environ", PYTHONPATH=str(folder.parent.parent)):
        yield
    pool.close()


CASES = (
    case(
        "C1", "each native transfer syntax: Implicit LE, Explicit LE, Explicit BE, Deflated", OK,
        *map(native, (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)),
        native(DeflatedExplicitVRLittleEndian),
    ),
    case(
        "C1", "each compressed one, bit for bit: RLE, .57, .70, .80, .81, .90, .201, .202, .203", OK,
        rle, *LOSSLESS_JPEG, JPEG_LS, NEAR_LOSSLESS[0], JPEG_2000, *HTJ2K,
    ),
    case(
        "C1", "lossy ones within their bound: .50 (8 of 255), .51 (60 of 4095), .81 (3), .91 (8 of 255)", OK,
        BASELINE, EXTENDED, NEAR_LOSSLESS[1], LOSSY_2000,
    ),
    case(
        "C2", "HTJ2K where the codec is missing", reject("unsupported_transfer_syntax"), HTJ2K[0], around=without_htj2k
    ),
    case(
        "C3", "MPEG-2, MPEG-4, HEVC", reject("unsupported_transfer_syntax"),
        *(compressed(JPEG + number, lambda v: bytes(200)) for number in ("100", "102", "107")),
    ),
    case(
        "C4", "100 JPEG streams with a flipped bit, of baseline and of lossless", either(*REFUSALS),
        mutants(BASELINE, 100, pixels_begin), mutants(LOSSLESS_JPEG[1], 100, pixels_begin),
    ),
    case("C5", "100 JPEG 2000 streams with a flipped bit", either(*REFUSALS), mutants(JPEG_2000, 100, pixels_begin)),
    case("C6", "100 JPEG-LS streams with a flipped bit", either(*REFUSALS), mutants(JPEG_LS, 100, pixels_begin)),
    case("C7", "100 RLE streams with a flipped bit", either(*REFUSALS), mutants(rle, 100, pixels_begin)),
    case(
        "C8", "the two streams that abort GDCM 3.2.6", either(*REFUSALS),
        lethal("JPEG2000.dcm", 3092, 114), lethal("SC_rgb_jpeg_gdcm.dcm", 1338, 248),
    ),
    case("C9", "an empty basic offset table; a frame in two fragments", OK,
        compressed(JPEG + "80", imagecodecs.jpegls_encode, table=False),
        compressed(JPEG + "80", imagecodecs.jpegls_encode, table=False, fragments=lambda e: [e[:100], e[100:]]),
    ),
    case("C9", "two frames where the header announces one; none at all", reject("malformed"),
        compressed(JPEG + "80", imagecodecs.jpegls_encode, fragments=lambda e: [e, e]),
        compressed(JPEG + "80", imagecodecs.jpegls_encode, fragments=lambda e: []),
    ),
    case(
        "C10", "streams of another size than Rows and Columns", reject("dims_mismatch"),
        compressed(JPEG + "90", j2k, stored=smooth(12)[:-1]),
        compressed(JPEG + "80", imagecodecs.jpegls_encode, stored=smooth(12)[:, 1:]),
    ),
    case("C10", "HTJ2K that claims 48,000 rows", reject("dims_mismatch"), lying(1, 48_000)),
    case("C10", "HTJ2K whose tiles begin behind the picture, have no width, no height", reject("malformed"),
         lying(7, 8), lying(4, 0), lying(5, 0)),
)  # fmt: skip
