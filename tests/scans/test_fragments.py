"""The fragments of compressed pixels, and the frames that they make."""

import numpy as np
import pytest
from pydicom.uid import JPEGLSLossless

from pipeline.domain import ScanError
from pipeline.scans.boundary import refusing
from pipeline.scans.frames import encoded_frames
from pipeline.scans.headers import read_header
from tests.scans.phantoms import dicom, write

ITEM, END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0" + bytes(4)


def item(content: bytes) -> bytes:
    return ITEM + len(content).to_bytes(4, "little") + content


@pytest.mark.parametrize(
    ("raw", "count", "expected"),
    [
        (item(b"") + item(b"frame1") + END, 1, [b"frame1"]),
        (item(bytes(4)) + item(b"frame1") + END, 1, [b"frame1"]),
        (item(b"") + item(b"fra") + item(b"me12") + END, 1, [b"frame12"]),
        (item(b"") + item(b"frame1") + item(b"frame2") + END, 2, [b"frame1", b"frame2"]),
    ],
)
def test_fragments_make_frames(tmp_path, raw, count, expected):
    assert encoded_frames(compressed(tmp_path, raw), count) == expected


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (END, "malformed: the compressed pixels have no table of offsets"),
        (item(b"") + ITEM + bytes([9, 0, 0, 0]) + b"x", "truncated: the compressed pixels end early"),
        (item(b"") + b"what is this", "malformed: the compressed pixels are no sequence of fragments"),
        (
            item(bytes(4) + bytes([14, 0, 0, 0])) + item(b"frame1") + item(b"frame2") + END,
            "malformed: frames expected: 1",
        ),
    ],
)
def test_fragments_that_make_no_frame_are_refused(tmp_path, raw, message):
    with pytest.raises(ScanError, match=message), refusing():
        encoded_frames(compressed(tmp_path, raw), 1)


def compressed(folder, raw):
    ds = dicom(np.zeros((8, 8), np.int16), (0, 0, 0), syntax=JPEGLSLossless)
    ds.PixelData = item(b"") + item(b"MARK") + END
    ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    path = write(ds, folder / "a.dcm")
    header = read_header(path)
    path.write_bytes(path.read_bytes()[: header.pixel_offset] + raw)
    return header
