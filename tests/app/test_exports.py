"""What leaves the viewer: a page, a picture, a map in the scan's own space; nothing of the patient unless asked for."""

import gzip
import io

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from app import session
from app.exports import Case, case_page, file_name, heat_nifti, meeting_point
from app.language import words
from pipeline.domain import Identity
from pipeline.model.package import load_model
from pipeline.scans.find import find_scans
from tests.app.pages import open_scan


@pytest.fixture(scope="module")
def model(model_folder):
    return load_model(model_folder)


@pytest.fixture
def scan(model, scans):
    opened = session.open_scan(model, find_scans(scans)[0][0])
    opened.identity = Identity("Doe^Jane", "ID-4711", "19500203", "20250607")
    return opened


@pytest.fixture
def heat(scan):
    found = np.zeros(scan.volume.shape, np.uint8)
    found[5, 6, 7] = 255
    return found


def case(model, scan, heat=None, **changes) -> Case:
    return Case(model, scan, "nodule", scan.windows[0], meeting_point(scan, heat), heat, **changes)


def text_of(pdf: bytes) -> str:
    """The text of a PDF that matplotlib wrote: its fonts are subsets, but each string is kept as glyph ids or text."""
    import re
    import zlib

    parts = [zlib.decompress(found) for found in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.DOTALL)
             if found[:1] == b"x"]  # fmt: skip
    return b"".join(b"".join(re.findall(rb"\(((?:\\.|[^()\\])*)\)", part)) for part in parts).decode("latin-1")


def test_the_page_is_a_pdf_that_names_no_patient(model, scan, heat):
    pdf = case_page(case(model, scan, heat), words("en"), "pdf")
    said = text_of(pdf)
    assert pdf.startswith(b"%PDF")
    for part in ("Research use only", scan.key, "calibrated probability", model.model_id):
        assert part in said
    assert not any(part in said.encode() + pdf for part in (b"Doe", b"4711", b"1950"))
    assert pdf == case_page(case(model, scan, heat), words("en"), "pdf")


def test_an_id_in_the_pdf_is_text_to_be_found(model, scan):
    scan.key = "b3ec7ff143aaff00"
    assert "b3ec7ff143aaff00" in text_of(case_page(case(model, scan), words("en"), "pdf"))


def test_the_identity_stands_there_when_asked_for(model, scan):
    said = text_of(case_page(case(model, scan, with_identity=True), words("it"), "pdf"))
    for part in ("Doe, Jane", "ID-4711", "1950-02-03", "2025-06-07", "Solo per uso di ricerca"):
        assert part in said


def test_the_picture_shows_the_scan_and_its_map(model, scan, heat):
    plain = np.asarray(Image.open(io.BytesIO(case_page(case(model, scan), words("en"), "png"))).convert("RGB"), float)
    mapped = np.asarray(
        Image.open(io.BytesIO(case_page(case(model, scan, heat), words("en"), "png"))).convert("RGB"), float
    )
    assert plain.shape == mapped.shape
    assert plain.shape[0] > 1500
    assert np.abs(plain - mapped).mean() > 1


def test_a_scan_without_a_result_says_why(tmp_path, scans):
    from tests.app.conftest import save_tiny_model

    flat = load_model(save_tiny_model(tmp_path / "flat", dimensions=2))
    opened = session.open_scan(flat, find_scans(scans)[0][0])
    said = text_of(
        case_page(Case(flat, opened, "nodule", opened.windows[0], meeting_point(opened, None)), words("en"), "pdf")
    )
    assert "not_one_slice" in said


def test_the_map_lies_in_the_scans_own_space(model, scan, heat, tmp_path):
    (tmp_path / "map.nii.gz").write_bytes(heat_nifti(heat, model, scan))
    read = nib.load(tmp_path / "map.nii.gz")
    assert b"hirescam" in read.header["descrip"].tobytes()
    assert b"; not checked; research use only" in read.header["descrip"].tobytes()
    assert np.allclose(read.affine, scan.volume.affine)
    values = np.asarray(read.dataobj)
    assert values.max() == pytest.approx(1)
    assert np.unravel_index(values.argmax(), values.shape) == (5, 6, 7)
    assert gzip.decompress(heat_nifti(heat, model, scan))[:4] == gzip.decompress(heat_nifti(heat, model, scan))[:4]


def test_planes_meet_where_the_map_is_hottest(scan, heat):
    assert meeting_point(scan, heat) == (5, 6, 7)
    assert meeting_point(scan, None) == (10, 9, 6)
    assert meeting_point(scan, np.zeros_like(heat)) == (10, 9, 6)


@pytest.mark.parametrize(
    ("finding", "expected"),
    [("nodule", "{}_nodule.pdf"), ("type=a/b c", "{}_type=a_b_c.pdf"), ("../x", "{}_.._x.pdf"), ("é", "{}.pdf")],
)
def test_file_names_are_opaque_and_safe(scan, finding, expected):
    assert file_name(scan, finding, "pdf") == expected.format(scan.key)


def test_the_panel_offers_three_files(open_page, model_folder, scans):
    page = open_scan(open_page(model_folder, scans), find_scans(scans)[0][0].scan_id)
    assert not page.exception
    assert [button.label for button in page.get("download_button")] == ["PDF", "PNG", "Heat map (NIfTI)"]
    assert page.checkbox(key=f"kept.named-{page.session_state['chosen_scan']}").value is False


def test_a_reader_study_offers_no_name(open_page, model_folder, scans):
    page = open_scan(open_page(model_folder, scans, "--hide-identity"), find_scans(scans)[0][0].scan_id)
    assert not page.exception
    assert not [box for box in page.checkbox if str(box.key).startswith("kept.named")]
