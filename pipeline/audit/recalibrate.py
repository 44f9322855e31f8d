"""A copy of a model folder whose probabilities and thresholds fit other scans; the weights stay as they are."""

import os
import shutil
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.audit.local_check import LOCAL
from pipeline.console import progress
from pipeline.domain import ReadRules, Scan, ScanError, UsageError
from pipeline.evaluation.calibration import Calibration, Method, fit_calibration
from pipeline.evaluation.operating_point import choose
from pipeline.files import make_folder, write_json, write_sums, write_text
from pipeline.model.inference import BATCH
from pipeline.model.package import Model, load_model
from pipeline.model.preprocess import read_input
from pipeline.model.settings import Settings
from pipeline.scans.find import survey

FEWEST = 10
"""Patients with, and patients without, each finding; fewer make no calibration."""
BEFORE = "evaluation_before_recalibration.json"
"""What evaluation.json becomes: its probabilities and decisions are no longer those of the model."""
NOTE = """
> **Recalibrated** on {n} scans of {patients} patients, on {day}: calibration and thresholds are new, the weights
> are those of {model}. Everything below was measured **before** that; evaluate this model on other scans before use.
"""


def recalibrate(folder: Path, scans: Path, table: pd.DataFrame, out: Path) -> Path:
    """Write a recalibrated copy of a model folder to `out`.

    Args:
        folder: The model folder.
        scans: The folder that `table` was scored on.
        table: Checked predictions with labels: which scans count, their labels and patients.
        out: A folder that does not exist yet.

    Raises:
        UsageError: If `out` exists, or a finding has too few patients with or without it.
    """
    model = load_model(folder)
    rows = table[table["status"] == "ok"].reset_index(drop=True)
    y = rows[[f"y_{finding}" for finding in model.findings]].to_numpy(float)
    known = ~np.isnan(y).all(axis=1)
    rows, y = rows[known].reset_index(drop=True), y[known]
    if out.exists():
        raise UsageError(f"--recalibrate {out}: exists already; give a folder that does not")
    check_enough(model.findings, rows)
    logits = member_logits(model, _in_order(rows["scan_id"], scans, model.read_rules))
    settings = refitted(model, logits, y, rows["patient"].nunique())
    _write_copy(folder, out, settings, model)
    return out


def check_enough(findings: Sequence[str], table: pd.DataFrame) -> None:
    """Refuse labels that make no calibration; before scoring, too, which can only take scans away.

    Args:
        findings: Of the model.
        table: Checked, with y_<finding> and patient.

    Raises:
        UsageError: Naming each finding that too few patients have or lack.
    """
    problems = []
    for finding in findings:
        counts = [table["patient"][table[f"y_{finding}"] == label].nunique() for label in (1, 0)]
        if min(counts) < FEWEST:
            problems.append(
                f"--recalibrate: {finding}: expected at least {FEWEST} patients with and {FEWEST} without it, "
                f"found {counts[0]} and {counts[1]}"
            )
    if problems:
        raise UsageError("\n".join(problems))


def _in_order(ids: Sequence[str], root: Path, rules: ReadRules) -> list[Scan]:
    known = {scan.scan_id: scan for scan in survey(root, rules=rules).scans}
    return [known[scan_id] for scan_id in ids]


def member_logits(model: Model, scans: Sequence[Scan]) -> NDArray[np.float64]:
    """Raw outputs [member, scan, finding] of scans that were scored a moment ago.

    Raises:
        UsageError: If one of them can no longer be read.
    """
    parts = []
    with progress("Recalibrating") as report:
        for start in range(0, len(scans), BATCH):
            try:
                arrays = [read_input(scan, model.read_rules, model.preprocess, model.channels).array
                          for scan in scans[start : start + BATCH]]  # fmt: skip
            except ScanError as error:
                raise UsageError(f"--recalibrate: a scan that was scored can't be read again ({error})") from None
            parts.append(model.outputs(np.stack(arrays))[0])
            report(min(start + BATCH, len(scans)), len(scans))
    return np.concatenate(parts, axis=1).astype(np.float64)


def refitted(model: Model, logits: NDArray[np.float64], y: NDArray[np.float64], patients: int) -> Settings:
    """The model's settings with a calibration and operating points from these outputs.

    Members that had a calibration each get one each. Targets of the operating points stay.
    """
    old = model.settings
    method: Method = "temperature" if old.calibration.method == "none" else old.calibration.method
    if old.member_calibrations:
        each = tuple(fit_calibration(method, member, y, old.task) for member in logits)
    else:
        together = logits.reshape(-1, logits.shape[-1])
        each = (fit_calibration(method, together, np.tile(y, (len(logits), 1)), old.task),) * len(logits)
    p = np.mean([c.apply(member) for c, member in zip(each, logits, strict=True)], axis=0).round(6)
    points = {
        finding: chosen for k, finding in enumerate(old.findings) if finding in old.operating_points
        and (chosen := choose(finding, y[:, k], p[:, k], old.operating_points[finding].target, LOCAL))
    }  # fmt: skip
    changes: dict[str, Any] = {
        "calibration": each[0], "member_calibrations": _own(old.member_calibrations, each), "operating_points": points,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "training": old.training | {
            "recalibrated_from": model.model_id, "recalibrated_on_scans": len(y), "recalibrated_on_patients": patients,
        },
    }  # fmt: skip
    return old.model_copy(update=changes)


def _own(before: Sequence[Calibration], each: Sequence[Calibration]) -> tuple[Calibration, ...]:
    return tuple(each) if before else ()


def _write_copy(folder: Path, out: Path, settings: Settings, model: Model) -> None:
    """The copy, made beside and moved into place whole."""
    make_folder(out.parent, "--recalibrate")
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as temporary:
        copy = Path(temporary) / out.name
        shutil.copytree(folder, copy, copy_function=shutil.copyfile)
        write_json(copy / "model.json", settings.model_dump(mode="json"))
        if (copy / "evaluation.json").is_file():
            (copy / "evaluation.json").replace(copy / BEFORE)
        card, facts = copy / "MODEL_CARD.md", settings.training
        if card.is_file():
            note = NOTE.format(n=facts["recalibrated_on_scans"], patients=facts["recalibrated_on_patients"],
                               day=settings.created[:10], model=model.model_id)  # fmt: skip
            head, title, rest = card.read_text(encoding="utf-8").partition(f"\n# {settings.name}\n")
            write_text(card, head + title + note + rest if title else note + head)
        write_sums(copy)
        os.rename(copy, out)  # noqa: PTH104 - refuses a folder that came up meanwhile and is not empty
