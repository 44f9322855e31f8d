import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from pipeline import export
from pipeline.console import DONE, WRONG_USE
from pipeline.model import exporting
from pipeline.model.package import load_model
from pipeline.sections import PreprocessSection
from tests.model.tiny import save_tiny

SIZE = (16, 16, 16)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_tiny(tmp_path / "model", preprocess=PreprocessSection(size=SIZE))


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Three volumes of noise, and a single slice, which this model refuses."""
    folder = tmp_path / "scans"
    folder.mkdir()
    random = np.random.default_rng(0)
    for name, shape in (("a", (20, 18, 16)), ("b", (12, 18, 30)), ("c", (16, 16, 16)), ("flat", (16, 16, 1))):
        voxels = random.normal(0, 100, shape).astype(np.float32)
        nib.save(nib.Nifti1Image(voxels, np.diag([1.5, 1.5, 2, 1])), folder / f"{name}.nii.gz")
    return folder


def run(*arguments: object) -> int:
    return export.main([str(word) for word in arguments])


def assert_done(command: list[str], folder: Path) -> None:
    """Run a command in a folder where this software can be imported."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_onnx_with_what_a_user_of_it_must_know(model, scans, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    assert run(model, "--format", "onnx", "--out", out, "--scans", scans) == DONE
    assert "compared with torch on 3 scans: largest difference" in capsys.readouterr().out
    facts = json.loads((out / "export.json").read_text())
    assert facts["model"] == load_model(model).model_id
    assert facts["input"]["shape"] == [None, 1, 16, 16, 16]
    assert facts["outputs"]["probabilities"]["findings"] == ["nodule"]
    assert facts["positive_at_or_above"] == {"nodule": 0.5}
    assert facts["compared_with_torch"]["of"] == "real scans"
    assert facts["compared_with_torch"]["largest_difference"] < 1e-5
    assert "float32 [batch, 1, 16, 16, 16]" in (out / "README.md").read_text()
    sums = dict(reversed(line.split("  ")) for line in (out / "SHA256SUMS").read_text().splitlines())
    assert sums["model.onnx"] == hashlib.sha256((out / "model.onnx").read_bytes()).hexdigest()


def test_the_readme_runs_as_it_is_written(model, tmp_path) -> None:
    out = tmp_path / "out"
    assert run(model, "--format", "openvino", "--out", out) == DONE
    code = (out / "README.md").read_text().split("```python\n")[1].split("```")[0]
    start = "import numpy as np\ninputs = np.zeros((2, 1, 16, 16, 16), np.float32)\n"
    end = "assert probabilities.shape == (2, 1) and (probabilities > 0).all()\n"
    assert_done([sys.executable, "-c", start + code + end], out)


@pytest.mark.slow
def test_monai_runs_the_bundle_and_agrees(model, scans, tmp_path) -> None:
    out, table = tmp_path / "out", tmp_path / "predictions.csv"
    assert run(model, "--format", "monai-bundle", "--out", out, "--scans", scans) == DONE
    words = [sys.executable, "-m", "monai.bundle"]
    asked = [
        "run",
        "--bundle_root",
        ".",
        "--config_file",
        "configs/inference.json",
        "--scans",
        scans,
        "--output",
        table,
    ]
    verify = ["verify_net_in_out", "network_def", "--meta_file", "configs/metadata.json"]
    for command in (asked, [*verify, "--config_file", "configs/inference.json"]):
        assert_done([*words, *map(str, command)], out)
    rows = pd.read_csv(table).set_index("path")
    loaded = load_model(model)
    for name in "abc":
        expected = loaded.predict(scans / f"{name}.nii.gz").probabilities["nodule"]
        assert rows.p_nodule[f"{name}.nii.gz"] == pytest.approx(expected, abs=2e-6)
    assert rows.reason["flat.nii.gz"] == "too_few_slices"
    assert np.isnan(rows.p_nodule["flat.nii.gz"])


def test_nothing_to_compare_on(model, tmp_path, scans, capsys) -> None:
    for one in "abc":
        (scans / f"{one}.nii.gz").unlink()
    assert run(model, "--format", "onnx", "--out", tmp_path / "out", "--scans", scans) == WRONG_USE
    assert "no scan to compare on; all were refused: too_few_slices" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("format_", ["onnx", "monai-bundle"])
def test_an_export_that_differs_leaves_nothing(model, tmp_path, capsys, monkeypatch, format_) -> None:
    monkeypatch.setattr(exporting, "disagreement", lambda *_: 0.02)
    assert run(model, "--format", format_, "--out", tmp_path / "out") == WRONG_USE
    said = f"{format_}: its probabilities differ from torch's by 0.02, where 0.0001 is allowed; nothing was written"
    assert said in capsys.readouterr().err
    assert [one.name for one in tmp_path.iterdir()] == ["model"]


def test_an_export_replaces_an_earlier_one_only_where_it_agrees(model, tmp_path, capsys, monkeypatch) -> None:
    words = (model, "--format", "monai-bundle", "--out", tmp_path / "out")
    assert run(*words) == DONE
    config = tmp_path / "out" / "configs" / "inference.json"
    config.write_text("earlier")
    before = files_in(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(exporting, "disagreement", lambda *_: float("nan"))
        assert run(*words) == WRONG_USE
    assert "differ from torch's by nan" in capsys.readouterr().err
    assert files_in(tmp_path) == before
    assert run(*words) == DONE
    assert config.read_text() != "earlier"
    assert files_in(tmp_path).keys() == before.keys()


def files_in(folder: Path) -> dict[str, bytes]:
    return {one.relative_to(folder).as_posix(): one.read_bytes() for one in folder.rglob("*") if one.is_file()}


def test_nothing_is_written_into_what_is_read(model, capsys) -> None:
    assert run(model, "--format", "onnx", "--out", model / "onnx") == WRONG_USE
    assert "lies in MODEL" in capsys.readouterr().err


def test_no_arguments_show_how_to_begin(capsys) -> None:
    assert export.main([]) == WRONG_USE
    assert "--format onnx --out runs/demo/onnx" in capsys.readouterr().err


def test_a_folder_that_holds_other_things_is_left_alone(model, tmp_path, capsys) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "README.md").write_text("mine")
    assert run(model, "--format", "onnx", "--out", mine) == 2
    assert "holds README.md, which is no export; choose a new or an empty folder" in capsys.readouterr().err
    assert [one.name for one in mine.iterdir()] == ["README.md"]
    assert (mine / "README.md").read_text() == "mine"
    assert run(model, "--format", "onnx", "--out", mine / "README.md") == 2
    assert "can't be made or written to (Not a directory)" in capsys.readouterr().err
    assert run(model, "--format", "onnx", "--out", mine / "README.md" / "below" / "onnx") == 2
    assert "can't be made or written to (Not a directory); choose a place" in capsys.readouterr().err


def test_an_export_may_be_repeated_also_where_one_broke_off(model, tmp_path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "model.onnx").write_bytes(b"half")
    for _ in range(2):
        assert run(model, "--format", "onnx", "--out", out) == 0
