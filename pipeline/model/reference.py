"""What a model's scores looked like on its own held-out scans: what scoring compares new scans with."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt, ValidationError

from pipeline.files import read_json, write_json
from pipeline.model.dataset import Inputs
from pipeline.model.gate import Gate, look_of, with_look
from pipeline.model.plan import Job, judges
from pipeline.model.tensor_files import ModelError

REFERENCE = "reference.json"
"""Its file in the model folder; folders of earlier versions have none."""
MOST_SCORES = 201
"""More scores than this are summed up as so many quantiles, evenly spaced from the smallest to the largest."""


class Reference(BaseModel):
    """Scores of the tune split or out of fold, and how many scans were refused. No scan can be told from it.

    Attributes:
        held_out: Which scans: "tune", or "oof" (out of fold).
        n_scans: How many they are.
        scores: Finding -> their calibrated probabilities in rising order, at most MOST_SCORES quantiles.
        n_out_of_distribution: How many of them the gate takes for unlike; None without a gate.
        n_found: Scans of the whole cohort, refused ones included.
        n_rejected: Scans of the whole cohort that were refused.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    held_out: Literal["tune", "oof"]
    n_scans: PositiveInt
    scores: dict[str, tuple[float, ...]]
    n_out_of_distribution: NonNegativeInt | None
    n_found: PositiveInt
    n_rejected: NonNegativeInt


def reference_of(
    jobs: Sequence[Job],
    p: NDArray[np.float64],
    findings: Sequence[str],
    gates: Sequence[Gate],
    features: Sequence[NDArray[np.float32]],
    inputs: Inputs,
) -> Reference | None:
    """The reference of a trained model; None where no scan was held out.

    Args:
        p: [row, finding] probabilities, of held-out rows those of the networks that did not learn from them.
        gates: One a network, or none.
        features: Of each network, [row, feature].
    """
    rows = np.unique(np.concatenate([job.watch for job in jobs]))
    if not len(rows):
        return None
    kept = min(len(rows), MOST_SCORES)
    quantiles = np.quantile(p[rows], np.linspace(0, 1, kept), axis=0)
    refused = sum(refusal.status == "rejected" for refusal in inputs.refused.values())
    return Reference(
        held_out="tune" if jobs[0].select else "oof",
        n_scans=len(rows),
        scores={f: tuple(float(v) for v in quantiles[:, k].round(6)) for k, f in enumerate(findings)},
        n_out_of_distribution=_unlike(jobs, gates, features, inputs, rows) if gates else None,
        n_found=len(p) + inputs.refused_by_header,
        n_rejected=refused + inputs.refused_by_header,
    )


def write_reference(model: Path, reference: Reference | None) -> None:
    """Write it into a model folder, before its hashes are written."""
    if reference is not None:
        write_json(model / REFERENCE, reference.model_dump(mode="json"))


def read_reference(model: Path) -> Reference | None:
    """The reference of a verified model folder; None for one of an earlier version.

    Raises:
        ModelError: If the file holds something else.
    """
    path = model / REFERENCE
    if not path.is_file():
        return None
    try:
        return Reference.model_validate(read_json(path))
    except (ValueError, RecursionError, ValidationError):
        raise ModelError("corrupt_model", f"{REFERENCE} does not hold a reference") from None


def _unlike(
    jobs: Sequence[Job],
    gates: Sequence[Gate],
    features: Sequence[NDArray[np.float32]],
    inputs: Inputs,
    rows: NDArray[np.intp],
) -> int:
    """How many of the rows are out of distribution for the networks that did not learn from them."""
    look = look_of([inputs.arrays[row] for row in rows])
    far = [g.distances(with_look(own[rows], look)) / g.limit for g, own in zip(gates, features, strict=True)]
    fair = judges(jobs, len(inputs.arrays))[:, rows]
    return int(((np.stack(far) * fair).sum(axis=0) > fair.sum(axis=0)).sum())
