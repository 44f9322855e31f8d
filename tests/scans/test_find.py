"""What a folder holds: scans, refusals, and what is skipped."""

import hashlib
import os
import pickle
import shutil

import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from pipeline import find_scans, read_volume
from pipeline.domain import Reason, ScanError, UsageError
from pipeline.scans import kept
from pipeline.scans.find import read_identity, relative_path, survey
from pipeline.scans.headers import read_header
from pipeline.scans.imageless import LostSliceError
from tests.scans.phantoms import AXIAL, dicom, nifti, pixels, put_pixels, series, write


def sha(text):
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def single(path, sop_class="1.2.840.10008.5.1.4.1.1.1.1", modality="DX", stored=None):
    ds = dicom(pixels()[0] if stored is None else stored, (0, 0, 0))
    ds.SOPClassUID, ds.Modality = sop_class, modality
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2.3", "1.2.3.4"
    del ds.ImagePositionPatient, ds.ImageOrientationPatient
    write(ds, path)
    return ds


def test_a_series_is_one_scan_with_its_identity(tmp_path):
    def change(ds, k):
        ds.AccessionNumber, ds.StudyDate, ds.PatientAge, ds.PatientSex = "ACC", "20200102", "061Y", "F"

    scans, rejections = find_scans(series(tmp_path / "a", change, series_uid="1.2.3"))
    (scan,) = scans
    assert rejections == []
    assert scan.scan_id == sha("1.2.3")
    assert (scan.path, len(scan.paths), scan.kind, scan.group) == (tmp_path / "a", 6, "dicom", "")
    assert (scan.patient_id, scan.accession_number, scan.acquired) == ("CANARY-ID", "ACC", "20200102")
    assert (scan.age, scan.sex, scan.modality) == (61.0, "F", "CT")
    assert "CANARY" not in repr(scan)


def test_one_file_of_a_series_is_a_scan_of_its_own(tmp_path):
    write(prepared(dicom(pixels()[0], (0, 0, 0))), tmp_path / "x.dcm")
    (scan,), _ = find_scans(tmp_path)
    assert scan.path == tmp_path / "x.dcm"


def prepared(ds, series_uid=None):
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2", series_uid or generate_uid()
    return ds


def test_two_series_in_one_folder_are_two_scans(tmp_path):
    series(tmp_path / "a")
    for path in series(tmp_path / "b").iterdir():
        shutil.move(path, tmp_path / "a" / f"B{path.name}")
    scans, _ = find_scans(tmp_path / "a")
    assert [len(scan.paths) for scan in scans] == [6, 6]


def test_a_series_in_two_folders_has_their_common_folder(tmp_path):
    folder = series(tmp_path / "a")
    (tmp_path / "b").mkdir()
    for path in sorted(folder.iterdir())[:3]:
        shutil.move(path, tmp_path / "b")
    (scan,), _ = find_scans(tmp_path)
    assert scan.path == tmp_path
    assert read_volume(scan).shape == (10, 8, 6)


@pytest.mark.parametrize("modality", ["CR", "DX", "MG", "US", "OT"])
def test_pictures_of_one_series_are_scans_of_their_own(tmp_path, modality):
    one, two = (single(tmp_path / name, modality=modality) for name in ("1.dcm", "2.dcm"))
    scans, _ = find_scans(tmp_path)
    assert {scan.scan_id for scan in scans} == {sha(one.SOPInstanceUID), sha(two.SOPInstanceUID)}


def test_other_files_are_named_by_path_and_size(tmp_path):
    path = nifti(tmp_path / "site" / "scan.nii.gz")
    (scan,), _ = find_scans(tmp_path)
    assert scan.scan_id == sha(f"site/scan.nii.gz|{path.stat().st_size}")
    assert (scan.kind, scan.modality, scan.path) == ("nifti", "", path)


def test_a_time_series_is_split_into_volumes(tmp_path):
    voxels = np.random.default_rng(0).integers(0, 99, (3, 4, 5, 2)).astype(np.int16)
    path = nifti(tmp_path / "4d.nii", voxels)
    scans, _ = find_scans(tmp_path)
    assert {scan.group for scan in scans} == {"t0", "t1"}
    assert {scan.scan_id for scan in scans} == {sha(f"4d.nii|{path.stat().st_size}|t{i}") for i in range(2)}
    for scan in scans:
        np.testing.assert_array_equal(read_volume(scan).voxels, voxels[..., int(scan.group[1])])
    with pytest.raises(ScanError, match=r"ambiguous_volume: expected one volume, found 2 \(t"):
        read_volume(path)


def test_copies_of_an_instance_become_aliases(tmp_path):
    folder = series(tmp_path / "a")
    shutil.copytree(folder, tmp_path / "b")
    (scan,), rejections = find_scans(tmp_path)
    assert rejections == []
    assert (len(scan.paths), len(scan.aliases)) == (6, 6)
    assert scan.path == tmp_path / "a"
    assert {path.parent.name for path in scan.aliases} == {"b"}


def test_one_instance_uid_with_other_pixels_is_refused(tmp_path):
    ds = single(tmp_path / "a.dcm")
    put_pixels(ds, pixels()[1])
    write(ds, tmp_path / "b.dcm")
    scans, (rejection,) = find_scans(tmp_path)
    assert scans == []
    assert rejection.reason == Reason.CONFLICTING_SLICES
    assert set(rejection.files) == {tmp_path / "a.dcm", tmp_path / "b.dcm"}


@pytest.mark.parametrize("keyword", ["PatientID", "StudyInstanceUID"])
def test_a_slice_of_another_patient_is_refused(tmp_path, keyword):
    series(tmp_path, lambda ds, k: setattr(ds, keyword, "9.9" if k == 2 else "1.1"))
    scans, (rejection,) = find_scans(tmp_path)
    assert scans == []
    assert rejection.reason == Reason.MIXED_PATIENTS
    assert len(rejection.files) == 6


def with_localizer(folder, orientation, image_type, position=(0.0, 0.0, 0.0)):
    series(folder, series_uid="1.2.3")
    study = pydicom.dcmread(next(folder.iterdir())).StudyInstanceUID
    ds = dicom(pixels()[0], position, orientation)
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.ImageType = study, "1.2.3", image_type
    return write(ds, folder / "LOC.dcm")


@pytest.mark.parametrize(
    ("orientation", "kind"), [((0, 1, 0, 0, 0, -1), "AXIAL"), (AXIAL, "LOCALIZER")], ids=["by geometry", "by its word"]
)
def test_a_localizer_in_the_series_is_set_aside_and_said_so(tmp_path, orientation, kind):
    path = with_localizer(tmp_path, orientation, ["ORIGINAL", "PRIMARY", kind])
    found = survey(tmp_path)
    (scan,) = found.scans
    assert scan.warnings == ("localizer_dropped",)
    assert found.skipped == [(path, "localizer")]
    assert read_volume(scan).warnings == ("localizer_dropped",)


def test_a_series_of_nothing_but_localizers_is_kept(tmp_path):
    series(tmp_path, lambda ds, k: setattr(ds, "ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"]))
    (scan,), _ = find_scans(tmp_path)
    assert len(scan.paths) == 6


def test_echoes_are_separate_volumes(tmp_path):
    def change(ds, k):
        ds.EchoTime = "10" if k % 2 else "20"
        ds.ImagePositionPatient = [0, 0, k // 2]

    scans, _ = find_scans(series(tmp_path, change, series_uid="1.2.3"))
    assert {scan.group for scan in scans} == {"echo=10", "echo=20"}
    assert {scan.scan_id for scan in scans} == {sha("1.2.3|echo=10"), sha("1.2.3|echo=20")}
    assert all(read_volume(scan).shape == (10, 8, 3) for scan in scans)


@pytest.mark.parametrize(
    ("keyword", "values"),
    [
        ("TemporalPositionIdentifier", (1, 2)),
        ("AcquisitionTime", ("100000", "100010.5")),
        ("TriggerTime", ("0", "400")),
    ],
)
def test_phases_are_separate_volumes_in_their_order(tmp_path, keyword, values):
    def change(ds, k):
        setattr(ds, keyword, values[k // 3])
        ds.ImagePositionPatient = [0, 0, k % 3]

    scans, _ = find_scans(series(tmp_path, change))
    first, second = sorted(scans, key=lambda scan: scan.group)
    assert (first.group, second.group) == ("t0", "t1")
    assert read_volume(first).voxels.min() < read_volume(second).voxels.min()


def test_magnitude_phase_and_b_values_are_separate(tmp_path):
    def change(ds, k):
        ds.ImageType = ["ORIGINAL", "PRIMARY", "M" if k < 8 else "P"]
        ds.DiffusionBValue = [0.0, 1000.0][k // 4 % 2]
        ds.ImagePositionPatient = [0, 0, k % 4]

    scans, _ = find_scans(series(tmp_path, change, slices=16))
    assert {scan.group for scan in scans} == {f"type={t};b={b}" for t in "MP" for b in (0, 1000)}


def test_a_time_that_changes_from_slice_to_slice_separates_nothing(tmp_path):
    def change(ds, k):
        ds.AcquisitionTime, ds.AcquisitionNumber = f"1000{k:02d}", k

    (scan,), _ = find_scans(series(tmp_path, change))
    assert scan.group == ""


def test_two_grids_in_one_series_are_two_volumes(tmp_path):
    def change(ds, k):
        ds.PixelSpacing = [0.5, 0.7] if k < 3 else [1, 1]

    scans, _ = find_scans(series(tmp_path, change))
    assert {scan.group for scan in scans} == {"spacing=0.5,0.7", "spacing=1,1"}


@pytest.mark.parametrize(
    "change",
    [
        lambda ds, k: k == 2 and setattr(ds, "PixelSpacing", [1, 1]),
        lambda ds, k: k == 2 and put_pixels(ds, pixels()[0, :4]),
        lambda ds, k: k == 2 and setattr(ds, "ImageOrientationPatient", [1, 0, 0, 0, 0.9962, 0.0872]),
        lambda ds, k: setattr(ds, "FrameOfReferenceUID", f"1.2.{k % 2 + 1}"),
    ],
    ids=["spacing", "size", "5 degrees", "frame of reference"],
)
def test_a_stray_slice_of_another_grid_is_refused(tmp_path, change):
    scans, (rejection,) = find_scans(series(tmp_path, change))
    assert scans == []
    assert rejection.reason == Reason.MIXED_GEOMETRY


def test_slices_without_position_are_refused_a_lone_one_is_a_picture(tmp_path):
    def change(ds, k):
        del ds.ImagePositionPatient

    _, (rejection,) = find_scans(series(tmp_path / "many", change))
    assert rejection.reason == Reason.NO_GEOMETRY
    volume = read_volume(series(tmp_path / "one", change, slices=1))
    assert volume.warnings == ("no_geometry",)
    assert volume.shape == (10, 8, 1)


def test_what_is_no_scan_is_skipped(tmp_path):
    nifti(tmp_path / "scan.nii")
    (tmp_path / "readme.txt").write_text("hello")
    (tmp_path / "labels.csv").write_text("path,label\n")
    (tmp_path / ".DS_Store").write_bytes(b"\0" * 200)
    (tmp_path / "Thumbs.db").write_bytes(b"\0" * 200)
    (tmp_path / "DICOMDIR").write_bytes(b"junk")
    os.mkfifo(tmp_path / "pipe")
    report = single(tmp_path / "report.dcm", sop_class="1.2.840.10008.5.1.4.1.1.88.11", modality="SR")
    assert report.Modality == "SR"
    found = survey(tmp_path)
    assert len(found.scans) == 1
    assert found.rejections == []
    assert {path.name: why for path, why in found.skipped} == {
        ".DS_Store": "hidden",
        "DICOMDIR": "no scan",
        "Thumbs.db": "hidden",
        "labels.csv": "no scan",
        "pipe": "no regular file",
        "readme.txt": "no scan",
        "report.dcm": "DICOM without image (Basic Text SR Storage)",
    }
    with pytest.raises(ScanError, match=r"non_image: the file is no scan: DICOM without image"):
        read_volume(tmp_path / "report.dcm")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.dcm", b"", Reason.NOT_AN_IMAGE),
        ("text.dcm", b"hello " * 100, Reason.NOT_AN_IMAGE),
        ("random.dcm", bytes(range(200, 256)) * 40, Reason.NOT_AN_IMAGE),
        ("text.nii", b"hello", Reason.NOT_AN_IMAGE),
        ("picture.nii.gz", b"\x89PNG\r\n\x1a\n" + bytes(600), Reason.NOT_AN_IMAGE),
        ("alone.img", bytes(4000), Reason.NOT_AN_IMAGE),
        ("text.PNG", b"hello", Reason.NOT_AN_IMAGE),
        ("preamble.dcm", bytes(100), Reason.TRUNCATED),
        ("no_preamble.dcm", b"\x08\0\x05\0CS\x0a\0ISO_IR 100" + bytes(200), Reason.NOT_DICOM),
        ("meta.dcm", bytes(128) + b"DICM\x02\0\0\0UL\x04\0", Reason.TRUNCATED),
    ],
)
def test_a_file_that_claims_to_be_a_scan_and_is_none_is_refused(tmp_path, name, content, reason):
    (tmp_path / name).write_bytes(content)
    found = survey(tmp_path)
    assert [(one.path.name, one.reason, one.files) for one in found.rejections] == [(name, reason, (tmp_path / name,))]
    with pytest.raises(ScanError, match=reason.value):
        read_volume(tmp_path / name)


@pytest.mark.parametrize("keyword", ["Rows", "Columns", "SOPInstanceUID", "SeriesInstanceUID"])
def test_a_missing_element_is_named(tmp_path, keyword):
    series(tmp_path, lambda ds, k: delattr(ds, keyword), slices=1)
    _, (rejection,) = find_scans(tmp_path)
    assert rejection.reason == Reason.MISSING_ATTRIBUTE
    assert keyword in rejection.detail


def test_a_folder_that_can_not_be_listed_is_refused_not_passed_over(tmp_path, monkeypatch):
    series(tmp_path / "open")
    (tmp_path / "shut").mkdir()
    scandir = os.scandir

    def unless_shut(path):
        if os.fspath(path).endswith("shut"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", unless_shut)
    found = survey(tmp_path)
    assert len(found.scans) == 1
    assert [(one.path, one.reason) for one in found.rejections] == [(tmp_path / "shut", Reason.IO_ERROR)]
    assert "grant access" in found.rejections[0].detail


def test_links_are_followed_only_within_the_folder(tmp_path):
    inside, outside = tmp_path / "in", tmp_path / "out"
    nifti(inside / "scan.nii")
    nifti(outside / "far.nii")
    (inside / "near.nii").symlink_to(inside / "scan.nii")
    (inside / "far.nii").symlink_to(outside / "far.nii")
    (inside / "loop").symlink_to(inside)
    (inside / "gone").symlink_to(inside / "nothing")
    found = survey(inside)
    assert [scan.path.name for scan in found.scans] == ["near.nii", "scan.nii"]
    assert {path.name: why for path, why in found.skipped} == {
        "far.nii": "link out of the folder",
        "gone": "broken link",
        "loop": "link to a folder",
    }


@pytest.mark.parametrize("name", ["new\nline.nii", "emoji 🫁.nii", os.fsdecode(b"latin-\xe9.nii"), "a" * 200 + ".nii"])
def test_odd_file_names_are_fine(tmp_path, name):
    nifti(tmp_path / "x.nii").rename(tmp_path / name)
    (scan,), _ = find_scans(tmp_path)
    assert read_volume(scan).shape == (4, 5, 6)


def test_a_missing_path_is_wrong_use_and_an_empty_folder_holds_nothing(tmp_path):
    with pytest.raises(UsageError, match=r"expected a scan or a folder of scans"):
        survey(tmp_path / "nowhere")
    assert find_scans(tmp_path) == ([], [])
    with pytest.raises(ScanError, match="no_scans"):
        read_volume(tmp_path)


def test_progress_is_reported(tmp_path):
    calls = []
    survey(series(tmp_path), lambda done, total: calls.append((done, total)))
    assert calls[-1] == (6, 6)


def test_identity_is_read_only_when_asked_for(tmp_path):
    (scan,), _ = find_scans(series(tmp_path, slices=1))
    identity = read_identity(scan)
    assert (identity.patient_name, identity.patient_id) == ("CANARY^NAME", "CANARY-ID")
    assert "CANARY" not in repr(identity)


def test_relative_paths_have_slashes(tmp_path):
    path = nifti(tmp_path / "a" / "b.nii")
    assert relative_path(path, tmp_path) == "a/b.nii"
    assert relative_path(path, path) == "b.nii"
    assert relative_path(tmp_path, tmp_path) == "."


def test_inputs_are_never_altered(tmp_path):
    folder = series(tmp_path)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    read_volume(folder)
    assert before == {path: path.read_bytes() for path in folder.iterdir()}


def test_the_headers_of_a_folder_are_read_once(tmp_path, monkeypatch):
    folder, read = series(tmp_path / "a"), []
    monkeypatch.setattr(kept, "read_header", lambda path: read.append(path) or read_header(path))
    once = read_volume(folder)
    assert sorted(read) == sorted(folder.iterdir())
    monkeypatch.setattr(kept, "MOST", 1)
    again = read_volume(folder)
    assert np.array_equal(once.voxels, again.voxels)
    assert len(read) == 3 * len(list(folder.iterdir())) - 1


@pytest.mark.parametrize(
    ("header", "side"),
    [
        ({"ImageLaterality": "L"}, "L"),
        ({"Laterality": "R"}, "R"),
        ({"Laterality": "L", "ImageLaterality": "L", "ViewPosition": "LMLO"}, "L"),
        ({"ViewPosition": "R CC"}, "R"),
        ({"ImageLaterality": "B"}, "B"),
        ({"ImageLaterality": "U"}, ""),
        ({"ViewPosition": "LL"}, ""),
        ({"Laterality": "L", "ImageLaterality": "R"}, ""),
        ({"Laterality": "L", "ImageLaterality": "B"}, ""),
    ],
)
def test_the_side_is_the_one_that_the_header_names(tmp_path, header, side):
    series(tmp_path, lambda ds, _: [setattr(ds, name, value) for name, value in header.items()], slices=1)
    assert find_scans(tmp_path)[0][0].side == side


def test_a_refused_slice_tells_its_series_across_processes():
    error = pickle.loads(pickle.dumps(LostSliceError(Reason.TRUNCATED, "the file ends before its pixels", "1.2.3")))
    assert (error.reason, error.detail, error.series_uid) == ("truncated", "the file ends before its pixels", "1.2.3")


def test_a_private_object_without_pixels_beside_the_slices_does_no_harm(tmp_path):
    series(tmp_path, lambda ds, k: setattr(ds, "SeriesDescription", "x"), series_uid="1.2.3")
    ds = dicom(pixels()[0], (0, 0, 0))
    ds.SOPClassUID, ds.SeriesInstanceUID = "1.3.46.670589.11.0.0.12.2", "1.2.3"
    del ds.PixelData
    write(ds, tmp_path / "XX_0001")
    (scan,), (rejection,) = find_scans(tmp_path)
    assert (scan.n_slices, rejection.path.name, rejection.reason) == (6, "XX_0001", "missing_attribute")


def test_equal_slices_that_share_a_uid_but_not_a_place_are_no_copies(tmp_path):
    def blank(ds, k):
        ds.PixelData = bytes(len(ds.PixelData))
        if k > 3:
            ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"

    scans, (rejection,) = find_scans(series(tmp_path, blank))
    assert (scans, rejection.reason) == ([], "conflicting_slices")
    assert rejection.detail == "2 files share one SOPInstanceUID but name different places; keep the right one"
