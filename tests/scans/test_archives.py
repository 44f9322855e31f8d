"""A .zip of scans is taken like a folder, under limits; nothing of it stays on the disk."""

import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pipeline import find_scans, read_volume
from pipeline.domain import Reason, ScanError
from pipeline.scans import archives, look, temporary
from pipeline.scans.archives import archive_of, within_reach
from pipeline.scans.find import read_identity, relative_path, survey
from tests.scans.phantoms import nifti, pixels, series, write
from tests.scans.test_find import single


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path, monkeypatch):
    """A temporary folder of the test's own, empty in the end."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    yield
    assert list(tmp_path.glob("tmp/*")) == []


@pytest.fixture
def folder(tmp_path) -> Path:
    """A series, a NIfTI file, a pair, a radiograph twice, a broken file, a text and what a Mac leaves."""
    root = tmp_path / "plain"
    series(root / "p1" / "ct", series_uid="1.2.3")
    nifti(root / "p2" / "scan.nii.gz")
    nifti(root / "p3" / "pair.hdr")
    single(root / "x.dcm")
    shutil.copy(root / "x.dcm", root / "y.dcm")
    (root / "bad.dcm").write_text("no")
    (root / "note.txt").write_text("no")
    (root / "__MACOSX").mkdir()
    (root / "__MACOSX" / "._scan.nii.gz").write_text("no")
    return root


def packed(folder: Path, archive: Path, method: int = zipfile.ZIP_DEFLATED) -> Path:
    archive.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(archive, "w", method) as file:
        for path in sorted(folder.rglob("*")):
            file.write(path, path.relative_to(folder))
    return archive


def made(archive: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    archive.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members:
            file.writestr(name, content)
    return archive


def facts(found) -> dict[str, object]:
    def shown(path):
        return relative_path(path, found.root) if path != found.root else "."

    return {
        "scans": [(one.scan_id, one.kind, shown(one.path)) for one in found.scans],
        "files": [([*map(shown, one.paths)], [*map(shown, one.aliases)]) for one in found.scans],
        "rejections": [(shown(one.path), one.reason) for one in found.rejections],
        "skipped": sorted((shown(path), why) for path, why in found.skipped if why != "hidden"),
    }


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_archive_holds_what_its_folder_does(tmp_path, folder, method):
    plain, zipped = survey(folder), survey(packed(folder, tmp_path / "a.ZIP", method))
    assert facts(zipped) == facts(plain)
    assert len(zipped.scans) == 4
    for one, other in zip(plain.scans, zipped.scans, strict=True):
        np.testing.assert_array_equal(read_volume(one).voxels, read_volume(other).voxels)
    assert read_identity(zipped.scans[0]) == read_identity(plain.scans[0])


def test_an_archive_within_a_folder(tmp_path, folder):
    archive = packed(folder / "p1", tmp_path / "in" / "site" / "a.zip")
    before = archive.read_bytes()
    (scan,), _ = find_scans(tmp_path / "in")
    assert scan.scan_id == find_scans(folder / "p1")[0][0].scan_id
    assert relative_path(scan.path, tmp_path / "in") == "site/a.zip/ct"
    assert read_volume(scan).shape == (10, 8, 6)
    assert archive.read_bytes() == before
    assert [path.name for path in (tmp_path / "in").rglob("*")] == ["site", "a.zip"]


def test_a_scan_may_lie_in_two_archives(tmp_path, folder):
    (folder / "p1" / "more").mkdir()
    for path in sorted((folder / "p1" / "ct").iterdir())[:3]:
        shutil.move(path, folder / "p1" / "more")
    for name in ("ct", "more"):
        packed(folder / "p1" / name, tmp_path / "in" / f"{name}.zip")
    (scan,), _ = find_scans(tmp_path / "in")
    np.testing.assert_array_equal(read_volume(scan).voxels, read_volume(folder / "p1").voxels)


def test_processes_unpack_for_themselves(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(look, "ALONE_S", 0.0)
    monkeypatch.setattr(look, "WORTH_S", 0.0)
    archive = packed(folder, tmp_path / "a.zip")
    assert survey(archive, workers=2) == survey(archive, workers=0)


def test_a_path_that_only_looks_like_one_is_none(tmp_path):
    nifti(tmp_path / "folder.zip" / "a.nii")
    (scan,), _ = find_scans(tmp_path)
    assert archive_of(scan.path) is None
    assert read_volume(scan).shape == (4, 5, 6)
    with within_reach(scan.paths) as paths:
        assert paths == scan.paths


def link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = 0o120777 << 16
    return info


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("members", "says"),
    [
        ([("../x.nii", b"")], "leads out of the archive"),
        ([("a/../../x.nii", b"")], "leads out of the archive"),
        ([("/etc/x.nii", b"")], "leads out of the archive"),
        ([("C:/x.nii", b"")], "leads out of the archive"),
        ([("C:x.nii", b"")], "leads out of the archive"),
        ([("a\\x.nii", b"")], "leads out of the archive"),
        ([("a//x.nii", b"")], "leads out of the archive"),
        ([("./x.nii", b"")], "leads out of the archive"),
        ([(link("x.nii"), b"/etc/passwd")], "a link or a device"),
        ([("x.nii", b"a"), ("x.nii", b"b")], "share one name"),
        ([("x", b"a"), ("x/y.nii", b"b")], "share one name"),
    ],
)
def test_tricks_are_refused_with_the_whole_archive(tmp_path, members, says):
    archive = made(tmp_path / "in" / "a.zip", ("good.nii", b""), *members)
    found = survey(tmp_path / "in")
    (rejection,) = found.rejections
    assert (found.scans, rejection.path, rejection.reason) == ([], archive, Reason.BAD_ARCHIVE)
    assert says in rejection.detail
    with pytest.raises(ScanError, match="bad_archive"):
        read_volume(archive)
    assert not list(tmp_path.rglob("x.nii"))


def changed(archive: Path, signature: bytes, at: int, value: bytes) -> Path:
    """The archive with a field of its (last) record overwritten."""
    raw = bytearray(archive.read_bytes())
    start = raw.rindex(signature) + at
    raw[start : start + len(value)] = value
    archive.write_bytes(raw)
    return archive


CENTRAL = b"PK\x01\x02"


@pytest.mark.parametrize(
    ("signature", "at", "value", "says"),
    [
        (CENTRAL, 6, b"\x63", "bad_archive: the file is no zip archive, or is damaged"),  # made for version 9.9
        (CENTRAL, 8, b"\x01", "bad_archive: the archive is encrypted"),
        (CENTRAL, 10, struct.pack("<H", 9), "bad_archive: compression method 9 is not supported"),
        (CENTRAL, 0, b"PKPK", "bad_archive: the file is no zip archive, or is damaged"),
        (archives.END, 0, b"PKPK", "bad_archive: the file is no zip archive, or ends early"),
        (CENTRAL, 24, struct.pack("<L", 2**31), "too_large: .* would grow to"),
        (archives.END, 10, struct.pack("<H", 65_000), "too_large: the archive has 65000 members"),
        (archives.END, 12, struct.pack("<L", 2**30), "too_large: the archive has"),
    ],
)
def test_archives_that_can_not_be_trusted(tmp_path, monkeypatch, signature, at, value, says):
    monkeypatch.setattr(archives, "MAX_MEMBERS", 50_000)
    archive = changed(made(tmp_path / "a.zip", ("a.nii", bytes(1000))), signature, at, value)
    with pytest.raises(ScanError, match=says):
        read_volume(archive)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04" + bytes(100)])
def test_a_file_that_claims_to_be_an_archive(tmp_path, content):
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(ScanError, match="bad_archive: the file is no zip archive"):
        read_volume(tmp_path / "a.zip")


def test_bombs_are_refused_by_their_list(tmp_path, monkeypatch):
    made(tmp_path / "a.zip", ("a.nii", bytes(2**29)))
    with pytest.raises(ScanError, match=r"too_large: .* would grow to 536870912"):
        read_volume(tmp_path / "a.zip")
    monkeypatch.setattr(archives, "MAX_MEMBERS", 100)
    made(tmp_path / "many.zip", *((f"{n}.nii", b"") for n in range(101)))
    with pytest.raises(ScanError, match="too_large: the archive has 101 members; accepted: 100"):
        read_volume(tmp_path / "many.zip")
    monkeypatch.setattr(archives, "MAX_BYTES", 1000)
    made(tmp_path / "big.zip", *((f"{n}.nii", os.urandom(600)) for n in range(2)))
    with pytest.raises(ScanError, match="too_large: the archive would unpack to 1200 bytes; accepted: 1000"):
        read_volume(tmp_path / "big.zip")


def test_a_size_that_lies_costs_that_member(tmp_path, folder):
    raw = (folder / "p2" / "scan.nii.gz").read_bytes()
    archive = made(tmp_path / "a.zip", ("a.nii.gz", raw), ("b.nii.gz", raw))
    changed(archive, CENTRAL, 24, struct.pack("<L", len(raw) - 50))
    found = survey(archive)
    assert [scan.path.name for scan in found.scans] == ["a.nii.gz"]
    assert [(one.path.name, one.reason) for one in found.rejections] == [("b.nii.gz", Reason.CHECKSUM)]


def test_a_damaged_member_costs_itself(tmp_path, folder):
    raw = (folder / "p2" / "scan.nii.gz").read_bytes()
    archive = packed(folder / "p2", tmp_path / "a.zip", zipfile.ZIP_STORED)
    content = archive.read_bytes()
    at = content.index(raw) + len(raw) // 2
    archive.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    (rejection,) = find_scans(archive)[1]
    assert (rejection.path, rejection.reason) == (archive / "scan.nii.gz", Reason.CHECKSUM)


def test_an_archive_within_an_archive_is_not_opened(tmp_path, folder):
    inner = packed(folder / "p2", tmp_path / "inner.zip").read_bytes()
    archive = made(tmp_path / "a.zip", ("b/inner.zip", inner), ("x.dcm", (folder / "x.dcm").read_bytes()))
    (scan,), (rejection,) = find_scans(archive)
    assert scan.path == archive / "x.dcm"
    assert (rejection.path, rejection.reason) == (archive / "b/inner.zip", Reason.BAD_ARCHIVE)


def test_an_archive_that_is_gone_or_changed(tmp_path, folder):
    archive = packed(folder / "p1", tmp_path / "a.zip")
    (scan,), _ = find_scans(archive)
    made(archive, ("other.txt", b"no"))
    with pytest.raises(ScanError, match="malformed"):
        read_volume(scan)
    archive.unlink()
    with pytest.raises(ScanError, match="io_error"):
        read_volume(scan)


def test_folders_of_killed_processes_are_removed(tmp_path, monkeypatch):
    script = (
        "import sys, tempfile, time\ntempfile.tempdir = sys.argv[1]\nfrom pipeline.scans.temporary import own_folder\n"
        "with own_folder() as folder:\n    (folder / 'x').write_text('x')\n    print(folder, flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "tmp")], stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        left = Path(run.stdout.readline().strip())
        temporary.sweep()
        assert (left / "x").is_file()
        run.send_signal(signal.SIGKILL)
    assert left.is_dir()
    temporary.sweep()
    assert not left.exists()


def test_a_killed_reader_leaves_nothing(tmp_path, folder):
    """The processes that read clean up, whether they are killed or their parent is."""
    archive = packed(folder, tmp_path / "a.zip")
    script = (
        "import sys, tempfile\ntempfile.tempdir = sys.argv[1]\n"
        "from tests.scans.ill_looks import unpack_and_hang\nfrom pipeline.scans.isolated import run_isolated\n"
        "from functools import partial\nfrom pathlib import Path\n"
        "work = partial(unpack_and_hang, temporary=sys.argv[1])\n"
        "print([f.result.reason for f in run_isolated([Path(sys.argv[2])], work, 1, float(sys.argv[3]))])\n"
    )

    def start(limit_s: str) -> subprocess.Popen[str]:
        words = [sys.executable, "-c", script, str(tmp_path / "tmp"), str(archive / "x.dcm"), limit_s]
        return subprocess.Popen(words, stdout=subprocess.PIPE, text=True)

    with start("3") as run:
        assert "timeout" in run.communicate()[0]
    assert list(tmp_path.glob("tmp/*")) == []
    with start("60") as run:
        _wait(lambda: any((tmp_path / "tmp").glob("*/0/x.dcm")))
        run.kill()
    _wait(lambda: not any((tmp_path / "tmp").iterdir()))


def _wait(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert condition()


def test_pixels_of_copies_in_archives_are_compared(tmp_path):
    ds = single(tmp_path / "in" / "a.dcm")
    made(tmp_path / "in" / "b.zip", ("b.dcm", (tmp_path / "in" / "a.dcm").read_bytes()))
    (scan,), rejections = find_scans(tmp_path / "in")
    assert (rejections, scan.aliases) == ([], (tmp_path / "in" / "b.zip" / "b.dcm",))
    ds.PixelData = (pixels()[0] + 1).tobytes()
    write(ds, tmp_path / "in" / "a.dcm")
    assert find_scans(tmp_path / "in")[1][0].reason == Reason.CONFLICTING_SLICES
