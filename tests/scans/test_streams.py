"""What compressed streams claim of their size."""

import imagecodecs
import numpy as np
import pytest

from pipeline.domain import ScanError
from pipeline.scans.streams import check_stream, stream_size

GREY = np.arange(48 * 40, dtype=np.uint8).reshape(48, 40)
ENCODERS = {
    "jpeg": imagecodecs.jpeg8_encode,
    "jpeg, 12 bits": lambda v: imagecodecs.jpeg8_encode(v.astype(np.uint16), bitspersample=12),
    "lossless jpeg": lambda v: imagecodecs.ljpeg_encode(v, bitspersample=8),
    "jpeg-ls": imagecodecs.jpegls_encode,
    "jpeg 2000": lambda v: imagecodecs.jpeg2k_encode(v, codecformat="j2k"),
    "jpeg 2000 in a jp2": lambda v: imagecodecs.jpeg2k_encode(v, codecformat="jp2"),
    "htj2k": imagecodecs.htj2k_encode,
}


@pytest.mark.parametrize("name", ENCODERS)
def test_each_codec_says_its_size(name: str) -> None:
    assert stream_size(bytes(ENCODERS[name](GREY))) == (48, 40)


@pytest.mark.parametrize("stream", [b"", b"\xff\xd8", b"\xff\xd8\xff\xe0\0\x04ab", b"junk" * 9, b"\xff\x4f\xff\x51\0"])
def test_a_stream_without_a_size_says_none(stream: bytes) -> None:
    assert stream_size(stream) is None


def test_another_size_is_refused() -> None:
    stream = bytes(imagecodecs.jpegls_encode(GREY))
    check_stream(stream, 48, 40)
    with pytest.raises(ScanError, match="dims_mismatch: a compressed frame claims another size"):
        check_stream(stream, 40, 48)


@pytest.mark.parametrize(("field", "value"), [(4, 0), (5, 0), (6, 1), (7, 8)], ids=["width", "height", "left", "top"])
def test_tiles_must_cover_the_picture(field: int, value: int) -> None:
    stream = bytearray(imagecodecs.jpeg2k_encode(GREY, codecformat="j2k"))
    at = stream.index(b"\xff\x4f\xff\x51") + 8 + 4 * field
    stream[at : at + 4] = value.to_bytes(4, "big")
    with pytest.raises(ScanError, match="malformed: the tiles of a JPEG 2000 frame"):
        stream_size(bytes(stream))


def test_more_tiles_than_can_be_numbered_are_refused() -> None:
    stream = bytearray(imagecodecs.jpeg2k_encode(GREY, codecformat="j2k"))
    at = stream.index(b"\xff\x4f\xff\x51") + 8
    stream[at : at + 32] = b"".join(n.to_bytes(4, "big") for n in (300, 300, 0, 0, 1, 1, 0, 0))
    with pytest.raises(ScanError, match=r"malformed: .* or are too many"):
        stream_size(bytes(stream))
