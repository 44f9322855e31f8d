"""What follows the fit: held-out logits, calibration, operating points and the table of predictions."""

from collections.abc import Sequence
from typing import cast

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from pipeline.cohort.manifest import Cohort, image_pseudonyms, pseudonyms, study_pseudonyms, subgroup_columns
from pipeline.domain import OperatingPoint
from pipeline.evaluation.calibration import Calibration, Method, Task, fit_calibration, uncalibrated
from pipeline.evaluation.operating_point import choose
from pipeline.model.backbone import Classifier
from pipeline.model.dataset import Inputs, Refusal
from pipeline.model.gate import Gate, look_of, with_look
from pipeline.model.inference import outputs_of
from pipeline.model.learner import mean_auroc
from pipeline.model.plan import Job, judges

Logits = NDArray[np.float32]


def all_outputs(
    networks: Sequence[Classifier], inputs: Inputs, device: torch.device, flips: Sequence[str]
) -> tuple[Logits, list[NDArray[np.float32]]]:
    """Raw outputs [member, row, finding] and each member's features [row, feature]; refused scans mean nothing."""
    each = [outputs_of(network.to(device), inputs.arrays, device, flips) for network in networks]
    return np.stack([logits for logits, _ in each]), [features for _, features in each]


def fit_gates(jobs: Sequence[Job], features: Sequence[NDArray[np.float32]], inputs: Inputs) -> list[Gate]:
    """One gate a member, around what it learned from, its limit from what was held out; none where these are few."""
    gates, look = [], look_of(inputs.arrays)
    for job, own in zip(jobs, features, strict=True):
        seen = with_look(own, look)
        gate = Gate.fitted(seen[job.learn], seen[job.watch])
        if gate is None:
            return []
        gates.append(gate)
    return gates


def calibrate(
    jobs: Sequence[Job], logits: Logits, y: NDArray[np.float32], task: str, method: Method = "temperature"
) -> list[Calibration]:
    """One calibration a member, fitted on rows that it did not learn from; none where there are no such rows.

    The networks of folds end at logits of different heights: each is fitted on its own fold. Networks that share the
    tune split share one calibration.
    """
    if jobs[0].select:
        shared = np.concatenate([logits[member, job.watch] for member, job in enumerate(jobs)])
        labels = np.concatenate([y[job.watch] for job in jobs])
        return [_calibration(shared, labels, task, method)] * len(jobs)
    return [_calibration(logits[member, job.watch], y[job.watch], task, method) for member, job in enumerate(jobs)]


def _calibration(logits: Logits, y: NDArray[np.float32], task: str, method: Method) -> Calibration:
    if not len(y):
        return uncalibrated(cast(Task, task), y.shape[1])
    return fit_calibration(method, logits.astype(np.float64), y.astype(np.float64), cast(Task, task))


def fair_probabilities(jobs: Sequence[Job], logits: Logits, calibrations: Sequence[Calibration]) -> NDArray[np.float64]:
    """Calibrated probabilities [row, finding]: the mean of the members, of held-out rows that of their own ones."""
    members = np.stack([c.apply(own.astype(np.float64)) for c, own in zip(calibrations, logits, strict=True)])
    fair = judges(jobs, logits.shape[1])[..., np.newaxis]
    return np.asarray((members * fair).sum(axis=0) / fair.sum(axis=0))


def fix_points(
    jobs: Sequence[Job], p: NDArray[np.float64], y: NDArray[np.float32], findings: Sequence[str], target: str
) -> dict[str, OperatingPoint]:
    """One threshold a finding, chosen on held-out rows; findings without both classes there get none."""
    rows = np.unique(np.concatenate([job.watch for job in jobs]))
    if not len(rows):
        return {}
    kept = p[rows].round(6)
    chosen_on = "tune" if jobs[0].select else "oof"
    points = [choose(f, y[rows, k].astype(np.float64), kept[:, k], target, chosen_on) for k, f in enumerate(findings)]
    return {point.finding: point for point in points if point is not None}


def held_out_aurocs(jobs: Sequence[Job], logits: Logits, y: NDArray[np.float32]) -> list[float]:
    """Each member's AUROC (mean over findings) on the rows that it was held out for, where both classes are there."""
    return [
        mean_auroc(logits[member, job.watch], y[job.watch])
        for member, job in enumerate(jobs)
        if any({0.0, 1.0} <= set(column.tolist()) for column in y[job.watch].T)
    ]


def predictions_table(
    cohort: Cohort,
    inputs: Inputs,
    jobs: Sequence[Job],
    fair: NDArray[np.float64],
    y: NDArray[np.float32],
) -> pd.DataFrame:
    """RUN/predictions.csv: a row a scan; out-of-fold rows carry split "oof" and their own fold's probabilities."""
    p = fair.copy()
    split = cohort.table["split"].fillna("").astype(str).to_numpy(dtype=object)
    for job in jobs:
        if not job.select:
            split[job.watch] = "oof"
    refused = sorted(inputs.refused)
    p[refused] = np.nan
    outcomes = [inputs.refused.get(row, Refusal("", "", "ok")) for row in range(len(y))]
    own = pd.DataFrame({
        "scan_id": cohort.table["scan_id"],
        "patient": pseudonyms(cohort),
        "split": split,
        "fold": cohort.table.get("fold", ""),
        "status": [outcome.status for outcome in outcomes],
        "reason": [outcome.reason for outcome in outcomes],
        "detail": [outcome.detail for outcome in outcomes],
    })  # fmt: skip
    labels = pd.DataFrame(y, columns=[f"y_{f}" for f in cohort.findings]).astype("Int64")
    probabilities = pd.DataFrame(p, columns=[f"p_{f}" for f in cohort.findings])
    links = pd.concat([study_pseudonyms(cohort), image_pseudonyms(cohort)], axis=1).reset_index(drop=True)
    fixed = pd.concat([own.reset_index(drop=True), labels, probabilities, links], axis=1)
    subgroups = [column for column in subgroup_columns(cohort) if column not in fixed]
    return pd.concat([fixed, cohort.table[subgroups].reset_index(drop=True)], axis=1)
