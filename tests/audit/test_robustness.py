import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from pipeline.audit.disturbances import DISTURBANCES, span
from pipeline.domain import Volume
from pipeline.evaluate import main
from pipeline.files import write_sums
from tests.audit.runs import run_with_scans

STEPS = np.array([2.0, 2.0, 2.0])
AFFINE = np.diag([0.5, 0.5, 3.0, 1.0])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = run_with_scans(tmp_path_factory.mktemp("robust"))
    assert main([str(root), "--robustness", "--figures"]) == 0
    return root


def changed(name: str, volume: Volume, strength: float) -> Volume:
    return DISTURBANCES[name].change(volume, strength, STEPS, np.random.default_rng(0))


def clouds(shape: tuple[int, ...] = (24, 20, 10)) -> Volume:
    voxels = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    return Volume(voxels, AFFINE)


def ramp(axis: int) -> Volume:
    places = np.indices((24, 20, 10))[axis]
    return Volume(places.astype(np.float32), AFFINE)


@pytest.mark.parametrize("name", DISTURBANCES)
@pytest.mark.parametrize("shape", [(24, 20, 10), (24, 20, 1), (24, 1, 20), (24, 20, 10, 3), (24, 20, 1, 3)])
def test_each_is_stronger_the_stronger_and_leaves_the_scan_alone(name: str, shape: tuple[int, ...]) -> None:
    one = DISTURBANCES[name]
    if one.volumes_only and shape[2] < 3:
        pytest.skip("needs slices")
    volume = clouds(shape)
    before = volume.voxels.copy()
    if name == "resampling":
        sizes = [changed(name, volume, strength).voxels.size for strength in one.strengths]
        assert before.size > sizes[0] > sizes[1] > sizes[2]
    else:
        each = [changed(name, volume, strength).voxels for strength in one.strengths]
        assert {a.shape for a in each} == {before.shape}
        assert {a.dtype for a in each} == {np.dtype(np.float32)}
        if name != "rotation":  # of noise, any turn leaves nothing in common
            costs = [float(np.abs(a - before).mean()) for a in each]
            assert 0 < costs[0] < costs[1] < costs[2]
    np.testing.assert_array_equal(volume.voxels, before)


def test_noise_and_contrast_are_as_strong_as_they_say() -> None:
    volume = clouds((40, 40, 40))
    low, high = span(volume)
    added = changed("noise", volume, 10).voxels - volume.voxels
    assert added.std() == pytest.approx(0.1 * (high - low), rel=0.02)
    paler = changed("contrast", volume, 40).voxels
    assert paler.std() == pytest.approx(0.6 * volume.voxels.std(), rel=1e-3)
    assert paler.mean() - volume.voxels.mean() == pytest.approx(0.2 * (high - low), rel=0.05)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_coarser_grid_stays_in_its_place(axis: int) -> None:
    volume = ramp(axis)
    coarse = changed("resampling", volume, 1.5)
    assert coarse.shape == (8, 7, 3)
    centre = np.array([*(n // 2 for n in coarse.shape), 1.0])
    where = np.linalg.inv(volume.affine) @ coarse.affine @ centre
    assert coarse.voxels[tuple(centre[:3].astype(int))] == pytest.approx(where[axis], abs=0.51)  # block means


def test_lost_slices_lie_between_their_neighbours() -> None:
    volume = ramp(2)
    filled = changed("missing slices", volume, 50)
    np.testing.assert_allclose(filled.voxels, volume.voxels, atol=1e-5)
    few = clouds((6, 6, 10))
    kept = (changed("missing slices", few, 25).voxels == few.voxels).all(axis=(0, 1))
    assert kept[[0, -1]].all()
    assert kept.sum() == 8


def test_the_test_scans_are_predicted_again_under_each(run: Path) -> None:
    found = json.loads((run / "robustness.json").read_text())
    assert (found["split"], found["n_scans"]) == ("test", 8)
    kinds = found["findings"]["nodule"]
    assert list(kinds) == ["as it is", *DISTURBANCES]
    ours = json.loads((run / "evaluation.json").read_text())["test"]["findings"]["nodule"]["auroc"]
    assert kinds["as it is"]["auroc"]["value"] == ours["value"]
    for name, one in DISTURBANCES.items():
        assert [entry["strength"] for entry in kinds[name]] == [one.shown(s) for s in one.strengths]
        for entry in kinds[name]:
            assert 0 <= entry["flips"]["value"] <= 1
            assert entry["auroc"]["n"] == 8
    assert any(entry["mean_change"] != 0 for rows in list(kinds.values())[1:] for entry in rows)


def test_the_report_shows_it_until_the_model_is_another(run: Path, tmp_path: Path) -> None:
    assert len(list((run / "figures").glob("*_robustness.*"))) == 3
    other = tmp_path / "run"
    shutil.copytree(run, other)
    assert main([str(other)]) == 0
    assert "Of all disturbances" in (other / "report.html").read_text()
    settings = json.loads((other / "model" / "model.json").read_text())
    (other / "model" / "model.json").write_text(json.dumps(settings | {"intended_use": "another"}))
    write_sums(other / "model")
    assert main([str(other)]) == 0
    assert "Of all disturbances" not in (other / "report.html").read_text()


def edit(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (
            lambda run: [p.unlink() for p in (run.parent / "scans").glob("1*.nii")],
            "no longer under the cohort's scans folder: ",
        ),
        (lambda run: edit(run / "predictions.csv", "test", "tune"), "no scored scan is in the split test"),
        (lambda run: edit(run / "config.yaml", "folder:", "folder: #"), "does not say which COHORT it was trained on"),
    ],
)
def test_what_is_not_there_is_said(spoil, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_with_scans(tmp_path)
    spoil(run)
    assert main([str(run), "--robustness"]) == 2
    assert says in " ".join(capsys.readouterr().err.split())
    assert not (run / "robustness.json").exists()
