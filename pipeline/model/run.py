"""A training run from cohort to model folder: read, fit, calibrate, fix the operating points, save, predict."""

import platform
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version

import numpy as np
import pandas as pd
import torch

from pipeline.cohort.leakage import patients
from pipeline.cohort.manifest import Cohort, read_cohort, targets
from pipeline.config import Config, load_config, save_config
from pipeline.console import progress
from pipeline.domain import ReadRules, UsageError
from pipeline.evaluation.operating_point import parse_target
from pipeline.files import sha256_of, write_json, write_table
from pipeline.model.dataset import Inputs, cache_inputs
from pipeline.model.fit import device_of, fit
from pipeline.model.outputs import all_logits, calibrate, fix_points, predictions_table
from pipeline.model.package import Settings, save_model
from pipeline.model.plan import Job, plan
from pipeline.scans.find import survey


def train(config: Config, resume: bool = False) -> pd.DataFrame:
    """Fit, calibrate, fix the operating point, save the model folder, predict every scan; return predictions.csv.

    Raises:
        UsageError: If cohort, config or run folder can't be worked with.
    """
    parse_target(config.evaluate.target)
    if config.cohort.folder is None:
        raise UsageError("cohort.folder: name the COHORT folder that pipeline.prepare wrote")
    cohort = _used(read_cohort(config.cohort.folder))
    _claim_run(config, resume)
    y = targets(cohort).to_numpy(dtype=np.float32)
    read = _read_rules(config, cohort)
    inputs = _inputs(config, cohort, read)
    usable = np.array([row not in inputs.refused for row in range(len(y))]) & ~np.isnan(y).all(axis=1)
    jobs = plan(cohort, config, y, usable)
    networks = [fit(job, config, cohort, inputs, y, resume) for job in jobs]
    logits = all_logits(networks, inputs, device_of(config))
    calibration = calibrate(jobs, logits, y, cohort.task, config.evaluate.calibration)
    settings = Settings(
        name=config.name, task=cohort.task, findings=cohort.findings, read=read, preprocess=config.preprocess,
        model=config.model, calibration=calibration, intended_use=config.intended_use,
        operating_points=fix_points(jobs, logits, y, calibration, cohort.findings, config.evaluate.target),
        training=_training_facts(cohort, jobs),
    )  # fmt: skip
    save_model(config.out / "model", settings, networks)
    table = predictions_table(cohort, inputs, jobs, logits, calibration, y)
    write_table(config.out / "predictions.csv", table, float_format="%.6f")
    return table


def _claim_run(config: Config, resume: bool) -> None:
    """Take the run folder: a new one, or the same config's own on `--resume`."""
    kept = config.out / "config.yaml"
    if resume:
        if not kept.is_file():
            raise UsageError(f"--resume: {config.out} holds no run; start without --resume")
        earlier = load_config(kept)
        if earlier != config:
            changed = [k for k in Config.model_fields if getattr(earlier, k) != getattr(config, k)]
            raise UsageError(f"--resume: these sections differ from the run's own config.yaml: {', '.join(changed)}")
        return
    if kept.exists():
        raise UsageError(f"{config.out} holds a run already; go on with --resume, or give another folder with --out")
    config.out.mkdir(parents=True, exist_ok=True)
    save_config(config, kept)
    packages = ("torch", "lightning", "timm", "monai", "numpy", "pydicom", "nibabel", "scanline")
    environment = {"python": platform.python_version(), "system": platform.platform(),
                   "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
                   **{name: version(name) for name in packages}}  # fmt: skip
    write_json(config.out / "environment.json", environment)


def _used(cohort: Cohort) -> Cohort:
    """The cohort without the scans that prepare left out of every split (no label, dropped duplicate)."""
    used = cohort.table[cohort.table["split"].fillna("") != ""].reset_index(drop=True)
    if used.empty:
        raise UsageError(f"{cohort.folder} has no split; run pipeline.prepare with --labels")
    return replace(cohort, table=used)


def _read_rules(config: Config, cohort: Cohort) -> ReadRules:
    """The config's rules; modalities default to those that the cohort holds."""
    if config.read.modalities:
        return config.read
    seen = sorted({m for m in cohort.table["modality"].fillna("").astype(str) if m})
    return replace(config.read, modalities=tuple(seen))


def _inputs(config: Config, cohort: Cohort, read: ReadRules) -> Inputs:
    found = {scan.scan_id: scan for scan in survey(cohort.scans_root).scans}
    ids = list(cohort.table["scan_id"])
    gone = [i for i in ids if i not in found]
    if gone:
        raise UsageError(
            f"{len(gone)} of {len(ids)} scans of the cohort are no longer under its scans folder (first: {gone[0]}); "
            "put them back or run pipeline.prepare again"
        )
    scans = [found[i] for i in ids]
    with progress("Reading scans") as report:
        hashes = list(cohort.table["content_sha256"].fillna("").astype(str))
        return cache_inputs(scans, hashes, config, read, cohort.folder / "cache", report)


def _training_facts(cohort: Cohort, jobs: Sequence[Job]) -> dict[str, str | int | float | None]:
    rows = np.unique(np.concatenate([job.learn for job in jobs]))
    return {
        "scans_sha256": sha256_of(cohort.folder / "scans.csv"),
        "n_scans": len(rows),
        "n_patients": int(patients(cohort.table).iloc[rows].nunique()),
    }
