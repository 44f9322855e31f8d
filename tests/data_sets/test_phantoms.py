import hashlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pydicom
import pytest

from data.anatomy import phantom
from data.phantoms import main, make_demo
from data.plan import Defect, Patient, Visit, digest, labels_of, plan
from data.series import stored
from pipeline.domain import UsageError
from pipeline.scans.find import read_volume

PATIENTS = 24


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "demo"
    make_demo(out, seed=0, patients=PATIENTS, small=True)
    return out


def whole_visits() -> list[tuple[Patient, Visit, bool]]:
    """Every planned visit that is not broken on purpose, with its label."""
    pairs = zip(plan(0, PATIENTS, small=True), labels_of(0, PATIENTS), strict=True)
    return [(p, v, nodule) for p, nodule in pairs for v in p.visits if p.defect is Defect.NONE or v.number > 0]


def truth(patient: Patient, visit: Visit, nodule: bool) -> tuple[np.ndarray, np.ndarray]:
    voxels, _, mask = phantom(digest(0, "anatomy", patient.number), nodule, visit.shape, visit.spacing_mm, visit.number)
    return voxels, mask


def hashes(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_labels_name_every_series_and_nothing_else(demo):
    labels = pd.read_csv(demo / "labels.csv")
    assert list(labels.columns) == ["path", "nodule", "sex", "age", "site"]
    assert len(labels) == sum(len(patient.visits) for patient in plan(0, PATIENTS, small=True))
    assert labels["path"].is_unique
    assert all((demo / "scans" / path).exists() for path in labels["path"])
    patients = labels[~labels["path"].str.startswith("nifti/")].groupby(lambda row: labels["path"][row].split("/")[0])
    assert (patients["nodule"].nunique() == 1).all()
    assert set(labels["nodule"]) == {0, 1}


@pytest.mark.parametrize("visit", whole_visits(), ids=lambda one: one[0].scan_path(one[1]))
def test_pydicom_and_nibabel_read_back_what_was_drawn(demo, visit):
    patient, planned, nodule = visit
    expected, _ = truth(patient, planned, nodule)
    path = demo / "scans" / patient.scan_path(planned)
    if patient.as_nifti:
        image = nib.as_closest_canonical(nib.load(path))
        assert np.allclose(image.affine, planned.affine, atol=1e-3)
        assert np.abs(np.asarray(image.dataobj) - expected).max() <= 1
        return
    images = [pydicom.dcmread(file) for file in path.iterdir()]
    assert {image.file_meta.TransferSyntaxUID for image in images} == {planned.syntax}
    axial = sorted(
        (image for image in images if "LOCALIZER" not in image.ImageType), key=lambda one: one.ImagePositionPatient[2]
    )
    assert [int(image.InstanceNumber) for image in axial] == list(planned.instance_numbers)
    for k, image in enumerate(axial):
        shown = image.pixel_array * float(image.RescaleSlope) + float(image.RescaleIntercept)
        flipped = shown.T[:: -1 if image.ImageOrientationPatient[0] > 0 else 1]
        assert np.abs(flipped[:, :: -1 if image.ImageOrientationPatient[4] > 0 else 1] - expected[:, :, k]).max() <= 1


@pytest.mark.parametrize("visit", whole_visits(), ids=lambda one: one[0].scan_path(one[1]))
def test_our_reader_gives_the_volume_that_was_drawn_and_masks_lie_on_it(demo, visit):
    patient, planned, nodule = visit
    expected, mask = truth(patient, planned, nodule)
    volume = read_volume(demo / "scans" / patient.scan_path(planned))
    assert np.abs(volume.voxels - expected).max() <= 1
    assert np.allclose(volume.affine, planned.affine, atol=1e-3)
    rows = pd.read_csv(demo / "masks.csv").set_index("path")["mask"]
    assert (patient.scan_path(planned) in rows) == nodule
    if nodule:
        image = nib.load(demo / "masks" / rows[patient.scan_path(planned)])
        assert image.get_data_dtype() == np.uint8
        assert np.allclose(image.affine, volume.affine, atol=1e-3)
        assert np.array_equal(np.asarray(image.dataobj) > 0, mask)


def test_a_handful_is_broken_on_purpose(demo):
    broken = {patient.defect: patient for patient in plan(0, PATIENTS, small=True)}
    gap = broken[Defect.MISSING_SLICE]
    files = [pydicom.dcmread(file) for file in (demo / "scans" / gap.scan_path(gap.visits[0])).iterdir()]
    heights = sorted(float(f.ImagePositionPatient[2]) for f in files if "LOCALIZER" not in f.ImageType)
    assert len(heights) == gap.visits[0].shape[2] - 1
    assert max(np.diff(heights)) == pytest.approx(2 * min(np.diff(heights)))
    cut = broken[Defect.TRUNCATED_FILE]
    sizes = sorted(f.stat().st_size for f in (demo / "scans" / cut.scan_path(cut.visits[0])).iterdir())
    assert sizes[0] < 0.7 * sizes[-1]
    assert b"DICM" not in (demo / "scans" / "README.dcm").read_bytes()


def test_the_same_settings_give_the_same_bytes_and_a_second_run_writes_nothing(demo, tmp_path):
    again = tmp_path / "again"
    assert main(["--out", str(again), "--patients", str(PATIENTS), "--small", "--workers", "2"]) == 0
    assert hashes(demo) == hashes(again)
    kept = {path: path.stat().st_mtime_ns for path in again.rglob("*")}
    make_demo(again, seed=0, patients=PATIENTS, small=True)
    assert {path: path.stat().st_mtime_ns for path in again.rglob("*")} == kept


def test_another_seed_or_a_lost_file_rewrites(tmp_path):
    out = tmp_path / "demo"
    make_demo(out, seed=1, patients=3, small=True)
    first = hashes(out)
    make_demo(out, seed=2, patients=3, small=True)
    assert hashes(out)["labels.csv"] != first["labels.csv"]
    next(path for path in (out / "scans").rglob("*") if path.is_file()).unlink()
    make_demo(out, seed=1, patients=3, small=True)
    assert hashes(out) == first


def test_wrong_use_is_refused_all_at_once_and_foreign_files_are_kept(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("ten years of work")
    with pytest.raises(UsageError, match=r"(?s)patients: .*got 1.*seed: .*got -1.*holds other files"):
        make_demo(tmp_path, seed=-1, patients=1)
    assert main(["--out", str(tmp_path)]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    assert main([]) == 2
    assert "--out data/demo" in capsys.readouterr().err


def test_the_command_says_what_it_wrote_and_what_comes_next(tmp_path, capsys):
    assert main(["--out", str(tmp_path / "demo"), "--patients", "4", "--small", "--workers", "1"]) == 0
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert last.startswith("next: python -m pipeline.prepare ")
    assert last.endswith("--label nodule --out runs/demo/cohort")


@pytest.mark.parametrize("visit", [v for p in plan(0, 40) for v in p.visits][:7])
def test_stored_numbers_stay_within_their_bits(visit):
    coding = visit.coding
    numbers = stored(np.array([[-1024, 0, 2000]], dtype=np.float32), coding).astype(int)
    low = -(2 ** (coding.bits - 1)) if coding.signed else 0
    assert low <= numbers.min()
    assert numbers.max() < low + 2**coding.bits
    assert np.abs(numbers * coding.slope + coding.intercept - [-1024, 0, 2000]).max() <= coding.slope / 2
