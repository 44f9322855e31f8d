"""Uploads: told by content, read under names of our own, nothing left on disk, every hostile case refused in words."""

import gzip
import io
import re
import tempfile
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from app import received, uploads
from app.received import Upload, key_of, receive, room_for
from app.session import open_scan as open_scan_of_folder
from pipeline.domain import Prediction, ReadRules, ScanError
from pipeline.model.package import load_model
from pipeline.scans.find import find_scans
from tests.app.conftest import save_tiny_model
from tests.app.pages import alerts, everything, turn_to
from tests.scans.phantoms import series

RULES = ReadRules()


class File(io.BytesIO):
    """An uploaded file as Streamlit hands it over."""

    def __init__(self, name: str, content: bytes) -> None:
        super().__init__(content)
        self.name, self.size = name, len(content)


@pytest.fixture(autouse=True)
def own_tmp(tmp_path, monkeypatch) -> Path:
    """The system's folder for temporary files, which must be empty in the end."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


@pytest.fixture(scope="module")
def model(model_folder):
    return load_model(model_folder)


def dicom(tmp_path, name: str = "ct", slices: int = 8) -> list[File]:
    series(tmp_path / name, slices=slices)
    return [File(f"{name}/{path.name}", path.read_bytes()) for path in sorted((tmp_path / name).iterdir())]


def zipped(files: dict[str, bytes]) -> File:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return File("any.zip", stream.getvalue())


def reasons(upload: Upload) -> list[str]:
    return [one.reason.value for one in upload.found.rejections]


def test_a_dicom_folder_is_one_scan_like_that_of_the_folder(model, tmp_path):
    files = dicom(tmp_path)
    upload = receive(files, RULES)
    (scan,) = upload.found.scans
    opened = uploads.open_scan(model, upload, scan)
    same = open_scan_of_folder(model, find_scans(tmp_path / "ct")[0][0])
    assert isinstance(opened.result, Prediction)
    assert opened.result.probabilities == same.result.probabilities
    assert np.array_equal(opened.volume.voxels, same.volume.voxels)
    assert re.fullmatch("upload-[0-9a-f]{16}", opened.key)
    assert "ct/" not in repr(upload)


def test_a_zip_is_taken_like_a_folder(model, tmp_path):
    files = {file.name: file.getvalue() for file in dicom(tmp_path)}
    upload = receive([zipped(files)], RULES)
    (scan,) = upload.found.scans
    assert uploads.open_scan(model, upload, scan).volume.shape[2] == 8


@pytest.mark.parametrize("pack", [gzip.compress, gzip.decompress])
def test_nifti_is_told_by_content_whatever_it_is_called(model, scans, pack):
    content = (scans / "DOE-JANE-1.nii.gz").read_bytes()
    content = gzip.decompress(content) if pack is gzip.decompress else content
    upload = receive([File("holiday.jpg", content)], RULES)
    (scan,) = upload.found.scans
    assert uploads.open_scan(model, upload, scan).volume.spacing_mm == (2.0, 2.0, 3.0)


def test_a_picture(tmp_path):
    flat = load_model(save_tiny_model(tmp_path / "flat", dimensions=2))
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 30), dtype=np.uint8)).save(stream, "PNG")
    upload = receive([File("x", stream.getvalue())], RULES)
    opened = uploads.open_scan(flat, upload, upload.found.scans[0])
    assert not opened.has_frame
    assert isinstance(opened.result, Prediction)


def test_a_nifti_pair_finds_itself_again(model, tmp_path):
    voxels = np.random.default_rng(0).normal(size=(8, 8, 8)).astype(np.float32)
    nib.save(nib.Nifti1Pair(voxels, np.eye(4)), tmp_path / "p.hdr")
    files = [
        File("deep/p.hdr", (tmp_path / "p.hdr").read_bytes()),
        File("deep/p.img", (tmp_path / "p.img").read_bytes()),
    ]
    upload = receive(files, RULES)
    assert uploads.open_scan(model, upload, upload.found.scans[0]).volume.shape == (8, 8, 8)


def test_the_same_files_have_the_same_key_and_others_another(tmp_path):
    files = dicom(tmp_path)
    first, second = receive(files, RULES), receive(files[::-1], RULES)
    assert key_of(first, first.found.scans[0]) == key_of(second, second.found.scans[0])
    third = receive(dicom(tmp_path, "other", 6), RULES)
    assert key_of(third, third.found.scans[0]) != key_of(first, first.found.scans[0])


@pytest.mark.parametrize(
    "name", ["../../x.dcm", "/etc/passwd", "C:\\x", "a" * 5000, "<script>alert(1)</script>.dcm", "\0", ".."]
)
def test_the_name_of_an_upload_is_never_used(name, tmp_path, own_tmp):  # K11
    upload = receive([File(name, dicom(tmp_path)[0].getvalue())], RULES)
    assert list(upload.files) == ["00000"]
    assert {path.name for path in tmp_path.iterdir()} == {"tmp", "ct"} | (
        {"own"} & {p.name for p in tmp_path.iterdir()}
    )


@pytest.mark.parametrize(
    "content", [b"", b"MZ\x90 an executable", b"\x7fELF", b"<script>", b"\x1f\x8b broken gzip", b"%PDF-1.4", b"GIF89a"]
)
def test_what_is_no_scan_is_none(content):  # K10
    upload = receive([File("ct.dcm", content)], RULES)
    assert upload.found.scans == []


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"../slip.dcm": b"x"}, "bad_archive"),  # K1
        ({"/abs.dcm": b"x"}, "bad_archive"),
        ({"C:/drive.dcm": b"x"}, "bad_archive"),
        ({"a\\b.dcm": b"x"}, "bad_archive"),
        ({"zeros": bytes(300 * 2**20)}, "too_large"),  # K4
        ({"inner.zip": zipped({"a": b"x"}).getvalue()}, "bad_archive"),  # K3
    ],
)  # fmt: skip
def test_hostile_archives_are_refused(members, reason, own_tmp):
    upload = receive([zipped(members)], RULES)
    assert reasons(upload) == [reason]
    assert upload.found.scans == []


def test_an_archive_with_two_members_of_one_name_is_refused():  # K7
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.dcm", b"x")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a.dcm", b"y")
    assert reasons(receive([File("x.zip", stream.getvalue())], RULES)) == ["bad_archive"]


def test_a_linked_or_encrypted_member_is_refused():  # K2, K8
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        link = zipfile.ZipInfo("link.dcm")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    assert reasons(receive([File("x.zip", stream.getvalue())], RULES)) == ["bad_archive"]
    content = bytearray(zipped({"a.dcm": b"x" * 50}).getvalue())
    at = content.index(b"PK\1\2")
    content[6] |= 1
    content[at + 8] |= 1
    assert reasons(receive([File("x.zip", bytes(content))], RULES)) == ["bad_archive"]


def test_a_truncated_scan_is_refused_when_it_is_opened(model, scans):
    upload = receive([File("x", (scans / "DOE-JANE-1.nii.gz").read_bytes()[:-2000])], RULES)
    with pytest.raises(ScanError, match=r"truncated|checksum|size_mismatch|malformed"):
        uploads.open_scan(model, upload, upload.found.scans[0])


def test_too_many_or_too_large_uploads_are_refused(monkeypatch):
    monkeypatch.setattr(received, "MAX_FILES", 2)
    with pytest.raises(ScanError, match="too_large: the upload has 3 files"):
        receive([File("x", b"")] * 3, RULES)
    monkeypatch.setattr(received, "MAX_UPLOAD_MB", 0)
    with pytest.raises(ScanError, match="Start the viewer with --scans"):
        receive([File("x", b"1")], RULES)


def test_all_browser_tabs_together_hold_no_more_than_the_limit():  # K12
    upload = receive([File("x", bytes(100))], RULES)
    kept = sum(one.size for one in received.held)
    assert kept >= 100
    assert room_for(50, 0, 0, kept + 50)
    assert not room_for(51, 0, 0, kept + 50)
    assert not room_for(50, kept + 1, 0, kept + 50)
    assert not room_for(50, 0, 1, kept + 50)
    del upload
    assert sum(one.size for one in received.held) == kept - 100


@pytest.fixture
def front(open_page, model_folder, scans):
    return turn_to(open_page(model_folder, scans), "upload")


def test_a_lone_scan_opens_by_itself(front, scans):
    page = front
    content = (scans / "DOE-JANE-1.nii.gz").read_bytes()
    page.file_uploader(key="files").upload("../../DOE.nii.gz", content, "application/octet-stream").run()
    assert not page.exception
    assert alerts(page) == []
    assert page.session_state["page"] == "scan"
    assert "calibrated probability" in everything(page)
    assert "DOE" not in everything(page)
    assert "DOE" not in str(page.session_state)


def test_of_several_scans_the_reader_chooses(front, scans):
    page = front
    for number in (1, 2):
        content = (scans / f"DOE-JANE-{number}.nii.gz").read_bytes()
        page.file_uploader(key="files").upload(f"{number}.nii.gz", content, "application/octet-stream")
    page = page.run()
    assert [button.label for button in page.button if button.key.startswith("open-")] == [
        "Scan 1 · NIfTI · 12 slices", "Scan 2 · NIfTI · 12 slices",
    ]  # fmt: skip
    page = page.button(key="open-2").click().run()
    assert page.session_state["page"] == "scan"
    assert "calibrated probability" in everything(page)


def test_what_is_refused_says_why(front):
    page = front
    page.file_uploader(key="files").upload("x.png", b"MZ an executable", "image/png").run()
    assert not page.exception
    assert "Nothing here is a scan" in alerts(page)[0]
    page.file_uploader(key="files").upload("x.zip", zipped({"../slip": b"x"}).getvalue(), "application/zip").run()
    assert any(alert.startswith("Refused: the archive is damaged") for alert in alerts(page))


def test_the_limits_are_stated(front):
    page = front
    assert "at most 500 MB a file, 1000 MB and 5,000 files at once" in page.caption[0].value
