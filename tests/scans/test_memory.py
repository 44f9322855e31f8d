"""Reading takes little more memory than the volume itself, whatever has to be done to its voxels."""

import tracemalloc

import imagecodecs
import numpy as np
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGLSLossless

from pipeline.domain import ReadRules
from pipeline.scans.find import find_scans, read_volume
from tests.scans.phantoms import series

SLICES, SIDE = 20, 256
MOST_TIMES_THE_VOLUME = 2.2

SMOOTH = np.stack([np.add.outer(np.arange(SIDE), np.arange(SIDE)).astype(np.uint16) + 100 * k for k in range(SLICES)])


def padded(ds, k):
    ds.add_new("PixelPaddingValue", "US", int(SMOOTH[k, 0, 0]))


def compressed(ds, k):
    ds.file_meta.TransferSyntaxUID = JPEGLSLossless
    ds.PixelData = encapsulate([imagecodecs.jpegls_encode(SMOOTH[k])])
    ds["PixelData"].is_undefined_length = True


@pytest.mark.parametrize(
    ("change", "missing", "code"),
    [(lambda ds, k: None, 0, None), (padded, 0, None), (compressed, 0, None), (lambda ds, k: None, 1, "gaps_filled")],
    ids=["plain", "padded", "compressed", "gap"],
)
def test_a_volume_takes_little_more_than_its_own_memory(tmp_path, change, missing, code):
    series(tmp_path, change, stored=SMOOTH, slices=SLICES)
    for path in sorted(tmp_path.iterdir())[5 : 5 + missing]:
        path.unlink()
    (scan,), _ = find_scans(tmp_path)
    tracemalloc.start()
    volume = read_volume(scan, ReadRules(allow_gaps=True))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert volume.warnings == ((code,) if code else ())
    assert peak <= MOST_TIMES_THE_VOLUME * volume.voxels.nbytes


def test_frames_of_a_file_are_kept_apart(tmp_path):
    from pipeline.scans.frames import stored_frames
    from pipeline.scans.headers import read_header
    from pipeline.scans.pixels import pixel_format

    def eight_frames(ds, k):
        ds.NumberOfFrames = 8
        compressed(ds, k)
        ds.PixelData = encapsulate([imagecodecs.jpegls_encode(SMOOTH[i]) for i in range(8)])

    series(tmp_path, eight_frames, stored=SMOOTH, slices=1)
    header = read_header(next(tmp_path.iterdir()))
    frames = list(stored_frames(header, pixel_format(header, 10**9), [7, 0, 3]))
    np.testing.assert_array_equal(frames, SMOOTH[[7, 0, 3]])
