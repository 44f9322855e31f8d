"""How well the out-of-distribution gate tells the test scans from scans that should never have come."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.audit.held_out import HeldOut
from pipeline.domain import ScanError, Volume
from pipeline.evaluation.accuracy import measures
from pipeline.evaluation.cases import Cases, numbered
from pipeline.evaluation.proportions import share
from pipeline.model.gate import excess, look_of, with_look
from pipeline.model.package import Model
from pipeline.model.preprocess import preprocess
from pipeline.sections import EvaluateSection

AS_IS = "as it is"


def inverted(volume: Volume) -> Volume:
    """Bright is dark: a wrong photometric interpretation, or another modality."""
    return _with(volume, volume.voxels.max() + volume.voxels.min() - volume.voxels)


def all_air(volume: Volume) -> Volume:
    """A field of view that holds nothing but a little noise."""
    low, high = float(volume.voxels.min()), float(volume.voxels.max())
    noise = np.random.default_rng(0).normal(0, 0.005 * (high - low), volume.voxels.shape)
    return _with(volume, low + np.abs(noise))


def static(volume: Volume) -> Volume:
    """The same voxels in another order: what a wrong decoder leaves."""
    flat = volume.voxels.reshape(-1, *volume.voxels.shape[3:])
    return _with(volume, np.random.default_rng(0).permutation(flat).reshape(volume.voxels.shape))


def mirrored(volume: Volume) -> Volume:
    """Left is right."""
    return _with(volume, volume.voxels[::-1])


def upside_down(volume: Volume) -> Volume:
    """Front is back: a patient that lies on the other side than the header says."""
    axis = 1 if volume.shape[1] > 1 else 2
    return _with(volume, np.flip(volume.voxels, axis))


def half(volume: Volume) -> Volume:
    """Half of the picture is missing."""
    voxels = volume.voxels.copy()
    voxels[: len(voxels) // 2] = voxels.min()
    return _with(volume, voxels)


def _with(volume: Volume, voxels: NDArray[Any]) -> Volume:
    return replace(volume, voxels=np.ascontiguousarray(voxels, dtype=np.float32))


STRANGE: dict[str, Callable[[Volume], Volume]] = {
    "inverted": inverted, "all air": all_air, "static": static, "mirrored": mirrored, "upside down": upside_down,
    "half missing": half,
}  # fmt: skip


def gate_check(held: HeldOut, section: EvaluateSection) -> dict[str, Any]:
    """Kind of strangeness -> AUROC of the gate against the test scans as they are, and the share that it flags.

    Nothing for a model without a gate. The first entry is the share of the test scans themselves that it flags.
    """
    if not held.model.gates:
        return {}
    found = {n: far for n, volume in held.volumes("Testing the gate") if (far := _distances(held.model, volume))}
    patients = numbered(held.rows["patient"].iloc[list(found)].to_numpy(str))
    distances = {kind: np.array([far[kind] for far in found.values()]) for kind in (AS_IS, *STRANGE)}
    numbers: dict[str, Any] = {}
    for kind, away in distances.items():
        flagged = share(away > 1, np.ones(len(away), dtype=bool), patients, section.level, "no scans")
        numbers[kind] = {"flagged": flagged}
        if kind != AS_IS:
            y, p = np.repeat([0.0, 1.0], len(away)), np.concatenate([distances[AS_IS], away])
            cases = Cases(y, p / (1 + p), np.concatenate([patients, patients]))
            numbers[kind] |= measures(cases, section, ("auroc",))
    return numbers


def _distances(model: Model, volume: Volume) -> dict[str, float]:
    variants = {AS_IS: volume} | {kind: change(volume) for kind, change in STRANGE.items()}
    try:
        arrays = np.stack([preprocess(v, model.preprocess, model.channels).array for v in variants.values()])
    except ScanError:
        return {}
    features = [with_look(own, look_of(arrays)) for own in model.outputs(arrays)[1]]
    return dict(zip(variants, map(float, excess(model.gates, features)), strict=True))
