import errno
import json
import tempfile
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from pipeline import load_model
from pipeline.domain import Volume
from pipeline.explain import main
from pipeline.explanation.similar import write_index
from pipeline.model.preprocess import preprocess
from tests.explanation.bright import lesion_scan, save_bright
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


def test_it_says_how_the_map_was_made_and_what_it_is_worth(model, tmp_path, capsys) -> None:
    save(tmp_path / "s.nii", marked((30, 28, 20), np.diag([2.0, 2, 3, 1]), (10, 20, 8), radius=3))
    words = [str(model), str(tmp_path / "s.nii"), "--out", str(tmp_path / "out"), "--method", "gradcampp"]
    assert main([*words, "--layer", "layer3"]) == 0
    said = capsys.readouterr().out
    assert "map: gradcampp layer3, 2 x 3 x 3 cells" in said
    assert "can be trusted was not measured" in said
    (record,) = (tmp_path / "out").glob("*.json")
    assert json.loads(record.read_text())["map"] == {"method": "gradcampp", "layer": "layer3", "trusted": None}
    assert main([*words, "--layer", "layer9"]) == 2
    assert "no feature map called 'layer9'; it has act (8 x 12 x 12)" in capsys.readouterr().err


def test_maps_are_checked_once_and_the_verdict_stands_beside_each(tmp_path, capsys) -> None:
    model = save_bright(tmp_path / "run" / "model")
    for folder in ("scans", "masks"):
        (tmp_path / folder).mkdir()
    for seed in range(2):
        voxels, mask, affine = lesion_scan(seed)
        save(tmp_path / "scans" / f"{seed}.nii", Volume(voxels, affine, "HU"))
        nib.save(nib.Nifti1Image(mask.astype(np.uint8), affine), tmp_path / "masks" / f"{seed}.nii.gz")
    words = ["--check", str(tmp_path / "scans"), "--masks", str(tmp_path / "masks"), "--method", "gradcam"]
    assert main([str(model), *words]) == 0
    said = capsys.readouterr().out
    assert "not to be trusted: they hardly change when the weights are shuffled" in said
    assert "shuffled down to stem" in said
    kept = json.loads((model / "explanation.json").read_text())
    assert (kept["hits"], kept["n_masks"], kept["trusted"]) == (2, 2, False)

    assert main([str(model), str(tmp_path / "scans" / "0.nii"), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "map: gradcam" in said
    assert kept["sentence"] in said
    (written,) = (tmp_path / "out").glob("*.nii.gz")
    assert b"NOT TRUSTED" in bytes(nib.load(written).header["descrip"])


def test_similar_scans_are_named_with_their_labels(model, tmp_path, capsys) -> None:
    volume = marked((30, 28, 20), np.diag([2.0, 2, 3, 1]), (10, 20, 8), radius=3)
    save(tmp_path / "s.nii", volume)
    loaded = load_model(model, "cpu")
    features = loaded.outputs(preprocess(volume, loaded.preprocess).array[None])[1]
    table = pd.DataFrame({"scan_id": ["0a1b"], "split": ["train"], "status": ["ok"]})
    y = np.ones((1, 1), dtype=np.float32)
    write_index(model.parent, SimpleNamespace(table=table, features=features, y=y, usable=np.array([True])))
    words = [str(model), str(tmp_path / "s.nii"), "--out", str(tmp_path / "out"), "--run", str(model.parent)]
    assert main(words) == 0
    assert "similar: 0a1b at 0.00: nodule 1" in capsys.readouterr().out
    (record,) = (tmp_path / "out").glob("*.json")
    assert json.loads(record.read_text())["similar"][0]["labels"] == {"nodule": 1}


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["s.nii"], "expected SCAN and --out, or --check SCANS"),
        (["--out", "out"], "expected SCAN and --out, or --check SCANS"),
        (["s.nii", "--out", "out", "--masks", "m"], "expected SCAN and --out, or --check SCANS"),
        (["s.nii", "--check", "scans"], "--check SCANS goes with --masks, --method and --layer alone"),
    ],
)
def test_words_that_do_not_go_together(model, words, problem, capsys) -> None:
    assert main([str(model), *words]) == 2
    assert problem in capsys.readouterr().err


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


def test_a_check_whose_verdict_can_not_be_kept_is_told_in_words(tmp_path, capsys, monkeypatch) -> None:
    model = save_tiny(tmp_path / "model")
    save(tmp_path / "s.nii", marked((30, 28, 20), np.diag([2.0, 2, 3, 1]), (10, 20, 8), radius=3))

    def refuse(*_, **__) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    assert main([str(model), "--check", str(tmp_path / "s.nii")]) == 2
    said = capsys.readouterr().err
    assert (
        f"{model}: explanation.json can't be written there (Read-only file system); choose a place that you may write"
        in said
    )
