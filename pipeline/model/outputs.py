"""What follows the fit: held-out logits, calibration, operating points and the table of predictions."""

from collections.abc import Sequence
from typing import cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from pipeline.cohort.manifest import Cohort, pseudonyms, subgroup_columns
from pipeline.domain import OperatingPoint
from pipeline.evaluation.calibration import Calibration, Method, Task, fit_calibration, uncalibrated
from pipeline.evaluation.operating_point import choose
from pipeline.model.backbone import Classifier
from pipeline.model.dataset import Inputs
from pipeline.model.package import logits_of
from pipeline.model.plan import Job

Logits = NDArray[np.float32]


def all_logits(networks: Sequence[Classifier], inputs: Inputs, device: torch.device) -> Logits:
    """Raw outputs [member, row, finding] of every row; rows of refused scans mean nothing."""
    return np.stack([logits_of(network.to(device), inputs.arrays, device) for network in networks])


def held_out(jobs: Sequence[Job], logits: Logits) -> tuple[NDArray[np.intp], Logits]:
    """The rows that no network learned from before their logits were taken (tune split or folds), and those logits."""
    rows = np.concatenate([job.watch for job in jobs])
    return rows, np.concatenate([logits[member, job.watch] for member, job in enumerate(jobs)])


def calibrate(
    jobs: Sequence[Job], logits: Logits, y: NDArray[np.float32], task: str, method: Method = "temperature"
) -> Calibration:
    """The calibration fitted on held-out rows; none where there are no such rows."""
    rows, own = held_out(jobs, logits)
    if not len(rows):
        return uncalibrated(cast(Task, task), y.shape[1])
    return fit_calibration(method, own.astype(np.float64), y[rows].astype(np.float64), cast(Task, task))


def fix_points(
    jobs: Sequence[Job], logits: Logits, y: NDArray[np.float32], calibration: Calibration, findings: Sequence[str],
    target: str,
) -> dict[str, OperatingPoint]:  # fmt: skip
    """One threshold a finding, chosen on held-out rows; findings without both classes there get none."""
    rows, own = held_out(jobs, logits)
    if not len(rows):
        return {}
    p = calibration.apply(own.astype(np.float64)).round(6)
    chosen_on = "tune" if jobs[0].select else "oof"
    points = [choose(f, y[rows, k].astype(np.float64), p[:, k], target, chosen_on) for k, f in enumerate(findings)]
    return {point.finding: point for point in points if point is not None}


def predictions_table(
    cohort: Cohort,
    inputs: Inputs,
    jobs: Sequence[Job],
    logits: Logits,
    calibration: Calibration,
    y: NDArray[np.float32],
) -> pd.DataFrame:
    """RUN/predictions.csv: a row a scan; out-of-fold rows carry split "oof" and their own fold's probabilities."""
    members = np.stack([calibration.apply(member.astype(np.float64)) for member in logits])
    p = members.mean(axis=0)
    split = cohort.table["split"].fillna("").astype(str).to_numpy(dtype=object)
    if not jobs[0].select:
        for member, job in enumerate(jobs):
            p[job.watch] = members[member, job.watch]
            split[job.watch] = "oof"
    refused = sorted(inputs.refused)
    p[refused] = np.nan
    own = pd.DataFrame({
        "scan_id": cohort.table["scan_id"],
        "patient": pseudonyms(cohort),
        "split": split,
        "fold": cohort.table.get("fold", ""),
        "status": ["rejected" if row in inputs.refused else "ok" for row in range(len(y))],
        "reason": [inputs.refused.get(row, ("", ""))[0] for row in range(len(y))],
        "detail": [inputs.refused.get(row, ("", ""))[1] for row in range(len(y))],
    })  # fmt: skip
    labels = pd.DataFrame(y, columns=[f"y_{f}" for f in cohort.findings]).astype("Int64")
    probabilities = pd.DataFrame(p, columns=[f"p_{f}" for f in cohort.findings])
    subgroups = cohort.table[subgroup_columns(cohort)].reset_index(drop=True)
    return pd.concat([own.reset_index(drop=True), labels, probabilities, subgroups], axis=1)
