"""Run folders as training leaves them, with made-up predictions, for the tests of `evaluate` and of the results."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.config import parse_config, save_config
from pipeline.evaluation.operating_point import choose
from pipeline.files import write_json, write_sums, write_table
from pipeline.sections import EvaluateSection


def predictions(n: int = 90, seed: int = 0, gain: float = 1.5, findings: tuple[str, ...] = ("nodule",)) -> pd.DataFrame:
    """One scan a patient: a third train, a third tune, a third test; the last test scan was refused."""
    rng = np.random.default_rng(seed)
    table = pd.DataFrame({"scan_id": [f"{k:016x}" for k in range(n)], "patient": [f"{k + 7:016x}" for k in range(n)]})
    table["split"] = np.repeat(["train", "tune", "test"], n // 3)
    table["fold"], table["status"] = "", "ok"
    table.loc[n - 1, "status"] = "rejected"
    labels = np.random.default_rng(99)
    for finding in findings:
        y = labels.integers(0, 2, n)
        p = 1 / (1 + np.exp(-gain * (2 * y - 1) - rng.normal(size=n)))
        table[f"y_{finding}"], table[f"p_{finding}"] = y, [f"{value:.6f}" for value in p]
        table.loc[n - 1, f"p_{finding}"] = ""
    table["study"] = [f"{k // 2 + 11:016x}" for k in range(n)]
    table["sex"] = labels.choice(["F", "M"], n)
    return table


def run_folder(folder: Path, table: pd.DataFrame | None = None, name: str = "lung", **settings: Any) -> Path:
    """A run folder: predictions.csv, config.yaml and model/ with frozen points and hashes."""
    table = predictions() if table is None else table
    findings = [c.removeprefix("p_") for c in table if c.startswith("p_")]
    evaluate = EvaluateSection(resamples=200).model_dump()
    config = parse_config({"name": name, "out": str(folder), "evaluate": evaluate} | settings, "test")
    write_table(folder / "predictions.csv", table)
    save_config(config, folder / "config.yaml")
    tune = table[table["split"] == "tune"]
    points = {}
    for finding in findings:
        point = choose(finding, tune[f"y_{finding}"].to_numpy(float), tune[f"p_{finding}"].to_numpy(float), "youden")
        if point is not None:
            points[finding] = {
                "finding": finding,
                "threshold": point.threshold,
                "target": "youden",
                "chosen_on": "tune",
            }
    model = {
        "name": name, "task": "binary" if len(findings) == 1 else "multilabel", "findings": findings,
        "software": "scanline 0.1.0", "read": {"modalities": ["CT"]}, "operating_points": points,
        "preprocess": {"size": [96, 96, 32], "spacing_mm": [2.0, 2.0, 3.0]},
        "model": {"backbone": "resnet18", "dimensions": 3, "weights": "none"}, "training": {"scans": 30},
    }  # fmt: skip
    write_json(folder / "model" / "model.json", model)
    (folder / "model" / "weights.safetensors").write_bytes(b"weights")
    write_sums(folder / "model")
    return folder
