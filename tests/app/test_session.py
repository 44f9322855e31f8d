import gc
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from app import session
from app.catalog import Score
from app.memory import Memory
from pipeline.domain import Identity, Prediction, ReadRules, Reason, Scan, ScanError, Volume
from pipeline.model.package import ModelError, load_model
from pipeline.scans.find import find_scans
from tests.app.conftest import save_tiny_model


@pytest.fixture(scope="module")
def model(model_folder):
    return load_model(model_folder)


@pytest.fixture
def nifti(tmp_path) -> Path:
    voxels = np.random.default_rng(0).normal(-500, 300, (20, 18, 12)).astype(np.int16)
    nib.save(nib.Nifti1Image(voxels, np.diag([2.0, 2.0, 3.0, 1.0])), tmp_path / "DOE^JANE.nii.gz")
    return tmp_path / "DOE^JANE.nii.gz"


def opened(key="a") -> session.OpenScan:
    return session.OpenScan(key, Volume(np.zeros((2, 2, 2), np.float32), np.eye(4)), True, Identity("DOE"), None)


def test_a_changed_model_is_refused(tmp_path):
    folder = save_tiny_model(tmp_path / "model")
    (folder / "model.json").write_text((folder / "model.json").read_text() + " ")
    with pytest.raises(ModelError, match="checksum"):
        session.the_model(folder)


def test_an_open_scan_has_a_prediction_and_an_identity(model, demo_scans):
    scan = next(s for s in find_scans(demo_scans)[0] if s.kind == "dicom" and len(s.paths) > 1)
    found = session.open_scan(model, scan)
    assert found.key == scan.scan_id
    assert isinstance(found.result, Prediction)
    assert 0 <= found.result.probabilities["nodule"] <= 1
    assert found.identity.patient_name.startswith("Demo^")
    assert "Demo" not in repr(found)
    assert found.has_frame


def test_a_scan_of_another_modality_is_refused(model, demo_scans):
    scan = next(s for s in find_scans(demo_scans)[0] if s.modality == "CT")
    only_mr = replace(model, settings=model.settings.model_copy(update={"read": ReadRules(modalities=("MR",))}))
    with pytest.raises(ScanError, match="modality"):
        session.open_scan(only_mr, scan)


def test_a_scan_that_does_not_fit_is_shown_without_a_prediction(tmp_path, nifti):
    flat = load_model(save_tiny_model(tmp_path / "flat", dimensions=2))
    found = session.open_scan(flat, find_scans(nifti)[0][0])
    assert isinstance(found.result, ScanError)
    assert found.result.reason == "not_one_slice"
    assert found.volume.shape == (20, 18, 12)


def test_a_picture_has_no_patient_frame(tmp_path):
    flat = load_model(save_tiny_model(tmp_path / "flat", dimensions=2))
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 30), dtype=np.uint8)).save(tmp_path / "x.png")
    found = session.open_scan(flat, find_scans(tmp_path / "x.png")[0][0])
    assert not found.has_frame
    assert isinstance(found.result, Prediction)
    assert found.identity == Identity()


@pytest.mark.parametrize(
    ("kind", "modality", "warnings", "expected"),
    [
        ("dicom", "CT", (), True),
        ("dicom", "CT", ("no_geometry",), False),
        ("dicom", "DX", (), False),
        ("nifti", "", (), True),
        ("image", "", (), False),
    ],
)
def test_has_frame(kind, modality, warnings, expected):
    path = Path("x")
    assert session.has_frame(Scan("0" * 16, path, (path,), kind, modality=modality, warnings=warnings)) == expected


def test_heat_map_lies_on_the_scan_and_is_computed_once(model, nifti, monkeypatch):
    scan = session.open_scan(model, find_scans(nifti)[0][0])
    heat = session.heat_map(model, scan, "nodule")
    assert heat.shape == scan.volume.shape
    assert heat.dtype == np.uint8
    monkeypatch.setattr(session, "saliency", None)
    assert session.heat_map(model, scan, "nodule") is heat


def test_open_scans_are_read_once_and_the_oldest_is_dropped():
    scans, read = session.OpenScans(), []

    def opener(key):
        return lambda: read.append(key) or opened(key)

    for key in ("a", "a", "b", "a", "c", "a"):
        assert scans.get(key, opener(key)).key == key
    assert read == ["a", "b", "c"]
    scans.get("b", opener("b"))
    assert read == ["a", "b", "c", "b"]


def test_a_refused_scan_is_not_kept():
    scans = session.OpenScans()

    def refuse():
        raise ScanError(Reason.TRUNCATED, "cut off")

    for _ in range(2):
        with pytest.raises(ScanError, match="cut off"):
            scans.get("a", refuse)
    assert scans.get("a", opened).key == "a"


def known(scan: Scan, p: float) -> Score:
    return Score(Prediction(scan.scan_id, {"nodule": p}, {}, 0.5, 0.0, None, (), "m"), datetime.now(UTC))


def test_a_known_score_is_used_as_long_as_the_files_stay_as_they_were(model, nifti):
    scan = find_scans(nifti)[0][0]
    assert session.open_scan(model, scan, known(scan, 0.125)).result.probabilities == {"nodule": 0.125}
    later = datetime.now(UTC).timestamp() + 60
    os.utime(nifti, (later, later))
    assert session.open_scan(model, scan, known(scan, 0.125)).result.probabilities["nodule"] != 0.125


def tight(monkeypatch, count: float) -> Memory:
    """Memory for so many scans of the `nifti` fixture."""
    memory = Memory(int(count * 20 * 18 * 12 * 4))
    monkeypatch.setattr(session, "decoded", memory)
    return memory


def test_a_scan_that_had_to_go_is_read_again(model, nifti, monkeypatch):
    memory, files = tight(monkeypatch, 1.5), find_scans(nifti)[0][0]
    first = session.open_scan(model, files)
    before = first.volume
    second = session.open_scan(model, files)
    assert memory.used == before.voxels.nbytes, "the first scan had to go"
    assert first.about.shape == (20, 18, 12)
    assert np.array_equal(first.volume.voxels, before.voxels)
    assert np.array_equal(first.volume.affine, before.affine)
    assert np.array_equal(second.volume.voxels, before.voxels)
    assert memory.used == before.voxels.nbytes


def test_heat_maps_count_and_come_again(model, nifti, monkeypatch):
    memory, files = tight(monkeypatch, 1.25), find_scans(nifti)[0][0]
    scan = session.open_scan(model, files)
    heat = session.heat_map(model, scan, "nodule")
    assert memory.used == 1.25 * scan.volume.voxels.nbytes
    session.open_scan(model, files)
    assert np.array_equal(session.heat_map(model, scan, "nodule"), heat)
    assert memory.used <= 1.25 * heat.size * 4


def test_files_that_changed_meanwhile_are_not_shown_as_the_old_scan(model, nifti, monkeypatch):
    tight(monkeypatch, 1)
    scan = session.open_scan(model, find_scans(nifti)[0][0])
    nib.save(nib.Nifti1Image(np.zeros((20, 18, 12), np.int16) + np.arange(12, dtype=np.int16), np.eye(4)), nifti)
    assert scan.volume.shape == (20, 18, 12), "still in memory"
    scan.release()
    with pytest.raises(ScanError, match="changed after it was opened"):
        _ = scan.volume
    nifti.unlink()
    with pytest.raises(ScanError, match="io_error"):
        _ = scan.volume


def test_what_a_tab_drops_leaves_memory(monkeypatch):
    memory = Memory(10**9)
    monkeypatch.setattr(session, "decoded", memory)
    scans = session.OpenScans()
    for key in "abc":
        scans.get(key, lambda key=key: opened(key))
    assert memory.used == session.OPEN_SCANS * 8 * 4
    del scans
    gc.collect()
    assert memory.used == 0, "the tab was closed"
