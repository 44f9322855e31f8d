import json

import nibabel as nib
import numpy as np
import pytest

from pipeline.explain import main
from tests.model.tiny import marked, save_tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("tiny") / "model")


def save(path, volume) -> None:
    image = nib.Nifti1Image(volume.voxels, volume.affine)
    image.set_sform(volume.affine, 1)
    nib.save(image, path)


def test_map_and_prediction_are_written_in_the_scans_own_space(model, tmp_path, capsys) -> None:
    volume = marked((30, 28, 20), np.diag([2.0, 2, 3, 1]), (10, 20, 8), radius=3)
    save(tmp_path / "s.nii", volume)
    assert main([str(model), str(tmp_path / "s.nii"), "--out", str(tmp_path / "out")]) == 0
    (path,) = (tmp_path / "out").glob("*.nii.gz")
    found = nib.load(path)
    np.testing.assert_allclose(found.affine, volume.affine)
    assert found.shape == volume.shape
    (record,) = (tmp_path / "out").glob("*.json")
    p = json.loads(record.read_text())["probabilities"]["nodule"]
    assert f"nodule: probability {p:.3f}" in capsys.readouterr().out


def test_a_refused_scan_ends_with_three(model, tmp_path, capsys) -> None:
    save(tmp_path / "s.nii", marked((30, 28, 1), np.eye(4), (10, 20, 0)))
    assert main([str(model), str(tmp_path / "s.nii"), "--out", str(tmp_path / "out")]) == 3
    assert "too_few_slices" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_two_scans_are_one_too_many(model, tmp_path, capsys) -> None:
    for name in "ab":
        save(tmp_path / f"{name}.nii", marked((9, 9, 9), np.eye(4), (4, 4, 4)))
    assert main([str(model), str(tmp_path), "--out", str(tmp_path.parent / "out")]) == 2
    assert "exactly one scan, found 2" in capsys.readouterr().err


def test_a_file_that_is_refused_at_its_header_ends_with_three(model, tmp_path, capsys) -> None:
    (tmp_path / "s.dcm").write_text("no DICOM")
    assert main([str(model), str(tmp_path / "s.dcm"), "--out", str(tmp_path / "out")]) == 3
    assert "the scan was refused, not_an_image" in capsys.readouterr().out


def test_nothing_is_written_among_the_scans(model, tmp_path, capsys) -> None:
    save(tmp_path / "s.nii", marked((9, 9, 9), np.eye(4), (4, 4, 4)))
    assert main([str(model), str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "lies in SCAN" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["s.nii"]


def test_without_arguments_it_says_what_it_needs(capsys) -> None:
    assert main([]) == 2
    assert "python -m pipeline.explain runs/demo/run/model" in capsys.readouterr().err
