"""How far one comes without the anatomy: from the header alone, from the image's border, from a thumbnail.

A label that such a probe predicts well may be learned from it by a network too (a scanner, a table, a marker). Each
probe is a logistic regression, judged on patients that it did not see.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from pipeline.cohort.leakage import patients as patients_of
from pipeline.evaluation.accuracy import measures
from pipeline.evaluation.cases import Cases, numbered
from pipeline.evaluation.intervals import Measure, undefined
from pipeline.model.run import Trained
from pipeline.sections import EvaluateSection

Array = NDArray[np.float64]

HEADER_COLUMNS = ("modality", "manufacturer", "model_name", "orientation", "n_instances", "shape", "spacing_mm",
                  "sex", "age", "body_part", "contrast_agent")  # fmt: skip
"""Columns of scans.csv that a header probe may look at."""
MOST_VALUES = 30
"""The more frequent values of a column become inputs of their own; rarer ones are one."""
BORDER = 0.08
"""Width of the border, as a share of the image."""
THUMBNAIL = {2: 8, 3: 4}
"""Edge of a thumbnail, by dimensions."""
FOLDS = 5
SEED = 0
CHUNK = 64
"""Inputs held in memory at once."""


def probe_run(trained: Trained, section: EvaluateSection) -> dict[str, dict[str, Measure]]:
    """What `probe_all` gives for the scans of a run outside its test split."""
    cohort = trained.cohort
    rows = np.flatnonzero(trained.usable & (cohort.table["split"] != "test").to_numpy())
    looks = all_looks(cohort.table.iloc[rows], trained.inputs.arrays, rows)
    patients = list(patients_of(cohort.table).iloc[rows])
    return probe_all(looks, trained.y[rows], cohort.findings, patients, section)


def all_looks(table: pd.DataFrame, inputs: NDArray[np.float32], rows: NDArray[np.intp]) -> dict[str, Array]:
    """Probe -> what it looks at, [row, value].

    Args:
        table: Rows of scans.csv.
        inputs: [scan, channel, (z,) y, x] what the network sees; few at a time are held in memory.
        rows: Which of the inputs belong to the rows of `table`.
    """
    chunks = [rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK)]
    looked = [(border_look(part), thumbnail_look(part)) for part in (inputs[chunk] for chunk in chunks)]
    border, thumbnail = (np.concatenate(list(kind)) for kind in zip(*looked, strict=True))
    return {"header": header_look(table), "border": border, "thumbnail": thumbnail}


def probe_all(
    looks: Mapping[str, Array], y: NDArray[np.float32], findings: Sequence[str], patients: Sequence[str],
    section: EvaluateSection,
) -> dict[str, dict[str, Measure]]:  # fmt: skip
    """Finding -> probe ("header", "border", "thumbnail") -> its AUROC with an interval.

    Args:
        looks: What `all_looks` gave, without the test split.
        y: [row, finding] labels, NaN where missing.
        patients: Of each row.
        section: Level, resamples and seed of the intervals.
    """
    groups = numbered(np.asarray(patients, dtype=str))
    return {
        finding: {name: probe(look, y[:, k].astype(float), groups, section) for name, look in looks.items()}
        for k, finding in enumerate(findings)
    }


def probe(look: Array, y: Array, patients: NDArray[np.intp], section: EvaluateSection) -> Measure:
    """The cross-validated AUROC of a logistic regression on `look` [row, value], patients never split."""
    known = ~np.isnan(y)
    look, y, patients = look[known], y[known], numbered(patients[known])
    least = min((len(np.unique(patients[y == label])) for label in (0.0, 1.0)), default=0)
    if least < 2 or not look.shape[1]:
        return undefined(section.level, len(y), "too few patients of one class, or nothing to look at")
    p = np.full(len(y), np.nan)
    folds = StratifiedGroupKFold(min(FOLDS, least), shuffle=True, random_state=SEED)
    for learn, judge in folds.split(look, y, patients):
        if len(np.unique(y[learn])) == 2:
            p[judge] = _regression().fit(look[learn], y[learn]).predict_proba(look[judge])[:, 1]
    judged = ~np.isnan(p)
    cases = Cases(y[judged], p[judged], numbered(patients[judged]))
    if cases.one_class:
        return undefined(section.level, cases.n, cases.one_class)
    return measures(cases, section, ("auroc",))["auroc"]


def header_look(table: pd.DataFrame) -> Array:
    """[row, value]: numbers as they are (missing ones at the median and marked), words as one column a value."""
    parts = []
    for column in (c for c in HEADER_COLUMNS if c in table):
        words = table[column].map(lambda value: "" if pd.isna(value) else str(value))
        if column in ("shape", "spacing_mm"):
            parts.append(np.array([[float(n) for n in word.split("x")] for word in words]))
            continue
        numbers = pd.to_numeric(words, errors="coerce")
        if numbers.notna().any() and (numbers.notna() | (words == "")).all():
            parts += [numbers.fillna(numbers.median()).to_numpy(float)[:, None], (words == "").to_numpy(float)[:, None]]
            continue
        frequent = words.value_counts().index[:MOST_VALUES]
        parts.append(np.stack([(words == value).to_numpy(float) for value in frequent], axis=1))
    look = np.concatenate(parts, axis=1) if parts else np.zeros((len(table), 0))
    return np.asarray(look[:, look.std(axis=0) > 0])


def border_look(inputs: NDArray[np.float32]) -> Array:
    """[row, value]: mean and standard deviation of each side's border, in the plane."""
    height, width = inputs.shape[-2:]
    y, x = max(1, round(BORDER * height)), max(1, round(BORDER * width))
    sides = (inputs[..., :y, :], inputs[..., -y:, :], inputs[..., :, :x], inputs[..., :, -x:])
    flat = [np.asarray(side, dtype=float).reshape(len(inputs), -1) for side in sides]
    return np.stack([value for side in flat for value in (side.mean(axis=1), side.std(axis=1))], axis=1)


def thumbnail_look(inputs: NDArray[np.float32]) -> Array:
    """[row, value]: means over a coarse grid of blocks."""
    dimensions = inputs.ndim - 2
    small = np.asarray(inputs, dtype=float).mean(axis=1)
    for axis in range(1, dimensions + 1):
        edges = np.array_split(np.arange(small.shape[axis]), min(THUMBNAIL[dimensions], small.shape[axis]))
        small = np.stack([small.take(block, axis).mean(axis) for block in edges], axis)
    return np.asarray(small.reshape(len(inputs), -1))


def _regression() -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000, class_weight="balanced"))
