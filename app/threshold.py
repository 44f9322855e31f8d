"""What a threshold does to the scans of a split: accuracy with intervals, and which calls flip. No Streamlit."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.domain import UsageError
from pipeline.evaluation.cases import Cases, cases_of, labelled
from pipeline.evaluation.intervals import Measure
from pipeline.evaluation.prevalence import at_prevalence
from pipeline.evaluation.proportions import share
from pipeline.evaluation.run_folder import Run, read_run
from pipeline.model.integrity import identity, verify
from pipeline.model.package import Model

LEVEL = 0.95
STEPS = 200
"""Points of the curves."""


@dataclass(frozen=True)
class Split:
    """The scored and labelled scans of one finding in one split.

    Attributes:
        rows: scan_id, y, p, one row a scan, in the order of `cases`.
    """

    rows: pd.DataFrame
    cases: Cases


@lru_cache(maxsize=1)
def the_run(folder: Path, model_id: str) -> Run:
    """The run that trained the viewer's model.

    Raises:
        UsageError: If it can't be read, or trained another model.
    """
    run = read_run(folder)
    found = f"{run.settings['name']}-{identity(verify(folder / 'model'))}"
    if found != model_id:
        raise UsageError(
            f"--run {folder}: trained {found}, the viewer's model is {model_id}; give the run of this model"
        )
    return run


def split_of(run: Run, finding: str, name: str) -> Split | None:
    """The scans of a split; None where it has none that are scored and labelled.

    Args:
        run: What `the_run` gave.
        finding: One of the model's.
        name: Of the split.
    """
    table = run.table
    rows = labelled(table[(table["split"] == name) & (table["status"] == "ok")], finding)
    if rows.empty:
        return None
    cases = cases_of(rows, finding, {}, "")
    return Split(pd.DataFrame({"scan_id": rows["scan_id"].to_numpy(), "y": cases.y, "p": cases.p}), cases)


def accuracy(cases: Cases, threshold: float) -> dict[str, Measure]:
    """Sensitivity, specificity, PPV and NPV of a threshold, with intervals clustered by patient."""
    positive, truth = cases.p >= threshold, cases.y == 1
    return {
        "sensitivity": _share(cases, positive, truth, "no positive scans"),
        "specificity": _share(cases, ~positive, ~truth, "no negative scans"),
        "ppv": _share(cases, truth, positive, "no scan was called positive"),
        "npv": _share(cases, ~truth, ~positive, "no scan was called negative"),
    }


def _share(cases: Cases, hits: NDArray[np.bool_], counted: NDArray[np.bool_], nothing: str) -> Measure:
    return share(hits, counted, cases.patients, LEVEL, nothing)


def predictive_values(numbers: Mapping[str, Measure], prevalence: float) -> dict[str, Measure]:
    """PPV and NPV where this share of patients has the finding."""
    found: dict[str, Any] = at_prevalence(numbers["sensitivity"], numbers["specificity"], prevalence, LEVEL)
    return {"ppv": found["ppv"], "npv": found["npv"]}


def flips(split: Split, frozen: float, chosen: float) -> pd.DataFrame:
    """The scans that are called otherwise at the chosen threshold than at the frozen one, nearest to it first.

    Columns: scan_id, p, y (0 or 1), now (called positive), right (that is true).
    """
    before, now = split.cases.p >= frozen, split.cases.p >= chosen
    rows = split.rows.assign(now=now, right=now == (split.rows["y"] == 1))[before != now]
    order = (rows["p"] - frozen).abs().sort_values(kind="stable").index
    flipped: pd.DataFrame = rows.loc[order].reset_index(drop=True)
    return flipped


def curves(cases: Cases) -> pd.DataFrame:
    """Sensitivity and specificity at thresholds from 0 to 1: columns threshold, sensitivity, specificity."""
    thresholds = np.linspace(0, 1, STEPS + 1)
    positives, negatives = np.sort(cases.p[cases.y == 1]), np.sort(cases.p[cases.y == 0])
    with np.errstate(invalid="ignore"):
        sensitivity = 1 - np.searchsorted(positives, thresholds) / len(positives) if len(positives) else np.nan
        specificity = np.searchsorted(negatives, thresholds) / len(negatives) if len(negatives) else np.nan
    return pd.DataFrame({"threshold": thresholds, "sensitivity": sensitivity, "specificity": specificity})


def histogram(cases: Cases, bins: int = 20) -> pd.DataFrame:
    """Scans by probability and truth: columns low, high, y, scans."""
    edges = np.linspace(0, 1, bins + 1)
    parts = []
    for label in (0, 1):
        counts = np.histogram(cases.p[cases.y == label], edges)[0]
        parts.append(pd.DataFrame({"low": edges[:-1], "high": edges[1:], "y": label, "scans": counts}))
    return pd.concat(parts, ignore_index=True)


def evaluated(model: Model, split: str, finding: str) -> Mapping[str, Any]:
    """What the model folder's evaluation says of a finding in a split; empty where it says nothing."""
    part: Any = (model.evaluation or {}).get(split, {})
    found: Mapping[str, Any] = part.get("findings", {}).get(finding, {})
    return found


def splits(model: Model) -> list[str]:
    """The splits that the model folder's evaluation knows, the most telling first."""
    names = [
        name for name, part in (model.evaluation or {}).items() if isinstance(part, Mapping) and "findings" in part
    ]
    first = ("test", "all", "oof", "tune", "train")
    return sorted(names, key=lambda name: (first.index(name) if name in first else len(first), name))
