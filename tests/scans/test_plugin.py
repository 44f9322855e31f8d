"""pydicom decodes with imagecodecs once the plugin is registered."""

import imagecodecs
import numpy as np
import pydicom
import pydicom.data
import pytest
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder
from pydicom.uid import HTJ2KLossless, JPEG2000Lossless, JPEGExtended12Bit, JPEGLosslessSV1, JPEGLSLossless, RLELossless

from pipeline.scans.find import read_volume
from pipeline.scans.plugin import DECODER_DEPENDENCIES, NAME, is_available, register
from tests.scans.phantoms import dicom, pixels, write

ENCODERS = {
    JPEGLosslessSV1: lambda values: imagecodecs.ljpeg_encode(values, bitspersample=16),
    JPEGLSLossless: imagecodecs.jpegls_encode,
    JPEG2000Lossless: lambda values: imagecodecs.jpeg2k_encode(values, reversible=True, codecformat="j2k"),
    HTJ2KLossless: imagecodecs.htj2k_encode,
}


@pytest.fixture(autouse=True)
def registered():
    register()
    register()
    yield
    for syntax in DECODER_DEPENDENCIES:
        get_decoder(syntax).remove_plugin(NAME)


@pytest.mark.parametrize("syntax", ENCODERS, ids=lambda syntax: syntax.keyword)
def test_lossless_syntaxes_are_bit_for_bit(tmp_path, syntax):
    ds = dicom(pixels(1)[0], (0, 0, 0), syntax=syntax)
    ds.PixelData = encapsulate([ENCODERS[syntax](pixels(1)[0])])
    ds["PixelData"].is_undefined_length = True
    read = pydicom.dcmread(write(ds, tmp_path / "a.dcm"))
    read.pixel_array_options(decoding_plugin=NAME)
    np.testing.assert_array_equal(read.pixel_array, pixels(1)[0])


@pytest.mark.parametrize(
    "name",
    ["JPGExtended.dcm", "SC_rgb_rle.dcm", "SC_rgb_jpeg_gdcm.dcm", "SC_rgb_dcmtk_+eb+cy+np.dcm", "examples_jpeg2k.dcm"],
)
def test_pydicoms_own_files_read_as_by_our_reader(name):
    path = pydicom.data.get_testdata_file(name)
    read = pydicom.dcmread(path)
    read.pixel_array_options(decoding_plugin=NAME)
    volume = read_volume(path)
    np.testing.assert_array_equal(read.pixel_array, np.swapaxes(volume.voxels[::-1, ::-1, 0], 0, 1))


def test_colour_comes_by_pixel_whatever_the_header_says():
    read = pydicom.dcmread(pydicom.data.get_testdata_file("SC_rgb_rle.dcm"))
    read.pixel_array_options(decoding_plugin=NAME)
    truth = read.pixel_array.copy()
    read.PlanarConfiguration = 1
    np.testing.assert_array_equal(read.pixel_array, truth)


def test_what_we_do_not_decode_is_not_offered():
    assert is_available(RLELossless)
    assert is_available(JPEGExtended12Bit)
    assert not is_available("1.2.840.10008.1.2.4.100")
