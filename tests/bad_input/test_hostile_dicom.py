"""DICOM files made to hurt: bombs, endless nesting, mutants. Each is refused, quickly and within little memory."""

import random
import struct
import time
import zlib
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian

from pipeline.domain import ScanError
from pipeline.scans import headers
from pipeline.scans.find import read_volume, survey
from tests.scans.phantoms import dicom, pixels, write

SEEDS = Path(pydicom.__file__).parent / "data" / "test_files"


def plain(path, **changes):
    ds = dicom(pixels(1)[0], (0, 0, 0))
    ds.StudyInstanceUID = ds.SeriesInstanceUID = "1.2"
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    return write(ds, path)


def test_a_deflated_bomb_is_refused_without_being_inflated(tmp_path):
    ds = dicom(pixels(1)[0], (0, 0, 0), syntax=DeflatedExplicitVRLittleEndian)
    ds.StudyInstanceUID = ds.SeriesInstanceUID = "1.2"
    ds.Rows, ds.Columns, ds.PixelData = 32768, 16384, b""
    raw = write(ds, tmp_path / "a.dcm").read_bytes()
    start = 144 + struct.unpack("<I", raw[140:144])[0]
    body = zlib.decompress(raw[start:], -15)[:-4] + struct.pack("<I", 2**30)
    engine = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = engine.compress(body) + engine.compress(bytes(2**26)) + engine.flush()
    (tmp_path / "a.dcm").write_bytes(raw[:start] + packed)
    with pytest.raises(ScanError, match=r"too_large: \d+ bytes would grow"):
        read_volume(tmp_path)


@pytest.mark.parametrize("depth", [300, 20_000])
def test_endless_nesting_is_refused(tmp_path, depth):
    raw = plain(tmp_path / "a.dcm").read_bytes()
    at = raw.rindex(b"\xe0\x7f\x10\x00")
    opening = b"\x40\x00\x75\x02SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    closing = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
    (tmp_path / "a.dcm").write_bytes(raw[:at] + opening * depth + closing * depth + raw[at:])
    with pytest.raises(ScanError, match="malformed: sequences are nested deeper than 100"):
        read_volume(tmp_path)


def test_a_sequence_that_runs_through_the_pixels_is_given_up(tmp_path, monkeypatch):
    """A damaged length makes millions of items of them, eight bytes each: a limit, and not the file's size, ends it."""
    monkeypatch.setattr(headers, "MAX_READS", 10_000)
    raw = plain(tmp_path / "a.dcm").read_bytes()
    at = raw.rindex(b"\xe0\x7f\x10\x00")
    (tmp_path / "a.dcm").write_bytes(raw[:at] + b"\x40\x00\x75\x02SQ\0\0\xff\xff\xff\xff" + bytes(2**18))
    with pytest.raises(ScanError, match="too_large: the header has more elements than any scan's"):
        read_volume(tmp_path)


def test_an_unknown_character_set_is_fine(tmp_path):
    path = plain(tmp_path / "a.dcm", SpecificCharacterSet="ISO_IR 100")
    path.write_bytes(path.read_bytes().replace(b"ISO_IR 100", b"KLINGON 42"))
    assert read_volume(path).shape == (10, 8, 1)


def test_refusals_and_logs_name_no_patient(tmp_path, caplog):
    caplog.set_level("DEBUG")
    path = plain(tmp_path / "CANARY.dcm", RescaleSlope="0")
    # a patient id that is no valid text, a UID that is none: pydicom would quote both in its log
    raw = (
        path.read_bytes()
        .replace(b"CANARY-ID", b"CANARY\xff\x1bD")
        .replace(b"1.2.840.10008.5.1.4.1.1.2", b"CANARY.10008.5.1.4.1.1.22")
    )
    path.write_bytes(raw)
    with pytest.raises(ScanError, match="bad_rescale") as caught:
        read_volume(path)
    assert "CANARY" not in str(caught.value)
    assert "CANARY" not in caplog.text


@pytest.mark.parametrize("name", ["CT_small.dcm", "MR_small_RLE.dcm", "MR_small_jpeg_ls_lossless.dcm", "image_dfl.dcm"])
def test_mutants_end_as_volume_refusal_or_skipped(tmp_path, name):
    raw, rng = (SEEDS / name).read_bytes(), random.Random(name)
    for _ in range(40):
        mutant = bytearray(raw)
        for _ in range(rng.choice([1, 2, 5, 20])):
            mutant[rng.randrange(132, min(len(mutant), 4000))] = rng.randrange(256)
        (tmp_path / name).write_bytes(mutant[: rng.choice([len(mutant), len(mutant), rng.randrange(len(mutant))])])
        start = time.monotonic()
        found = survey(tmp_path)
        assert len(found.scans) + len(found.rejections) + len(found.skipped) == 1
        for scan in found.scans:
            try:
                assert read_volume(scan).voxels.size > 0
            except ScanError:
                continue
        assert time.monotonic() - start < 10
