"""PNG, JPEG and TIFF pictures as one-slice volumes."""

import struct
import zlib

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from pipeline.domain import ReadRules, ScanError
from pipeline.scans.find import find_scans, read_volume

RNG = np.random.default_rng(0)


def upright(volume):
    """Voxels back to [row, column(, 3)]."""
    return np.swapaxes(volume.voxels[::-1, ::-1, 0], 0, 1)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.tiff"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_pictures_keep_their_values(tmp_path, name, dtype):
    values = RNG.integers(0, np.iinfo(dtype).max, (7, 9)).astype(dtype)
    Image.fromarray(values).save(tmp_path / name)
    volume = read_volume(tmp_path / name)
    np.testing.assert_array_equal(upright(volume), values)
    assert (volume.shape, volume.orientation, volume.warnings) == ((9, 7, 1), "LPS", ("no_spacing",))
    assert (volume.voxels.dtype, volume.unit, volume.spacing_mm) == (np.float32, "a.u.", (1, 1, 1))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_colour_pictures_keep_their_values(tmp_path, name, dtype):
    values = RNG.integers(0, np.iinfo(dtype).max, (7, 9, 3)).astype(dtype)
    imagecodecs.imwrite(str(tmp_path / name), values)
    np.testing.assert_array_equal(upright(read_volume(tmp_path / name)), values)


def test_jpeg(tmp_path):
    values = np.tile(np.arange(0, 160, 10, dtype=np.uint8), (16, 1))
    Image.fromarray(values).save(tmp_path / "a.jpg", quality=95)
    np.testing.assert_allclose(upright(read_volume(tmp_path / "a.jpg")), values, atol=4)


def test_grey_saved_as_colour_is_grey_and_alpha_is_left_out(tmp_path):
    grey = RNG.integers(0, 255, (7, 9)).astype(np.uint8)
    Image.fromarray(np.dstack([grey] * 3)).save(tmp_path / "a.png")
    Image.fromarray(np.dstack([grey, grey // 2]), "LA").save(tmp_path / "b.png")
    for name in "ab":
        np.testing.assert_array_equal(upright(read_volume(tmp_path / f"{name}.png")), grey)


def test_exif_orientation_is_applied(tmp_path):
    values = np.zeros((16, 32), np.uint8)
    values[:8] = 200
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.fromarray(values).save(tmp_path / "a.jpg", exif=exif, quality=95)
    turned = upright(read_volume(tmp_path / "a.jpg"))
    assert turned.shape == (32, 16)
    assert turned[:, 12:].mean() > 150 > 50 > turned[:, :4].mean()


def test_pages_bitmaps_and_cmyk_are_refused(tmp_path):
    grey = Image.fromarray(RNG.integers(0, 255, (7, 9)).astype(np.uint8))
    grey.save(tmp_path / "pages.tif", save_all=True, append_images=[grey])
    grey.convert("1").save(tmp_path / "bits.png")
    grey.convert("CMYK").save(tmp_path / "inks.jpg")
    for name, reason in (
        ("pages.tif", "ambiguous_volume: the picture has 2 pages"),
        ("bits.png", "unsupported_pixels: pictures of mode 1"),
        ("inks.jpg", "unsupported_pixels: pictures of mode CMYK"),
    ):
        with pytest.raises(ScanError, match=reason):
            read_volume(tmp_path / name)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
def test_truncated_and_damaged_pictures_are_refused(tmp_path, name):
    Image.fromarray(RNG.integers(0, 255, (64, 64)).astype(np.uint8)).save(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    for cut in (len(whole) // 2, 20):
        (tmp_path / name).write_bytes(whole[:cut])
        with pytest.raises(ScanError, match=r"truncated|malformed|not_an_image"):
            read_volume(tmp_path / name)


def test_a_bomb_is_refused(tmp_path):
    Image.new("L", (20, 20)).save(tmp_path / "a.png")
    raw = bytearray((tmp_path / "a.png").read_bytes())
    raw[16:24] = struct.pack(">II", 20_000, 20_000)
    raw[29:33] = struct.pack(">I", zlib.crc32(raw[12:29]))
    (tmp_path / "a.png").write_bytes(raw)
    _, (rejection,) = find_scans(tmp_path)
    assert rejection.reason == "too_large"
    with pytest.raises(ScanError, match="too_large"):
        read_volume(tmp_path / "a.png")


def test_limits_and_blank(tmp_path):
    Image.new("L", (20, 20), 7).save(tmp_path / "a.png")
    assert read_volume(tmp_path / "a.png").warnings == ("no_spacing", "blank")
    with pytest.raises(ScanError, match="too_large"):
        read_volume(tmp_path / "a.png", ReadRules(max_voxels=100))
    with pytest.raises(ScanError, match="too_few_slices"):
        read_volume(tmp_path / "a.png", ReadRules(min_slices=2))
