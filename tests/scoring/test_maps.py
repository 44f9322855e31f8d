from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.explanation import gradcam
from pipeline.model.package import load_model
from pipeline.scans.find import read_volume
from pipeline.scoring import local
from pipeline.scoring.folder import Request, score
from pipeline.scoring.maps import map_name
from tests.scoring.scenes import run_here, save_nifti, save_tiny_model


def test_a_map_a_scan_and_finding_in_the_scans_own_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.explanation.gradcam import saliency

    monkeypatch.setattr(local, "run_isolated", run_here)
    model = save_tiny_model(tmp_path / "model", findings=("nodule", "a/b c"))
    save_nifti(tmp_path / "in" / "0.nii", 0)
    save_nifti(tmp_path / "in" / "1.nii", 1)
    score(Request(model, tmp_path / "in", tmp_path / "out", kinds=("saliency",)))
    rows = pd.read_csv(tmp_path / "out" / "predictions.csv", dtype=str)
    written = sorted(file.name for file in (tmp_path / "out" / "saliency").iterdir())
    assert written == sorted(f"{i}_{f}.nii.gz" for i in rows["scan_id"] for f in ("nodule", "a%2Fb c"))
    volume = read_volume(tmp_path / "in" / "1.nii")
    stored = nib.load(tmp_path / "out" / "saliency" / map_name(rows["scan_id"][1], "a/b c"))
    np.testing.assert_allclose(stored.affine, volume.affine)
    expected = saliency(load_model(model), volume, "a/b c")
    np.testing.assert_allclose(stored.get_fdata(), expected, atol=1e-6)
    assert stored.header.get_xyzt_units()[0] == "mm"


def test_a_map_that_needs_more_memory_than_there_is_costs_the_map_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(local, "run_isolated", run_here)
    monkeypatch.setattr(gradcam, "_maps", fail)
    model = save_tiny_model(tmp_path / "model")
    save_nifti(tmp_path / "in" / "0.nii", 0)
    summary = score(Request(model, tmp_path / "in", tmp_path / "out", kinds=("saliency", "dicom")))
    (row,) = pd.read_csv(tmp_path / "out" / "predictions.csv").to_dict("records")
    assert row["status"] == "ok"
    assert "no_saliency" in row["warnings"].split(";")
    assert not list((tmp_path / "out" / "saliency").glob("*"))
    assert score(Request(model, tmp_path / "in", tmp_path / "out", kinds=("saliency", "dicom"))).read_now == 0
    assert summary.read_now == 1


@pytest.mark.parametrize(
    ("finding", "name"), [("nodule", "nodule"), ("grade=3 of 4", "grade=3 of 4"), ("../x", "..%2Fx")]
)
def test_names_of_maps_stay_in_their_folder(finding: str, name: str) -> None:
    assert map_name("0" * 16, finding) == f"{'0' * 16}_{name}.nii.gz"
