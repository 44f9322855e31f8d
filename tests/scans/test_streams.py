"""What compressed streams claim of their size."""

import imagecodecs
import numpy as np
import pytest

from pipeline.scans.streams import stream_size

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
