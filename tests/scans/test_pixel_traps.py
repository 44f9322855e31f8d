"""Pixels that are easily read wrongly: swapped bytes, more bytes than told, rescales beyond reason, tables turned."""

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian

from pipeline.domain import ScanError
from pipeline.scans.find import read_volume
from tests.scans.phantoms import dicom, pixels, put_pixels, series


def lone(tmp_path, stored, change=lambda ds: None, **more):
    ds = dicom(stored, (0, 0, 0), **more)
    ds.StudyInstanceUID = ds.SeriesInstanceUID = "1.2"
    change(ds)
    path = tmp_path / "x.dcm"
    ds.save_as(
        path, enforce_file_format=True, implicit_vr=False, little_endian=ds.file_meta.TransferSyntaxUID[-1] != "2"
    )
    return path


@pytest.mark.parametrize("shape", [(8, 10), (5, 7)])
def test_bytes_in_big_endian_words_come_in_their_true_order(tmp_path, shape):
    stored = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)

    def change(ds):
        raw = stored.tobytes() + b"\0" * (stored.size % 2)
        ds.PixelData = np.frombuffer(raw, np.uint8).reshape(-1, 2)[:, ::-1].tobytes()
        ds["PixelData"].VR = "OW"

    volume = read_volume(lone(tmp_path, stored, change, syntax=ExplicitVRBigEndian))
    np.testing.assert_array_equal(volume.voxels[::-1, ::-1, 0].T, stored - 1024.0)


def half_the_bits(ds):
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7


def half_the_rows(ds):
    ds.Rows = 4


def untold_frames(ds):
    ds.PixelData = ds.PixelData * 3


@pytest.mark.parametrize("change", [half_the_bits, half_the_rows, untold_frames])
def test_pixels_that_are_more_than_told_are_refused(tmp_path, change):
    with pytest.raises(ScanError, match=r"length_mismatch: \d+ bytes of pixels expected, the file claims \d+"):
        read_volume(lone(tmp_path, pixels(1)[0], change))


def test_a_little_padding_behind_the_pixels_is_no_harm(tmp_path):
    volume = read_volume(lone(tmp_path, pixels(1)[0], lambda ds: setattr(ds, "PixelData", ds.PixelData + b"\0" * 64)))
    np.testing.assert_array_equal(volume.voxels[::-1, ::-1, 0].T, pixels(1)[0] - 1024.0)


@pytest.mark.parametrize(("slope", "intercept"), [("1e39", "0"), ("1", "1e39"), ("-1e300", "0"), ("1e-60", "0")])
def test_a_rescale_that_no_float32_can_hold_is_refused(tmp_path, slope, intercept):
    def change(ds, k):
        ds.RescaleSlope, ds.RescaleIntercept = slope, intercept

    with pytest.raises(ScanError, match=r"bad_rescale: .* finite numbers up to 1e\+30"):
        read_volume(series(tmp_path, change))


@pytest.mark.parametrize(("modality", "turned"), [("DX", True), ("CT", False)])
def test_monochrome1_turns_what_the_modality_lut_gives(tmp_path, modality, turned):
    def change(ds):
        put_pixels(ds, pixels(1)[0], bits=12)
        del ds.RescaleSlope, ds.RescaleIntercept
        table = Dataset()
        table.LUTDescriptor, table.ModalityLUTType = [1000, 0, 16], "US"
        table["LUTDescriptor"].VR = "US"
        table.LUTData = [3 * i for i in range(1000)]
        table["LUTData"].VR = "US"
        ds.ModalityLUTSequence, ds.Modality, ds.PhotometricInterpretation = [table], modality, "MONOCHROME1"

    given = 3.0 * pixels(1)[0]
    voxels = read_volume(lone(tmp_path, pixels(1)[0], change)).voxels[::-1, ::-1, 0].T
    np.testing.assert_array_equal(voxels, 65535 - given if turned else given)
