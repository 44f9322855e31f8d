"""A training run from cohort to model folder: read, fit, calibrate, fix the operating points, save, predict."""

import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from pipeline.cohort.cache import CACHE
from pipeline.cohort.leakage import patients
from pipeline.cohort.manifest import Cohort, read_cohort, targets
from pipeline.config import Config, differences, load_config, save_config
from pipeline.console import count, progress, stdout
from pipeline.domain import ReadRules, UsageError
from pipeline.evaluation.operating_point import parse_target
from pipeline.files import check_writable, read_json, sha256_of, write_json, write_table
from pipeline.model.batch import check_memory, with_batch_size
from pipeline.model.dataset import Inputs, Refusal, cache_inputs
from pipeline.model.fit import check_network, device_of, fit
from pipeline.model.outputs import (
    all_outputs,
    calibrate,
    fair_probabilities,
    fit_gates,
    fix_points,
    held_out_aurocs,
    predictions_table,
)
from pipeline.model.package import save_model
from pipeline.model.plan import Job, plan
from pipeline.model.processes import rank, silence_others
from pipeline.model.reference import reference_of, write_reference
from pipeline.model.settings import Settings
from pipeline.scans.find import survey


@dataclass(frozen=True)
class Trained:
    """What a run made, and what it was made of.

    Attributes:
        table: predictions.csv.
        cohort: The scans that are in some split, in row order. inputs: What the network saw of each row.
        y: [row, finding] labels, NaN where missing.
        usable: [row] whether the scan could be read and has a label.
        features: Of each network, [row, feature]; those of refused scans mean nothing.
    """

    table: pd.DataFrame
    cohort: Cohort
    inputs: Inputs
    y: NDArray[np.float32]
    usable: NDArray[np.bool_]
    features: list[NDArray[np.float32]]


def train(config: Config, resume: bool = False) -> Trained | None:
    """Fit, calibrate, fix the operating point, save the model folder, and predict every scan into predictions.csv.

    Where several processes train one model, all but the first only help to fit and return None.

    Raises:
        UsageError: If cohort, config or run folder can't be worked with.
    """
    parse_target(config.evaluate.target)
    if config.cohort.folder is None:
        raise UsageError("cohort.folder: name the COHORT folder that pipeline.prepare wrote")
    cohort = _used(read_cohort(config.cohort.folder))
    silence_others()
    config = _with_batch_size(config, cohort, resume)
    check_memory(config, len(cohort.findings), device_of(config))
    if rank() == 0:
        _check_claim(config, resume, cohort)
    if rank() == 0 and not resume:
        check_network(config, cohort)
    y = targets(cohort).to_numpy(dtype=np.float32)
    read = _read_rules(config, cohort)
    inputs = _inputs(config, cohort, read)
    usable = np.array([row not in inputs.refused for row in range(len(y))]) & ~np.isnan(y).all(axis=1)
    if not usable.any():
        reason, first = next(((r.reason, r.detail) for r in inputs.refused.values()), ("", "no scan has a label"))
        raise UsageError(
            f"none of {count(len(y), 'scan')} can be used as this config asks; the first: {reason} {first}"
        )
    jobs = plan(cohort, config, y, usable)
    if rank() == 0 and not resume:
        _claim_run(config, cohort)
    networks = [fit(job, config, cohort, inputs, y, resume) for job in jobs]
    if rank() > 0:
        return None
    flips = config.augment.flip_axes if config.augment.test_time else ()
    logits, features = all_outputs(networks, inputs, device_of(config), flips)
    gates = fit_gates(jobs, features, inputs)
    if not gates:
        stdout.print("too few scans for a gate: the model will not say whether a scan is unlike those it learned from")
    calibrations = calibrate(jobs, logits, y, cohort.task, config.evaluate.calibration)
    p = fair_probabilities(jobs, logits, calibrations)
    settings = Settings(
        name=config.name, task=cohort.task, findings=cohort.findings, read=read, preprocess=config.preprocess,
        members=len(networks),
        model=config.model, calibration=calibrations[0], intended_use=config.intended_use, test_time_flips=flips,
        member_calibrations=() if jobs[0].select else tuple(calibrations),
        operating_points=fix_points(jobs, p, y, cohort.findings, config.evaluate.target),
        unit=config.evaluate.unit, aggregate=config.evaluate.aggregate,
        training=_training_facts(cohort, jobs) | _spread(held_out_aurocs(jobs, logits, y)),
        **_created_before(config.out / "model"),
    )  # fmt: skip
    write_reference(config.out / "model", reference_of(jobs, p, cohort.findings, gates, features, inputs))
    save_model(config.out / "model", settings, networks, gates)
    table = predictions_table(cohort, inputs, jobs, p, y)
    write_table(config.out / "predictions.csv", table, float_format="%.6f")
    return Trained(table, cohort, inputs, y, usable, features)


def _with_batch_size(config: Config, cohort: Cohort, resume: bool) -> Config:
    """The config with a number for `batch_size: auto`: the one that a run to be resumed began with, else a new one."""
    kept = config.out / "config.yaml"
    if config.train.batch_size == "auto" and resume and kept.is_file():
        earlier = load_config(kept).train.batch_size
        return config.model_copy(update={"train": config.train.model_copy(update={"batch_size": earlier})})
    learned = int((cohort.table["split"] == "train").sum() or (cohort.table["split"] != "test").sum())
    return with_batch_size(config, len(cohort.findings), learned, device_of(config))


def _created_before(model: Path) -> dict[str, str]:
    """When the model folder was first written, so that a finished run that is resumed stays the same model."""
    created = _written(model / "model.json", "created")
    return {"created": created} if created else {}


def _written(path: Path, key: str) -> str:
    """What an earlier start wrote into a JSON file under a key, "" where there is nothing."""
    try:
        return str(read_json(path).get(key, ""))
    except (OSError, ValueError):
        return ""


def _check_claim(config: Config, resume: bool, cohort: Cohort) -> None:
    """Refuse a run folder that is another run's; it is taken once nothing in the config can fail any more."""
    check_writable(config.out)
    kept = config.out / "config.yaml"
    if resume:
        if not kept.is_file():
            raise UsageError(f"--resume: {config.out} holds no run; start without --resume")
        if changed := differences(load_config(kept), config):
            raise UsageError(f"--resume: these keys differ from the run's own {kept}:\n" + "\n".join(changed))
        if _written(config.out / "environment.json", "cohort_sha256") not in ("", cohort.sha256):
            raise UsageError(
                f"--resume: scans, labels, split or folds of {cohort.folder} are not those that this run began with; "
                "its networks may have learned from what is held out now. Start a new run with --out"
            )
        for unfinished in config.out.rglob(".*.part"):  # what a killed process was writing
            unfinished.unlink()
        return
    if kept.exists():
        raise UsageError(f"{config.out} holds a run already; go on with --resume, or give another folder with --out")


def _claim_run(config: Config, cohort: Cohort) -> None:
    """Take the run folder: write what it runs on and learns from, then the config as used, which is the claim."""
    config.out.mkdir(parents=True, exist_ok=True)
    packages = ("torch", "lightning", "timm", "monai", "numpy", "pydicom", "nibabel", "scanline")
    environment = {"python": platform.python_version(), "system": platform.platform(),
                   "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
                   **{name: version(name) for name in packages}, "cohort_sha256": cohort.sha256}  # fmt: skip
    write_json(config.out / "environment.json", environment)
    save_config(config, config.out / "config.yaml")


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
    with progress("Finding scans") as report:
        found = survey(cohort.scans_root, report, read)
    unchosen = {one.scan.scan_id: one for one in found.not_selected}
    known = {scan.scan_id: scan for scan in (*found.scans, *(one.scan for one in unchosen.values()))}
    ids = list(cohort.table["scan_id"])
    gone = [i for i in ids if i not in known]
    if gone:
        raise UsageError(
            f"no longer under the cohort's scans folder: {len(gone)} of {count(len(ids), 'scan')} (first: {gone[0]}); "
            "put them back or run pipeline.prepare again"
        )
    with progress("Reading scans") as report:
        hashes = list(cohort.table["content_sha256"].fillna("").astype(str))
        inputs = cache_inputs([known[i] for i in ids], hashes, config, read, cohort.folder / CACHE, report)
    left_out = {
        row: Refusal(unchosen[i].reason.value, unchosen[i].detail, "not_selected")
        for row, i in enumerate(ids)
        if i in unchosen
    }
    return replace(inputs, refused=inputs.refused | left_out, refused_by_header=len(found.rejections))


def _spread(aurocs: Sequence[float]) -> dict[str, float]:
    """How much the networks of one run differ, said aloud where there are several."""
    if len(aurocs) < 2:
        return {}
    mean, deviation = float(np.mean(aurocs)), float(np.std(aurocs, ddof=1))
    stdout.print(
        f"{len(aurocs)} networks: AUROC where held out {mean:.3f} on average, standard deviation {deviation:.3f} "
        f"({min(aurocs):.3f} to {max(aurocs):.3f})"
    )
    return {"held_out_auroc_mean": round(mean, 6), "held_out_auroc_sd": round(deviation, 6)}


def _training_facts(cohort: Cohort, jobs: Sequence[Job]) -> dict[str, str | int | float | None]:
    rows = np.unique(np.concatenate([job.learn for job in jobs]))
    return {
        "scans_sha256": sha256_of(cohort.folder / "scans.csv"),
        "n_scans": len(rows),
        "n_patients": int(patients(cohort.table).iloc[rows].nunique()),
    }
