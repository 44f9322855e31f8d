"""A run whose scans are there: a prepared cohort of small volumes, an untrained model, its predictions."""

from pathlib import Path

import numpy as np
import pandas as pd

from pipeline import prepare
from pipeline.config import parse_config, save_config
from pipeline.domain import ReadRules
from pipeline.files import read_table, write_table
from pipeline.model.gate import Gate, look_of, with_look
from pipeline.model.package import load_model, save_model
from pipeline.model.preprocess import preprocess
from pipeline.scans.find import read_volume, survey
from pipeline.sections import EvaluateSection
from tests.scoring.scenes import save_nifti, save_tiny_model

SPLITS = ["train", "train", "tune", "tune", *["test"] * 8]


def run_with_scans(root: Path) -> Path:
    """RUN beside scans/ and cohort/; its eight test scans are half positive, and the model knows nothing."""
    lines = ["path,nodule,split"]
    for n, split in enumerate(SPLITS):
        save_nifti(root / "scans" / f"{n}.nii", n)
        lines.append(f"{n}.nii,{n % 2},{split}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    words = ["--labels", str(root / "labels.csv"), "--label", "nodule", "--workers", "0", "--cohort.folds", "0"]
    assert prepare.main([str(root / "scans"), "--out", str(root / "cohort"), *words]) == 0
    model = load_model(save_tiny_model(root / "run" / "model", read=ReadRules()))
    known = {scan.scan_id: scan for scan in survey(root / "scans").scans}
    rows = [{"scan_id": row.scan_id, "patient": row.scan_id, "split": row.split, "fold": "", "status": "ok",
             "y_nodule": row.nodule, "p_nodule": model.predict(known[row.scan_id]).probabilities["nodule"]}
            for row in read_table(root / "cohort" / "scans.csv").itertuples()]  # fmt: skip
    write_table(root / "run" / "predictions.csv", pd.DataFrame(rows), float_format="%.6f")
    evaluate = EvaluateSection(resamples=50).model_dump()
    settings = {"name": "tiny", "out": str(root / "run"), "evaluate": evaluate}
    save_config(
        parse_config({**settings, "cohort": {"folder": str(root / "cohort")}}, "test"), root / "run" / "config.yaml"
    )
    return root / "run"


def give_gate(folder: Path, scans: Path) -> None:
    """Give a model folder a gate around the first half of the scans, with its limit from the other half."""
    model = load_model(folder)
    arrays = np.stack([
        preprocess(read_volume(scan, model.read_rules), model.preprocess, model.channels).array
        for scan in survey(scans).scans
    ])  # fmt: skip
    features = with_look(model.outputs(arrays)[1][0], look_of(arrays))
    gate = Gate.fitted(features[::2], features[1::2])
    assert gate is not None
    save_model(folder, model.settings, model.networks, [gate])
