"""A complete config for a cohort: chosen from what its scans are and from the device at hand, with the reasons.

The rules are few and readable on purpose: a start that trains without edits, not the last word.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.config import Config
from pipeline.console import count
from pipeline.domain import ReadRules
from pipeline.sections import AugmentSection, CohortSection, ModelSection, PreprocessSection, TrainSection

VOXELS = {("cpu", 2): 96**2, ("cpu", 3): 48 * 48 * 36, ("gpu", 2): 224**2, ("gpu", 3): 96**3}
"""How many voxels an input may have, by device and dimensions: what trains overnight on it."""
SMALL_EDGE = 40
"""Inputs of at most this many voxels an edge keep their resolution in the stem."""
FEW_PATIENTS = 300
"""With fewer patients to learn from, a tune split is too small to choose by: folds and their ensemble instead."""
STEPS = 1600
"""Optimizer steps that a run takes, about."""
EPOCHS = (12, 80)
PICTURES = frozenset({"", "CR", "DX", "MG", "RF", "XA", "US", "OT", "SC"})
"""Modalities whose intensities have no unit."""


@dataclass(frozen=True)
class Proposal:
    """A config, and why: dotted key -> reason."""

    config: Config
    reasons: Mapping[str, str]


@dataclass(frozen=True)
class Scans:
    """What the scans to learn from look like.

    Attributes:
        shape: [scan, 3] voxels along i, j, k. spacing_mm: [scan, 3].
        modality: The most frequent one, "" where unknown. unit: The most frequent one.
        range: Intensities below which 0.5 % and 99.5 % of the voxels of that unit lie.
        patients: How many.
        colour: How many scans of the cohort are in colour.
    """

    shape: NDArray[np.float64]
    spacing_mm: NDArray[np.float64]
    modality: str
    unit: str
    range: tuple[float, float]
    patients: int
    colour: int

    @classmethod
    def of(cls, table: pd.DataFrame, fingerprint: Mapping[str, Any]) -> "Scans":
        """Read off scans.csv and fingerprint.json; the test split is not looked at."""
        used = table[~table["split"].isin(["", "test"])]
        units: Mapping[str, int] = fingerprint["units"]
        unit = max(units, key=lambda name: units[name])
        spread = fingerprint["intensities_outside_test"].get(unit) or {"p0.5": 0.0, "p99.5": 1.0}
        return cls(
            _numbers(used["shape"]), _numbers(used["spacing_mm"]), str(used["modality"].mode().iloc[0]), unit,
            (float(spread["p0.5"]), float(spread["p99.5"])), used["patient_id"].replace("", pd.NA).nunique()
            + int((used["patient_id"] == "").sum()), int(fingerprint.get("colour_scans", 0)),
        )  # fmt: skip


def gpu_at_hand() -> bool:
    """Whether this machine has an NVIDIA GPU; asked of the system, so that no torch is loaded."""
    return Path("/dev/nvidiactl").exists()


def propose(
    table: pd.DataFrame, fingerprint: Mapping[str, Any], folder: Path, section: CohortSection, rules: ReadRules,
    gpu: bool,
) -> Proposal:  # fmt: skip
    """The config for a cohort with labels.

    Args:
        table: scans.csv. fingerprint: Content of fingerprint.json.
        folder: The cohort folder; the run is written beside it.
        section: How the cohort was made. rules: How its scans were read.
        gpu: Whether there is one to train on.
    """
    scans = Scans.of(table, fingerprint)
    device = "gpu" if gpu else "cpu"
    reasons: dict[str, str] = {}
    thin = float((scans.shape.min(axis=1) == 1).mean())
    dimensions: Any = 2 if thin > 0.5 else 3
    reasons["model.dimensions"] = f"{thin:.0%} of the scans are single slices or pictures"
    preprocess = _preprocess(scans, dimensions, VOXELS[device, dimensions], reasons)
    config = Config(
        name=folder.resolve().parent.name or "run",
        out=folder.parent / "run",
        read=rules,
        cohort=section.model_copy(update={"folder": folder}),
        preprocess=preprocess,
        model=_model(scans, dimensions, preprocess.size, gpu, reasons),
        augment=_augment(scans, dimensions, reasons),
        train=_train(scans, len(table[table["split"] == "train"]), dimensions, _folds_of(table), reasons),
    )
    return Proposal(config, reasons)


def _preprocess(scans: Scans, dimensions: int, voxels: int, reasons: dict[str, str]) -> PreprocessSection:
    shape, spacing_mm = np.median(scans.shape, axis=0), np.median(scans.spacing_mm, axis=0)
    if dimensions == 2:
        wide = np.sort(shape)[-2:]
        edge = int(min(np.sqrt(voxels), _multiple(wide.max())))
        reasons["preprocess.size"] = f"scans have {wide[0]:g} x {wide[1]:g} pixels at the median"
        return PreprocessSection(size=(edge, edge), **_intensity(scans, reasons))
    if shape.prod() <= voxels:
        reasons["preprocess.size"] = "the scans' own median size, small enough to keep"
        size = tuple(int(n) for n in shape)
        return PreprocessSection(size=size, **_intensity(scans, reasons))
    target_mm, size = _grid(shape * spacing_mm, spacing_mm, voxels)
    reasons["preprocess.size"] = f"{np.prod(size)} voxels: the median field of view at that spacing"
    reasons["preprocess.spacing_mm"] = "as fine as the device allows, no finer than the scans are at the median"
    return PreprocessSection(size=size, spacing_mm=target_mm, **_intensity(scans, reasons))


def _grid(
    extent_mm: NDArray[np.float64], finest_mm: NDArray[np.float64], voxels: int
) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Spacing and size of the grid that covers an extent with about so many voxels, no finer than the scans."""
    spacing = np.full(3, (extent_mm.prod() / voxels) ** (1 / 3))
    for _ in range(3):  # an axis that stays coarser leaves its share to the others
        coarse = finest_mm >= spacing
        spacing = np.where(coarse, finest_mm, spacing)
        left = extent_mm[~coarse].prod() / (voxels / (extent_mm[coarse] / finest_mm[coarse]).prod())
        if coarse.any() and not coarse.all():
            spacing[~coarse] = left ** (1 / (~coarse).sum())
    return tuple(round(float(s), 2) for s in spacing), tuple(_multiple(n) for n in extent_mm / spacing)


def _intensity(scans: Scans, reasons: dict[str, str]) -> dict[str, Any]:
    low, high = scans.range
    said = f"99 % of the voxels outside the test split lie between {low:.4g} and {high:.4g} {scans.unit}"
    if scans.unit == "HU":
        reasons["preprocess.window"] = said
        window = max(-1000.0, 50 * np.floor(low / 50)), min(1000.0, 50 * np.ceil(high / 50))
        return {"intensity": "window", "window": window if window[0] < window[1] else (-1000.0, 400.0)}
    if scans.unit == "SUVbw":
        reasons["preprocess.window"] = said
        return {"intensity": "window", "window": (0.0, max(1.0, float(np.ceil(high))))}
    if scans.modality in PICTURES:
        reasons["preprocess.intensity"] = "values without a unit, from black to white"
        return {"intensity": "minmax"}
    reasons["preprocess.intensity"] = f"{scans.modality} values have no unit that scanners share"
    return {"intensity": "zscore"}


def _model(scans: Scans, dimensions: Any, size: tuple[int, ...], gpu: bool, reasons: dict[str, str]) -> ModelSection:
    small = max(size) <= SMALL_EDGE
    backbone = "resnet18" if dimensions == 2 or scans.patients >= FEW_PATIENTS or gpu else "resnet10"
    reasons["model.backbone"] = f"{count(scans.patients, 'patient')} to learn from" + ("" if gpu else ", no GPU")
    if small:
        reasons["model.stem_stride"] = f"inputs of {max(size)} voxels have no detail to spare"
    if scans.colour:
        reasons["model.channels"] = f"in colour, which a gray model refuses: {count(scans.colour, 'scan')}"
    return ModelSection(
        dimensions=dimensions,
        channels=3 if scans.colour else 1,
        backbone=backbone,
        width=1.0 if dimensions == 2 or gpu else 0.5 if small else 0.25,
        stem_size=3 if small and dimensions == 3 else 7,
        stem_stride=1 if small else 2,
        stem_pool=not (small and dimensions == 2),
    )


def _augment(scans: Scans, dimensions: int, reasons: dict[str, str]) -> AugmentSection:
    mirror = dimensions == 3 or scans.unit == "HU"
    reasons["augment.flip_axes"] = (
        "left and right are taken for alike; remove x where the side matters"
        if mirror
        else "a mirrored radiograph shows another anatomy"
    )
    reasons["augment.probability"] = "half of the inputs stay as sharp as those in use"
    return AugmentSection(
        flip_axes=("x",) if mirror else (),
        rotate_degrees=10,
        scale=0.1,
        translate=0.05,
        intensity=0.05,
    )


def _train(scans: Scans, n_train: int, dimensions: int, folds: int, reasons: dict[str, str]) -> TrainSection:
    few = scans.patients < FEW_PATIENTS and folds > 1
    n_learn = max(1, round(len(scans.shape) * (1 - 1 / folds)) if few else n_train)
    batch = 8 if dimensions == 3 and n_learn < 1000 else 16 if n_learn < 1000 else 32
    epochs = int(np.clip(round(STEPS * batch / n_learn), *EPOCHS))
    reasons["train.epochs"] = f"about {count(epochs * -(-n_learn // batch), 'step')} of {count(batch, 'scan')}"
    if few:
        reasons["train.folds"] = f"{count(scans.patients, 'patient')}, too few for one tune split: an ensemble of folds"
    return TrainSection(
        epochs=epochs,
        folds=folds if few else 0,
        batch_size=batch,
        learning_rate=1e-3,
        weight_decay=0.05,
        patience=0,
        workers=min(os.cpu_count() or 1, 8),
    )


def _folds_of(table: pd.DataFrame) -> int:
    """How many folds the cohort has, whoever drew them."""
    folds = table.loc[~table["split"].isin(["", "test"]), "fold"].astype(str)
    return int(folds[folds != ""].nunique())


def _numbers(words: "pd.Series[str]") -> NDArray[np.float64]:
    """[scan, 3] of "512x512x30"."""
    return np.array([[float(n) for n in word.split("x")] for word in words])


def _multiple(length: float) -> int:
    """The next multiple of 8 for anything larger than a small input."""
    return round(length) if length <= SMALL_EDGE else int(8 * np.ceil(length / 8 - 1e-6))
