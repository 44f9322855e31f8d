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


def tiff(values, samples=1, order="<", orientation=1, photometric=1, sample_format=1):
    """An uncompressed TIFF, written by hand: pillow writes few kinds."""
    (rows, columns), bits = values.shape[:2], values.itemsize * 8
    raw = values.astype(values.dtype.newbyteorder(order)).tobytes()
    many = samples > 1  # then the bits lie behind the directory, at byte 180
    entries = [(256, 3, 1, columns), (257, 3, 1, rows), (258, 3, samples, 180 if many else bits)]
    entries += [(262, 3, 1, photometric), (273, 4, 1, 200), (274, 3, 1, orientation), (277, 3, 1, samples)]
    entries += [(278, 3, 1, rows), (279, 4, 1, len(raw))] + ([] if many else [(339, 3, 1, sample_format)])
    start = struct.pack(order + "2sHLH", b"II" if order == "<" else b"MM", 42, 8, len(entries))
    for tag, kind, count, value in entries:
        short = kind == 3 and count == 1
        start += struct.pack(order + "HHL" + ("H2x" if short else "L"), tag, kind, count, value)
    return start.ljust(180, b"\0") + struct.pack(order + "3H", bits, bits, bits).ljust(20, b"\0") + raw


TURNED = {
    1: lambda v: v,
    2: lambda v: v[:, ::-1],
    3: lambda v: v[::-1, ::-1],
    4: lambda v: v[::-1],
    5: lambda v: v.swapaxes(0, 1),
    6: lambda v: np.rot90(v, -1),
    7: lambda v: np.rot90(v, 2).swapaxes(0, 1),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize(("shape", "dtype"), [((7, 9), np.uint8), ((7, 9), np.uint16), ((7, 9, 3), np.uint16)])
def test_a_turned_tiff_is_upright(tmp_path, orientation, shape, dtype):
    values = RNG.integers(0, np.iinfo(dtype).max, shape).astype(dtype)
    samples, photometric = (3, 2) if len(shape) == 3 else (1, 1)
    (tmp_path / "a.tif").write_bytes(tiff(values, samples, orientation=orientation, photometric=photometric))
    np.testing.assert_array_equal(upright(read_volume(tmp_path / "a.tif")), TURNED[orientation](values))


def test_a_turned_png_of_16_bit_colour_is_upright(tmp_path):
    values = RNG.integers(0, 65535, (7, 9, 3)).astype(np.uint16)
    exif = Image.Exif()
    exif[0x0112] = 6
    chunk = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">L", len(chunk) - 4) + chunk + struct.pack(">L", zlib.crc32(chunk))
    raw = imagecodecs.png_encode(values)
    at = raw.index(b"IDAT") - 4
    (tmp_path / "a.png").write_bytes(raw[:at] + chunk + raw[at:])
    np.testing.assert_array_equal(upright(read_volume(tmp_path / "a.png")), np.rot90(values, -1))


def test_alpha_of_16_bits_is_left_out(tmp_path):
    values = RNG.integers(0, 65535, (7, 9, 2)).astype(np.uint16)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(values))
    np.testing.assert_array_equal(upright(read_volume(tmp_path / "a.png")), values[..., 0])


@pytest.mark.parametrize(
    ("dtype", "order", "white_is_zero"),
    [
        *((np.uint8, "<", True), (np.uint16, "<", True)),
        *((np.int8, "<", False), (np.int16, ">", False), (np.int32, "<", False), (np.uint32, "<", False)),
        *((np.uint16, ">", False), (np.float32, ">", False)),
    ],
)
def test_a_tiff_keeps_its_sign_and_its_sense(tmp_path, dtype, order, white_is_zero):
    limits = np.iinfo(dtype) if np.dtype(dtype).kind in "iu" else np.finfo(np.float16)
    values = RNG.uniform(limits.min, limits.max, (7, 9)).astype(dtype)
    sample_format = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    (tmp_path / "a.tif").write_bytes(tiff(values, 1, order, 1, 0 if white_is_zero else 1, sample_format))
    expected = limits.max - values if white_is_zero else values
    np.testing.assert_array_equal(upright(read_volume(tmp_path / "a.tif")), expected.astype(np.float32))


def test_colour_planes_of_16_bits_become_pixels(tmp_path):
    values = RNG.integers(0, 65535, (7, 9, 3)).astype(np.uint16)
    plane = 7 * 9 * 2
    entries = [(256, 3, 1, 9), (257, 3, 1, 7), (258, 3, 3, 200), (262, 3, 1, 2), (273, 4, 3, 206), (277, 3, 1, 3)]
    entries += [(278, 3, 1, 7), (279, 4, 3, 218), (284, 3, 1, 2)]
    start = struct.pack("<2sHLH", b"II", 42, 8, len(entries))
    for tag, kind, count, value in entries:
        start += struct.pack("<HHL" + ("H2x" if kind == 3 and count == 1 else "L"), tag, kind, count, value)
    start = start.ljust(200, b"\0") + struct.pack("<3H", 16, 16, 16)
    start += struct.pack("<3L", 240, 240 + plane, 240 + 2 * plane) + struct.pack("<3L", plane, plane, plane)
    (tmp_path / "a.tif").write_bytes(start.ljust(240, b"\0") + values.transpose(2, 0, 1).tobytes())
    np.testing.assert_array_equal(upright(read_volume(tmp_path / "a.tif")), values)


def test_pictures_that_pillow_cannot_read_are_refused_as_such(tmp_path):
    values = RNG.integers(0, 4095, (7, 9)).astype(np.uint16)
    (tmp_path / "a.jpg").write_bytes(imagecodecs.jpeg8_encode(values, bitspersample=12))
    (tmp_path / "b.tif").write_bytes(tiff(values.astype(np.float64), sample_format=3))
    (tmp_path / "c.tif").write_bytes(tiff(values.astype(np.float32), sample_format=3, photometric=0))
    for name in ("a.jpg", "b.tif"):
        with pytest.raises(ScanError, match="malformed: the picture is damaged, or of a kind that can't be read"):
            read_volume(tmp_path / name)
    with pytest.raises(ScanError, match="unsupported_pixels: a TIFF picture whose zeros are white"):
        read_volume(tmp_path / "c.tif")
