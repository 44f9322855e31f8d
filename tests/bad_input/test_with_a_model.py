"""The cases of bad input that only a model can answer: C16, F4, F5, F7, F8, F11."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.domain import ReadRules, ScanError, Volume
from pipeline.model.package import Model, load_model, save_model
from pipeline.scans.find import read_volume, survey
from tests.audit.runs import give_gate
from tests.model.tiny import lively
from tests.scans.phantoms import dicom, series, write
from tests.scoring.scenes import save_nifti, save_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    root = tmp_path_factory.mktemp("model")
    for n in range(40):
        save_nifti(root / "scans" / f"{n}.nii", n)
    rules = ReadRules(modalities=("CT",), body_parts=("CHEST",), views=("PA", "AP"))
    folder = save_tiny_model(root / "m", read=rules)
    fresh = load_model(folder)
    save_model(folder, fresh.settings, [lively(network) for network in fresh.networks])  # type: ignore[misc]
    give_gate(folder, root / "scans")
    return load_model(folder)


def test_f4_a_scan_of_another_modality_is_refused(model: Model, tmp_path: Path) -> None:
    def change(ds, k):
        ds.Modality = "MR"

    with pytest.raises(ScanError, match="modality: expected CT, found MR"):
        model.predict(series(tmp_path / "s", change))


def test_f5_a_scan_of_another_body_part_is_refused_and_one_that_names_none_is_not(model: Model, tmp_path: Path) -> None:
    def head(ds, k):
        ds.BodyPartExamined = "HEAD"

    with pytest.raises(ScanError, match="body_part: expected CHEST, found HEAD"):
        model.predict(series(tmp_path / "head", head))
    assert model.predict(series(tmp_path / "none")).probabilities


def test_f7_a_mirrored_twin_scores_differently_unless_the_model_does_not_mind(model: Model, tmp_path: Path) -> None:
    volume = read_volume(save_nifti(tmp_path / "s.nii", 3))
    twin = replace(volume, voxels=np.ascontiguousarray(volume.voxels[::-1]))
    p, other = (model.predict(v).probabilities["nodule"] for v in (volume, twin))
    assert abs(p - other) > 1e-4
    settings = model.settings.model_copy(update={"test_time_flips": ("x",)})
    indifferent = replace(model, settings=settings)
    p, other = (indifferent.predict(v).probabilities["nodule"] for v in (volume, twin))
    assert p == pytest.approx(other, abs=2e-6)


def test_f7_the_same_body_stored_the_other_way_round_scores_the_same(model: Model, tmp_path: Path) -> None:
    volume = read_volume(save_nifti(tmp_path / "s.nii", 3))
    affine = volume.affine @ np.diag([-1.0, 1, 1, 1])
    affine[:3, 3] = volume.affine[:3, 3] + volume.affine[:3, 0] * (volume.shape[0] - 1)
    from tests.scans.phantoms import nifti

    stored = nifti(tmp_path / "flipped.nii", volume.voxels[::-1].astype(np.float32), affine)
    same, other = (model.predict(v).probabilities["nodule"] for v in (volume, read_volume(stored)))
    assert same == pytest.approx(other, abs=2e-6)


@pytest.mark.parametrize(("view", "says"), [("LL", "view: expected PA or AP, found LL"), ("PA", ""), ("", "")])
def test_f8_a_lateral_film_is_refused_where_frontal_ones_are_declared(
    model: Model, tmp_path: Path, view: str, says: str
) -> None:
    ds = dicom(np.arange(64, dtype=np.uint16).reshape(8, 8), (0, 0, 0))
    ds.Modality, ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.ViewPosition = "DX", "1.2", "1.3", view
    (scan,) = survey(write(ds, tmp_path / "x.dcm")).scans
    assert scan.view == view
    rules = replace(model.read_rules, modalities=("DX",))
    if says:
        with pytest.raises(ScanError, match=says):
            read_volume(scan, rules)
    else:
        assert read_volume(scan, rules).shape == (8, 8, 1)


def test_f11_a_field_of_view_that_is_all_air_is_out_of_distribution(model: Model, tmp_path: Path) -> None:
    known = model.predict(read_volume(save_nifti(tmp_path / "s.nii", 7)))
    assert known.in_distribution
    assert "ood" not in known.warnings
    rng = np.random.default_rng(0)
    air = Volume((-1000 + np.abs(rng.normal(0, 5, (20, 18, 12)))).astype(np.float32), np.diag([2.0, 2, 3, 1]), "HU")
    prediction = model.predict(air)
    assert prediction.in_distribution is False
    assert "ood" in prediction.warnings


@pytest.mark.parametrize("padding", [-2000, 63536])
def test_c16_padding_changes_no_score(model: Model, tmp_path: Path, padding: int) -> None:
    stored = np.random.default_rng(0).integers(0, 1500, (6, 8, 10)).astype(np.int16)
    stored[:, :2, :3] = stored[0, -1, -1] = 0  # padding counts as the darkest of the others

    def padded(ds, k):
        ds.add_new(0x00280120, "SS" if padding < 0 else "US", padding)

    outside = stored.copy()
    outside[:, :2, :3] = np.int64(padding).astype(np.int16)
    plain = model.predict(series(tmp_path / "plain", stored=stored))
    filled = model.predict(series(tmp_path / "padded", padded, stored=outside))
    assert filled.probabilities["nodule"] == pytest.approx(plain.probabilities["nodule"], abs=1e-6)
