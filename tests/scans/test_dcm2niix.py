"""Files of pydicom and nibabel, and phantoms in 48 orientations, against an independent converter."""

import gzip
import re
import shutil
from itertools import product
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pydicom.data
import pytest

from pipeline.domain import ScanError
from pipeline.scans.find import find_scans, read_volume, survey
from tests.scans.dcm2niix import references
from tests.scans.phantoms import series

PYDICOM = Path(pydicom.data.__file__).parent / "test_files"
NIBABEL = Path(nibabel.__file__).parent / "nicom" / "tests" / "data"
FILES = sorted(path for path in PYDICOM.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc"))
SERIES = sorted(path for path in NIBABEL.iterdir() if path.name.endswith((".dcm", ".dcm.gz")))

# who is right was looked up file by file; pydicom's decoders are the third opinion

UNREAD = {
    "JPEG-lossy.dcm": "12-bit JPEG",
    "JPGExtended.dcm": "12-bit JPEG",
    "SC_rgb_rle_16bit.dcm": "16-bit colour",
    "SC_ybr_full_422_uncompressed.dcm": "uncompressed 4:2:2",
    "image_dfl.dcm": "deflated",
    "slicethickness_empty_string.dcm": "no SliceThickness",
}
"""What dcm2niix does not read."""

AS_PYDICOM = {
    **dict.fromkeys(
        ("SC_rgb_dcmtk_+eb+cy+n1.dcm", "SC_rgb_dcmtk_+eb+cy+n2.dcm", "SC_rgb_dcmtk_+eb+cy+np.dcm"),
        "JPEG colour: dcm2niix rounds otherwise",
    ),
    **dict.fromkeys(("SC_rgb_dcmtk_+eb+cy+s2.dcm", "SC_rgb_dcmtk_+eb+cy+s4.dcm"), "colour of fewer pixels, upsampled"),
    **dict.fromkeys(("SC_rgb_jpeg_dcmtk.dcm", "SC_rgb_jpeg_lossy_gdcm.dcm"), "JPEG colour: dcm2niix rounds otherwise"),
    **dict.fromkeys(
        ("SC_jpeg_no_color_transform.dcm", "SC_jpeg_no_color_transform_2.dcm", "SC_rgb_jpeg.dcm"),
        "RGB in a JPEG: dcm2niix takes it for YCbCr",
    ),
    "SC_rgb_jpeg_app14_dcmd.dcm": "JPEG colour: dcm2niix rounds otherwise",
    "SC_rgb_rle_32bit.dcm": "32-bit colour: dcm2niix reads one colour",
    "SC_rgb_small_odd_big_endian.dcm": "bytes in big-endian words, which dcm2niix does not swap",
    "J2K_pixelrep_mismatch.dcm": "stream and header differ about the sign: dcm2niix believes the stream",
}
"""Where dcm2niix differs and pydicom agrees with us."""

BY_DESIGN = {
    "693_J2KI.dcm": "PixelPaddingValue is filled; a lone slice is as thick as its SliceThickness",
    **dict.fromkeys(("6154", "6247", "6278"), "MONOCHROME1 is turned"),
    "examples_palette.dcm": "a palette becomes colour",
}
"""Where dcm2niix shows what is stored, and we what it means."""

REFUSED = {
    **dict.fromkeys(
        ("SC_rgb_rle_2frame.dcm", "SC_rgb_rle_32bit_2frame.dcm", "examples_ybr_color.dcm"),
        "no_geometry: the frames of this file don't say where they lie",
    ),
    **dict.fromkeys(("0.dcm", "1.dcm"), "bad_dimensions: a mosaic of 48 slices can't have 256 x 256 pixels"),
    "decimal_rescale.dcm": "missing_attribute: SOPInstanceUID is missing",
    **dict.fromkeys(("liver_1frame.dcm", "liver_expb_1frame.dcm"), "without image (Segmentation Storage)"),
    **dict.fromkeys(
        [f"rtdose{kind}.dcm" for kind in ("", "_1frame", "_expb", "_expb_1frame", "_rle", "_rle_1frame")]
        + ["badVR.dcm"],
        "RT Dose Storage",
    ),
}
"""What dcm2niix converts and we refuse or take for no scan."""


def alone(path, folder):
    """The file by itself in a folder, unpacked."""
    folder.mkdir()
    if path.suffix == ".gz":
        (folder / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
    else:
        shutil.copyfile(path, folder / path.name)
    return folder


def outcome(folder):
    """The volume in a folder of one file, or why there is none."""
    found = survey(folder)
    if not found.scans:
        (reason,) = [f"{one.reason}: {one.detail}" for one in found.rejections] or [why for _, why in found.skipped]
        return reason
    try:
        return read_volume(found.scans[0])
    except ScanError as error:
        return str(error)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_of_pydicom_is_a_volume_or_refused_with_a_reason(path, tmp_path):
    found = survey(alone(path, tmp_path / "in"))
    assert len(found.scans) + len(found.rejections) + len(found.skipped) == 1
    result = outcome(tmp_path / "in")
    assert result


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, about its own odd files
@pytest.mark.parametrize(
    "path", [path for path in FILES if "TINY_ALPHA" not in path.parts] + SERIES, ids=lambda path: path.name
)
def test_files_agree_with_dcm2niix(path, tmp_path):
    folder = alone(path, tmp_path / "in")
    result, others = outcome(folder), references(folder, tmp_path / "out")
    if isinstance(result, str):
        assert not others or REFUSED[path.name] in result
        return
    header = pydicom.dcmread(next(folder.iterdir()))
    agreed = any(other.agrees(result, placed="ImagePositionPatient" in header) for other in others)
    assert bool(others) == (path.name not in UNREAD)
    assert agreed == (path.name not in UNREAD | AS_PYDICOM | BY_DESIGN)
    if path.name in AS_PYDICOM:
        values = header.pixel_array.reshape(result.shape[1], result.shape[0], *result.voxels.shape[3:])
        ours = result.voxels[::-1, ::-1, 0].swapaxes(0, 1)
        np.testing.assert_array_equal(ours, values.astype(np.float32))


@pytest.mark.parametrize(
    ("folder", "volumes"), [("98892001/CT5N", 1), ("98892003/MR1", 3), ("98892003/MR2", 7), ("98892003/MR700", 7)]
)
def test_series_of_pydicom_agree_with_dcm2niix(folder, volumes, tmp_path):
    scans, rejections = find_scans(PYDICOM / "dicomdirtests" / folder)
    others = references(PYDICOM / "dicomdirtests" / folder, tmp_path / "out")
    assert (len(scans), len(others), rejections) == (volumes, volumes, [])
    for scan in scans:
        assert any(other.agrees(read_volume(scan)) for other in others)


DIRECTIONS = [np.array(sign * np.eye(3)[axis]) for axis, sign in product(range(3), (1, -1))]
ORIENTATIONS = [
    (*row, *column, flip) for row, column, flip in product(DIRECTIONS, DIRECTIONS, (1, -1)) if not np.any(row * column)
]


def test_phantoms_in_48_orientations_agree_with_dcm2niix(tmp_path):
    for number, (*orientation, flip) in enumerate(ORIENTATIONS, 1):
        step = np.cross(orientation[:3], orientation[3:]) * flip * 2.5

        def change(ds, k, number=number):
            ds.SeriesNumber, ds.SeriesDescription, ds.StudyInstanceUID = number, f"s{number}", "1.2.3"

        series(tmp_path / "in" / str(number), change, orientation=orientation, step=step, series_uid=f"1.2.3.{number}")
    others = {int(re.match(r"\d+", other.name)[0]): other for other in references(tmp_path / "in", tmp_path / "out")}
    scans, rejections = find_scans(tmp_path / "in")
    assert (len(scans), len(others), rejections) == (48, 48, [])
    codes = set()
    for scan in scans:
        volume = read_volume(scan)
        assert others[int(scan.path.name)].agrees(volume)
        codes.add(volume.orientation)
    assert len(codes) == 24  # slices are put in order along the normal, whichever way they step
