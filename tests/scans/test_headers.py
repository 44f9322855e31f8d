"""A header's values are those that pydicom reads, whichever way they were read."""

import struct
from contextlib import suppress
from pathlib import Path

import pydicom
import pytest
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from pipeline.domain import ScanError
from pipeline.scans import elements, headers, values
from pipeline.scans.boundary import refusing
from pipeline.scans.elements import WINDOW, NotPlain
from pipeline.scans.headers import read_header
from pipeline.scans.keywords import KEYWORDS
from tests.scans.phantoms import dicom, pixels, write

PYDICOM = Path(pydicom.__file__).parent / "data" / "test_files"


def words(path: Path) -> dict[str, object]:
    """The text of every element that pydicom can convert, and where the pixels lie."""
    header = read_header(path)
    found: dict[str, object] = {"pixels": (header.pixel_tag, header.pixel_offset, header.pixel_length)}
    for keyword in KEYWORDS:
        with suppress(ScanError), refusing():
            found[keyword] = header.text(keyword) if "Sequence" not in keyword else keyword in header.elements
    return found


@pytest.fixture
def no_shortcut(monkeypatch):
    def refuse(*_, **__):
        raise NotPlain

    def switch():
        monkeypatch.setattr(headers, "walk", refuse)
        monkeypatch.setattr(values, "plain_text", lambda raw: None)

    return switch


def readable(path: Path) -> bool:
    try:
        with refusing():
            read_header(path)
    except ScanError:
        return False
    return True


def test_pydicoms_own_files_give_what_pydicom_reads(no_shortcut):
    paths = [path for path in sorted(PYDICOM.rglob("*")) if path.is_file() and readable(path)]
    assert len(paths) > 60
    with refusing():
        quick = {path: words(path) for path in paths}
        no_shortcut()
        for path in paths:
            slow = words(path)
            assert {keyword: quick[path][keyword] for keyword in slow} == slow, path.name


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("length", [0, 100, WINDOW - 500, WINDOW, 3 * WINDOW])
def test_nested_and_long_elements_are_passed_over(tmp_path, no_shortcut, syntax, length):
    ds = dicom(pixels()[0], (1, 2, 3), syntax=syntax)
    inner = pydicom.Dataset()
    inner.PatientID, inner.Rows = "NOT THIS ONE", 7
    outer = pydicom.Dataset()
    outer.ReferencedSOPSequence = Sequence([inner])
    outer["ReferencedSOPSequence"].is_undefined_length = inner.is_undefined_length_sequence_item = True
    ds.ReferencedStudySequence = Sequence([outer, outer])
    ds["ReferencedStudySequence"].is_undefined_length = outer.is_undefined_length_sequence_item = True
    ds.add_new(0x00091001, "OB", bytes(length))
    ds.SeriesDescription = "x" * 60
    path = write(ds, tmp_path / "a.dcm")
    quick = words(path)
    assert (quick["PatientID"], quick["Rows"]) == ("CANARY-ID", "8")
    no_shortcut()
    assert words(path) == quick


@pytest.mark.parametrize("stray", [0xE0DD, 0xE00D, 0xE000])
def test_stray_items_and_delimiters_are_left_to_pydicom(tmp_path, no_shortcut, stray):
    path = write(dicom(pixels()[0], (1, 2, 3)), tmp_path / "a.dcm")
    raw = path.read_bytes()
    at = raw.index(struct.pack("<HH", 0x0028, 0x0002))
    path.write_bytes(raw[:at] + struct.pack("<HHL", 0xFFFE, stray, 0) + raw[at:])
    quick = words(path)
    no_shortcut()
    assert words(path) == quick


def test_text_in_foreign_letters(tmp_path):
    ds = dicom(pixels()[0], (1, 2, 3))
    ds.SpecificCharacterSet, ds.Manufacturer, ds.ManufacturerModelName = "ISO_IR 192", "Größe", "plain"
    header = read_header(write(ds, tmp_path / "a.dcm"))
    assert (header.text("Manufacturer"), header.text("ManufacturerModelName")) == ("Größe", "plain")


def test_a_walk_through_the_pixels_ends(tmp_path, monkeypatch):
    ds = dicom(pixels()[0], (1, 2, 3))
    for number in range(200):
        ds.add_new(0x00091000 + number, "LO", "x")
    path = write(ds, tmp_path / "a.dcm")
    assert read_header(path).text("Rows") == "8"
    monkeypatch.setattr(elements, "MAX_STEPS", 10)
    with pytest.raises(ScanError, match="too_large: the header has more elements than any scan's"):
        read_header(path)


def test_an_element_that_comes_twice_is_refused(tmp_path):
    path = write(dicom(pixels()[0], (1, 2, 3)), tmp_path / "a.dcm")
    raw = path.read_bytes()
    at = raw.index(struct.pack("<HH", 0x0028, 0x0010))
    path.write_bytes(raw[: at + 10] + raw[at : at + 10] + raw[at + 10 :])
    with pytest.raises(ScanError, match=r"malformed: element \(0028,0010\) comes twice"):
        read_header(path)


def test_a_header_element_of_gigabytes_is_not_read(tmp_path, monkeypatch):
    path = write(dicom(pixels()[0], (1, 2, 3)), tmp_path / "a.dcm")
    raw = path.read_bytes()
    at = raw.index(struct.pack("<HH2s", 0x0028, 0x0010, b"US"))
    long = struct.pack("<HH2sHL", 0x0028, 0x0008, b"UT", 0, elements.MAX_VALUE + 2)  # NumberOfFrames
    with path.open("wb") as file:
        file.write(raw[:at] + long)
        file.truncate(at + len(long) + elements.MAX_VALUE + 2)  # a hole: it takes no room
        file.seek(0, 2)
        file.write(raw[at:])
    with pytest.raises(
        ScanError, match="too_large: the header has an element of 67108866 bytes; at most 67108864 are read"
    ):
        read_header(path)
    monkeypatch.setattr(headers, "walk", not_plain)
    with pytest.raises(ScanError, match="too_large: the header has an element of 67108866 bytes"):
        read_header(path)


def not_plain(*_: object, **__: object) -> None:
    raise NotPlain
