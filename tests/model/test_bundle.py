"""The parts of a bundle that MONAI runs, without MONAI's own command."""

from pathlib import Path

import pandas as pd
import pytest
from monai.data import DataLoader, Dataset
from monai.inferers import SimpleInferer

from pipeline.domain import ReadRules
from pipeline.model.bundle import ReadScand, items, network, write_predictions
from pipeline.scoring import local
from pipeline.scoring.folder import Request, score
from tests.scoring.scenes import run_here, save_folder, save_tiny_model


def test_a_row_for_whatever_score_has_one_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "run_isolated", run_here)
    scans = save_folder(tmp_path / "in", good=2)
    model = save_tiny_model(tmp_path / "model", read=ReadRules(modalities=("CT",), description="no such series"))
    score(Request(model, scans, tmp_path / "out"))
    found = Dataset(items(str(scans), str(model)), ReadScand("image", str(model)))
    write_predictions(str(tmp_path / "p.csv"), DataLoader(found, batch_size=3), SimpleInferer(), network(str(model)))
    ours, theirs = (
        pd.read_csv(path, keep_default_na=False, dtype=str, usecols=["scan_id", "path", "reason"])
        for path in (tmp_path / "out" / "predictions.csv", tmp_path / "p.csv")
    )
    order = ["path", "scan_id", "reason"]
    pd.testing.assert_frame_equal(
        theirs.sort_values(order, ignore_index=True)[order], ours.sort_values(order, ignore_index=True)[order]
    )
    assert {"not_an_image", "too_few_slices", "description"} < set(theirs["reason"])
