"""Compressed pixels: bit for bit where the codec is lossless, and no harm from a child that dies."""

import os
import signal
import subprocess
import sys

import imagecodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.encaps import encapsulate
from pydicom.uid import UID

from pipeline.domain import ScanError
from pipeline.scans import codecs, decoder
from pipeline.scans.find import read_volume
from tests.scans.phantoms import COLUMNS, ROWS, SLICES, dicom, pixels, put_pixels, series, write

RNG = np.random.default_rng(0)
BASE = "1.2.840.10008.1.2.4."


def smooth(dtype, bits, shape=(48, 40)):
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    wave = (np.sin(rows / 9) + np.cos(columns / 7) + 2) / 4 * ((1 << bits) - 1)
    return (wave - (1 << (bits - 1)) if np.dtype(dtype).kind == "i" else wave).astype(dtype)


def sof3(values, bits):
    """JPEG lossless, first-order prediction, of the same bits as unsigned numbers."""
    unsigned = values.view(f"u{values.itemsize}") & ((1 << bits) - 1)
    return imagecodecs.ljpeg_encode(unsigned.astype(values.view(f"u{values.itemsize}").dtype), bitspersample=bits)


def bits_of(values, bits):
    unsigned = values.view(f"u{values.itemsize}")
    return unsigned & np.array((1 << bits) - 1, unsigned.dtype)


ENCODERS = {
    "57": sof3,
    "70": sof3,
    "80": lambda values, bits: imagecodecs.jpegls_encode(bits_of(values, bits)),
    "81": lambda values, bits: imagecodecs.jpegls_encode(bits_of(values, bits), level=0),
    "90": lambda values, bits: imagecodecs.jpeg2k_encode(values, reversible=True, codecformat="j2k"),
    "201": lambda values, bits: imagecodecs.htj2k_encode(values),
    "202": lambda values, bits: imagecodecs.htj2k_encode(values),
}


def compressed(path, encoded, values, bits, syntax, photometric="MONOCHROME2"):
    ds = dicom(values, (0, 0, 0), syntax=UID(syntax))
    put_pixels(ds, values, bits)
    ds.StudyInstanceUID = ds.SeriesInstanceUID = "1.2"
    if values.ndim == 3:
        ds.SamplesPerPixel, ds.PlanarConfiguration, ds.Modality = 3, 0, "US"
    ds.PhotometricInterpretation = photometric
    ds.PixelData = encapsulate([bytes(frame) for frame in (encoded if isinstance(encoded, list) else [encoded])])
    ds["PixelData"].is_undefined_length = True
    del ds.RescaleIntercept, ds.RescaleSlope
    ds.save_as(path, enforce_file_format=True, implicit_vr=False, little_endian=True)
    return path


def stored(volume):
    return np.swapaxes(volume.voxels[::-1, ::-1, 0], 0, 1)


@pytest.mark.parametrize("syntax", ENCODERS)
@pytest.mark.parametrize(
    ("dtype", "bits"), [(np.uint8, 8), (np.uint16, 12), (np.int16, 12), (np.uint16, 16), (np.int16, 16)]
)
def test_lossless_codecs_are_bit_for_bit(tmp_path, syntax, dtype, bits):
    values = smooth(dtype, bits)
    path = compressed(tmp_path / "x.dcm", ENCODERS[syntax](values, bits), values, bits, BASE + syntax)
    np.testing.assert_array_equal(stored(read_volume(path)), values)


@pytest.mark.parametrize(
    ("syntax", "encode", "bound"),
    [
        ("50", lambda v: imagecodecs.jpeg8_encode(v, level=95), 8),
        ("51", lambda v: imagecodecs.jpeg8_encode(v, level=95, bitspersample=12), 60),
        ("81", lambda v: imagecodecs.jpegls_encode(v, level=3), 3),
        ("91", lambda v: imagecodecs.jpeg2k_encode(v, level=60, codecformat="j2k"), 8),
        ("203", lambda v: imagecodecs.htj2k_encode(v, level=0.01, reversible=False), 8),
    ],
)
def test_lossy_codecs_stay_within_their_bound(tmp_path, syntax, encode, bound):
    bits = 12 if syntax == "51" else 8
    values = smooth(np.uint16 if bits == 12 else np.uint8, bits)
    path = compressed(tmp_path / "x.dcm", encode(values), values, bits, BASE + syntax)
    assert np.abs(stored(read_volume(path)) - values).max() <= bound


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16])
def test_rle(tmp_path, dtype):
    values = smooth(dtype, np.dtype(dtype).itemsize * 8)
    ds = dicom(values, (0, 0, 0))
    ds.StudyInstanceUID = ds.SeriesInstanceUID = "1.2"
    ds.RescaleIntercept = "0"
    ds.compress("1.2.840.10008.1.2.5", encoding_plugin="pydicom", generate_instance_uid=False)
    np.testing.assert_array_equal(stored(read_volume(write(ds, tmp_path / "x.dcm"))), values)


def test_colour_jpeg_comes_out_as_rgb(tmp_path):
    rgb = np.zeros((32, 32, 3), np.uint8)
    rgb[:16], rgb[16:] = (200, 30, 60), (20, 120, 220)
    cases = {
        "YBR_FULL_422": imagecodecs.jpeg8_encode(rgb, level=98, colorspace="RGB", outcolorspace="YCBCR"),
        "RGB": imagecodecs.jpeg8_encode(rgb, level=98, colorspace="RGB", outcolorspace="RGB"),
    }
    for photometric, encoded in cases.items():
        path = compressed(tmp_path / f"{photometric}.dcm", encoded, rgb, 8, BASE + "50", photometric)
        away = np.r_[0:12, 20:32]  # from the edge, where subsampled colours mix
        np.testing.assert_allclose(stored(read_volume(path))[away], rgb[away], atol=6)


def test_colour_jpeg2000_and_jpegls(tmp_path):
    rgb = RNG.integers(0, 255, (16, 24, 3)).astype(np.uint8)
    for syntax, photometric, encoded in (
        ("90", "YBR_RCT", imagecodecs.jpeg2k_encode(rgb, reversible=True, codecformat="j2k")),
        ("80", "RGB", imagecodecs.jpegls_encode(rgb)),
    ):
        path = compressed(tmp_path / f"{syntax}.dcm", encoded, rgb, 8, BASE + syntax, photometric)
        np.testing.assert_array_equal(stored(read_volume(path)), rgb)


def test_a_series_of_mixed_syntaxes_equals_the_plain_one(tmp_path):
    def change(ds, k):
        if k % 2:
            ds.file_meta.TransferSyntaxUID = UID(BASE + "80")
            ds.PixelData = encapsulate([imagecodecs.jpegls_encode(pixels()[k])])
            ds["PixelData"].is_undefined_length = True

    plain = read_volume(series(tmp_path / "plain"))
    np.testing.assert_array_equal(read_volume(series(tmp_path / "mixed", change)).voxels, plain.voxels)
    assert plain.shape == (COLUMNS, ROWS, SLICES)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.4.107", "1.2.3.4.5"])
def test_other_syntaxes_are_refused_by_name(tmp_path, syntax):
    values = smooth(np.uint8, 8)
    with pytest.raises(ScanError, match=f"unsupported_transfer_syntax: transfer syntax {syntax} can't be decoded"):
        read_volume(compressed(tmp_path / "x.dcm", b"\0" * 100, values, 8, syntax))


def test_damaged_streams_are_refused_or_decoded_and_we_live(tmp_path):
    values = smooth(np.uint16, 12)
    rng = np.random.default_rng(3)
    for syntax in ("70", "80", "90", "201"):
        encoded = bytearray(ENCODERS[syntax](values, 12))
        for _ in range(12):
            mutant = bytearray(encoded)
            mutant[rng.integers(2, len(mutant) - 2)] ^= 1 << int(rng.integers(8))
            path = compressed(tmp_path / "x.dcm", bytes(mutant), values, 12, BASE + syntax)
            try:
                assert read_volume(path).shape == (40, 48, 1)
            except ScanError as error:
                assert error.reason in ("malformed", "dims_mismatch", "decoder_crash", "too_large", "truncated")  # noqa: PT017


def test_missing_ends_sizes_and_frames_are_refused(tmp_path):
    values = smooth(np.uint16, 16)
    encoded = ENCODERS["80"](values, 16)
    path = compressed(tmp_path / "a.dcm", encoded[:-40], values, 16, BASE + "80")
    with pytest.raises(ScanError, match=r"truncated: a compressed frame has no end"):
        read_volume(path)
    path = compressed(tmp_path / "b.dcm", encoded, values[:-1], 16, BASE + "80")
    with pytest.raises(ScanError, match="dims_mismatch"):
        read_volume(path)
    path = compressed(tmp_path / "c.dcm", encoded, values, 16, BASE + "80")
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ScanError, match=r"truncated: the compressed pixels end early"):
        read_volume(path)


REQUEST = {"codec": "jpegls", "rows": 8, "columns": 10, "samples": 1, "dtype": "<u2", "photometric": "MONOCHROME2"}


def good():
    return imagecodecs.jpegls_encode(pixels()[0])


def test_a_child_that_dies_is_a_refusal_and_the_next_frame_is_fine():
    pool = codecs.Pool()
    with pool.child() as child:
        np.testing.assert_array_equal(child.decode(REQUEST, good()), pixels()[0])
        victim = child._process
    victim.send_signal(signal.SIGABRT)
    victim.wait()
    with pytest.raises(ScanError, match=r"decoder_crash: the decoder died"), pool.child() as child:
        child.decode(REQUEST, good())
    assert victim.poll() is not None
    with pool.child() as child:
        np.testing.assert_array_equal(child.decode(REQUEST, good()), pixels()[0])
        assert child._process is not victim
    pool.close()


def test_a_child_that_hangs_is_killed(monkeypatch):
    monkeypatch.setattr(codecs, "TIMEOUT_S", 0.3)
    pool = codecs.Pool()
    with pool.child() as child:
        child._process.send_signal(signal.SIGSTOP)
        with pytest.raises(ScanError, match=r"timeout: a compressed frame took longer than 0.3 s"):
            child.decode(REQUEST, good())
    assert child._process.poll() == -signal.SIGKILL
    pool.close()


def test_children_are_kept_and_replaced_after_their_time():
    pool = codecs.Pool()
    with pool.child() as first:
        first.decode(REQUEST, good())
    with pool.child() as second:
        assert second is first
        second.left = 1
        second.decode(REQUEST, good())
    assert first._process.poll() is not None
    pool.close()


def test_memory_of_a_child_is_limited():
    huge = {**REQUEST, "rows": 40_000, "columns": 60_000, "codec": "rle"}
    pool = codecs.Pool()
    with pool.child() as child, pytest.raises(ScanError, match=r"too_large|malformed|dims_mismatch|decoder_crash"):
        child.decode(huge, b"\x01" + bytes(63))
    pool.close()


def test_frames_of_all_sizes_pass_through_one_memory():
    pool = codecs.Pool()
    large = smooth(np.uint16, 16, (300, 200))
    asked = {**REQUEST, "rows": 300, "columns": 200}
    with pool.child() as child:
        for request, values in ((REQUEST, pixels()[0]), (asked, large), (REQUEST, pixels()[1]), (asked, large[::-1])):
            np.testing.assert_array_equal(child.decode(request, imagecodecs.jpegls_encode(values)), values)
    pool.close()


def test_a_frame_that_no_child_could_hold_is_refused_unasked():
    pool = codecs.Pool()
    with pool.child() as child:
        with pytest.raises(ScanError, match=r"too_large: a frame of 4800000000 bytes; at most 805306368 are decoded"):
            child.decode({**REQUEST, "rows": 40_000, "columns": 60_000}, good())
        assert not child.broken
    pool.close()


def test_the_child_answers_errors_by_name():
    assert decoder.answer(REQUEST, b"junk")[0] == {"error": "malformed"}
    assert decoder.answer({**REQUEST, "rows": 9}, good())[0] == {"error": "dims_mismatch"}
    assert decoder.answer({**REQUEST, "dtype": "|u1"}, good())[0] == {"error": "malformed"}
    note, frame = decoder.answer(REQUEST, good())
    assert (note, bytes(frame)) == ({}, pixels()[0].tobytes())


def test_a_forked_process_has_children_of_its_own():
    with codecs._POOL.child() as child:
        child.decode(REQUEST, good())
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            with codecs._POOL.child() as own:
                code = int(own is child or not np.array_equal(own.decode(REQUEST, good()), pixels()[0]))
            codecs._POOL.close()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert child._process.poll() is None


@pytest.mark.parametrize("line", ["import pipeline", "import pipeline.scans.decoder"])
def test_imports_load_no_torch(line):
    code = f"import time, sys; t = time.process_time(); {line}; print(time.process_time() - t, 'torch' in sys.modules)"
    seconds, torch = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert torch == "False"
    assert float(seconds) < 1.5  # of the processor's time, which other work does not use up


@given(st.integers(0, 300), st.integers(1, 64))
def test_every_item_has_its_turn_and_the_last_ones_come_singly(n, workers):
    parts = list(codecs._parts(range(n), workers))
    assert [item for part in parts for item in part] == list(range(n))
    assert max(map(len, parts), default=0) <= 4
    assert all(len(part) == 1 for part in parts[1 - 4 * workers :])


def test_many_items_give_their_results_in_order():
    assert list(codecs.in_parallel(lambda i: i * i, range(50))) == [i * i for i in range(50)]
