"""Which rows each network learns from, and which it is watched or judged on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.cohort.manifest import Cohort
from pipeline.config import Config
from pipeline.domain import UsageError


@dataclass(frozen=True)
class Job:
    """One network to fit: rows of the cohort's table to learn from, and rows to watch or predict."""

    name: str
    learn: NDArray[np.intp]
    watch: NDArray[np.intp]
    select: bool
    """Whether `watch` (the tune split) may choose the checkpoint; a held-out fold may not."""
    seed: int = 0
    """Of weights, order and augmentation."""


def plan(cohort: Cohort, config: Config, y: NDArray[np.float32], usable: NDArray[np.bool_]) -> list[Job]:
    """One job for the split or one a fold, each as often as `train.repeats` says, with seeds of their own.

    Raises:
        UsageError: If a split or fold is empty, or a class is missing where it is needed.
    """
    split = cohort.table["split"].fillna("").to_numpy(dtype=str)
    if config.train.folds == 0:
        job = Job(
            "single", np.flatnonzero(usable & (split == "train")), np.flatnonzero(usable & (split == "tune")), True
        )
        faults = [*_class_faults("train", y[job.learn], cohort), *_class_faults("tune", y[job.watch], cohort)]
        jobs = [job]
    else:
        fold = pd.to_numeric(cohort.table["fold"], errors="coerce").to_numpy(dtype=float)
        found = sorted({int(f) for f in fold[~np.isnan(fold)]})
        if len(found) != config.train.folds:
            raise UsageError(
                f"train.folds: {config.train.folds} asked for, the cohort has {len(found)}; run pipeline.prepare with "
                f"--cohort.folds {config.train.folds}"
            )
        inside = usable & ~np.isnan(fold) & (split != "test") & (split != "")
        jobs = [
            Job(f"fold{f}", np.flatnonzero(inside & (fold != f)), np.flatnonzero(inside & (fold == f)), False)
            for f in found
        ]
        faults = [
            fault for job in jobs for fault in _class_faults(f"training part of {job.name}", y[job.learn], cohort)
        ]
    if faults:
        raise UsageError("the cohort can't be trained on:\n" + "\n".join(f"  {fault}" for fault in faults))
    return [_repeated(job, config.train.seed, k) for job in jobs for k in range(config.train.repeats)]


def _repeated(job: Job, seed: int, k: int) -> Job:
    return replace(job, name=f"{job.name}_seed{seed + k}" if k else job.name, seed=seed + k)


def judges(jobs: Sequence[Job], n_rows: int) -> NDArray[np.bool_]:
    """[member, row] whether a member may judge a row: rows that some were held out for are theirs alone."""
    watched = np.zeros((len(jobs), n_rows), dtype=bool)
    for member, job in enumerate(jobs):
        watched[member, job.watch] = True
    return watched | ~watched.any(axis=0)


def _class_faults(where: str, y: NDArray[np.float32], cohort: Cohort) -> list[str]:
    if not len(y):
        return [f"{where}: no scans; prepare with another split"]
    faults = []
    for column, finding in enumerate(cohort.findings):
        ones, zeros = int((y[:, column] == 1).sum()), int((y[:, column] == 0).sum())
        if not ones or not zeros:
            faults.append(f"{where}: finding {finding} has {ones} positive and {zeros} negative scans; both are needed")
    return faults
