"""The training scans that look most like a scan to the model, by the features that its head sees."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.domain import UsageError, Volume
from pipeline.files import write_bytes
from pipeline.model.integrity import identity, listing
from pipeline.model.package import Model
from pipeline.model.preprocess import preprocess

if TYPE_CHECKING:
    from pipeline.model.run import Trained

INDEX = "similar.npz"
"""In the run folder: scan ids, labels and features of what was learned from; nothing of the patients."""
LEARNED = ("train", "oof")
"""Splits that a model has learned from."""


@dataclass(frozen=True)
class Neighbour:
    """A training scan near a scan.

    Attributes:
        distance: Root mean square difference a feature, in standard deviations over the training scans.
        labels: Finding -> 0 or 1; None where the label is missing.
    """

    scan_id: str
    distance: float
    labels: dict[str, int | None]


def write_index(run: Path, trained: "Trained") -> None:
    """Write RUN/similar.npz, atomically."""
    table = trained.table
    kept = np.flatnonzero(table["split"].isin(LEARNED) & (table["status"] == "ok") & trained.usable)
    features = _side_by_side([member[kept] for member in trained.features])
    spread = features.std(axis=0)
    content = io.BytesIO()
    np.savez_compressed(
        content, scan_id=table["scan_id"].to_numpy(dtype=str)[kept], labels=trained.y[kept],
        features=features.astype(np.float16 if np.abs(features).max(initial=0) < 6e4 else np.float32),
        spread=np.where(spread > 0, spread, 1), model=np.array(identity(listing(run / "model"))),
    )  # fmt: skip
    write_bytes(run / INDEX, content.getbuffer())


def similar(run: Path, model: Model, volume: Volume, k: int = 5) -> list[Neighbour]:
    """The k nearest training scans, nearest first.

    Raises:
        UsageError: If the run folder holds no index, or that of another model.
        ScanError: If the volume does not fit the model.
    """
    try:
        with np.load(run / INDEX, allow_pickle=False) as index:
            ids, labels, known, spread, made_by = (
                index[name] for name in ("scan_id", "labels", "features", "spread", "model")
            )
    except (OSError, ValueError, KeyError):
        raise UsageError(
            f"--run {run}: holds no readable {INDEX}; give the RUN folder that training wrote (runs of "
            "earlier versions have none: train again, or leave --run out)"
        ) from None
    own = identity(listing(model.folder))
    if str(made_by) != own:
        raise UsageError(f"--run {run}: its {INDEX} is of the model {made_by}, not of this one ({own})")
    item = preprocess(volume, model.preprocess, model.channels)
    here = _side_by_side(model.outputs(item.array[np.newaxis])[1])[0]
    apart = (known.astype(np.float32) - here) / spread
    distances = np.sqrt((apart**2).mean(axis=1))
    return [
        Neighbour(str(ids[row]), float(distances[row]), _labels(model.findings, labels[row]))
        for row in np.argsort(distances, kind="stable")[:k]
    ]


def _side_by_side(members: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """[scan, member and feature]: features of all members beside each other."""
    return np.concatenate(list(members), axis=1)


def _labels(findings: Sequence[str], row: NDArray[np.float32]) -> dict[str, int | None]:
    return {f: None if np.isnan(value) else int(value) for f, value in zip(findings, row, strict=True)}
