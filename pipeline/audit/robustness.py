"""The test split again, disturbed: how the AUROC holds, and how many decisions flip."""

from collections.abc import Mapping
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.disturbances import DISTURBANCES, Disturbance
from pipeline.audit.held_out import HeldOut
from pipeline.domain import Prediction, ScanError, Volume
from pipeline.evaluation.accuracy import measures
from pipeline.evaluation.cases import Cases, numbered
from pipeline.evaluation.intervals import Measure, undefined
from pipeline.evaluation.proportions import share
from pipeline.model.package import Model
from pipeline.model.preprocess import grid_affine, preprocess
from pipeline.sections import EvaluateSection

AS_IS = ("as it is", 0.0)
"""Key of the undisturbed scan among its predictions."""
Key = tuple[str, float]


def robustness(held: HeldOut, section: EvaluateSection) -> dict[str, Any]:
    """Finding -> disturbance -> one entry a strength: AUROC, and the share of decisions that differ from before.

    Args:
        held: The scans and the model.
        section: Level, resamples and seed of the intervals.
    """
    found = {position: disturbed(held.model, volume, held.rows["scan_id"][position])
             for position, volume in held.volumes("Disturbing scans")}  # fmt: skip
    kept = [position for position, predictions in found.items() if predictions]
    rows = held.rows.iloc[kept]
    numbers: dict[str, Any] = {}
    for finding in held.model.findings:
        y, patients = rows[f"y_{finding}"].to_numpy(float), rows["patient"].to_numpy(str)
        p = {key: np.array([found[n][key].probabilities[finding] for n in kept]) for key in _keys(found)}
        threshold = held.model.operating_points.get(finding)
        cut = None if threshold is None else threshold.threshold
        numbers[finding] = {AS_IS[0]: {"auroc": _auroc(y, p[AS_IS], patients, section)}} | {
            name: [_entry(one, strength, y, p[AS_IS], p[name, strength], cut, patients, section)
                   for strength in one.strengths]
            for name, one in DISTURBANCES.items() if (name, one.strengths[0]) in p
        }  # fmt: skip
    return {"model": held.model.model_id, "split": "test", "n_scans": len(kept), "findings": numbers}


def _keys(found: Mapping[int, Mapping[Key, Prediction]]) -> list[Key]:
    """What every scan was predicted under."""
    each = [list(predictions) for predictions in found.values() if predictions]
    return [key for key in (each[0] if each else [AS_IS]) if all(key in keys for keys in each)]


def disturbed(model: Model, volume: Volume, scan_id: str) -> dict[Key, Prediction]:
    """(Disturbance, strength) -> prediction, and that of the scan as it is; empty where it can't be predicted.

    Chance is seeded by the scan's id: the same scan is disturbed alike in every run.
    """
    try:
        steps = _model_steps(model, volume)
        variants = {AS_IS: volume} | {
            (name, strength): one.change(volume, strength, steps, np.random.default_rng(crc32(scan_id.encode())))
            for name, one in DISTURBANCES.items() if not one.volumes_only or volume.shape[2] > 2
            for strength in one.strengths
        }  # fmt: skip
        inputs = [preprocess(variant, model.preprocess, model.channels) for variant in variants.values()]
        return dict(zip(variants, model.predict_inputs(inputs, [scan_id] * len(inputs)), strict=True))
    except ScanError:
        return {}


def _model_steps(model: Model, volume: Volume) -> NDArray[np.float64]:
    """Size of the model's voxels, in voxels of the scan along i, j, k."""
    linear = np.linalg.inv(volume.affine[:3, :3]) @ grid_affine(volume, model.preprocess)[:3, :3]
    return np.asarray(np.abs(linear).max(axis=1))


def _entry(
    one: Disturbance, strength: float, y: NDArray[np.float64], before: NDArray[np.float64],
    after: NDArray[np.float64], cut: float | None, patients: NDArray[np.str_], section: EvaluateSection,
) -> dict[str, Any]:  # fmt: skip
    flips: Measure = undefined(section.level, len(y), "no operating point")
    if cut is not None:
        changed = (before >= cut) != (after >= cut)
        everyone = np.ones(len(y), dtype=bool)
        flips = share(changed, everyone, numbered(patients), section.level, "no scans")
    return {
        "strength": one.shown(strength), "auroc": _auroc(y, after, patients, section), "flips": flips,
        "mean_change": round(float(np.mean(after - before)), 6),
    }  # fmt: skip


def _auroc(
    y: NDArray[np.float64], p: NDArray[np.float64], patients: NDArray[np.str_], section: EvaluateSection
) -> Measure:
    known = ~np.isnan(y)
    cases = Cases(y[known], p[known], numbered(patients[known]))
    if cases.one_class:
        return undefined(section.level, cases.n, cases.one_class)
    return measures(cases, section, ("auroc",))["auroc"]
