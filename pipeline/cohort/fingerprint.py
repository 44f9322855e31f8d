"""What a cohort is, in numbers: fingerprint.json, from which configs are chosen and changes are noticed."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

import pipeline
from pipeline.cohort.labels import SPLITS
from pipeline.cohort.leakage import duplicated, patients
from pipeline.cohort.reading import Measured
from pipeline.cohort.task import Task, targets_of
from pipeline.domain import ReadRules
from pipeline.sections import CohortSection

SCHEMA_VERSION = 1
"""Raised when the meaning of fingerprint.json or scans.csv changes."""

PERCENTILES = (0.5, 5, 25, 50, 75, 95, 99.5)
"""Of the intensities, pooled over a sample of voxels from each scan."""


def fingerprint(
    table: pd.DataFrame,
    facts: Mapping[str, Measured],
    task: Task | None,
    section: CohortSection,
    rules: ReadRules,
    root: Path,
    given: bool,
) -> dict[str, object]:
    """The content of fingerprint.json.

    Args:
        table: scans.csv.
        facts: By scan_id, for every row of the table.
        given: The split came from labels.csv.
    """
    labels = task.labels if task else ()
    read = [facts[scan_id] for scan_id in table["scan_id"]]
    outside_test = [f for f, split in zip(read, table["split"], strict=True) if split != "test"]
    return {
        "schema_version": SCHEMA_VERSION,
        "created_by": f"scanline {pipeline.__version__}",
        "scans_root": str(root),
        "scans_sha256": scans_sha256(table, labels),
        "task": _task(task),
        "split": _split(section, given) if task else None,
        "group_by": section.group_by if task else None,
        "read": asdict(rules),
        "counts": counts(table, task),
        "modalities": _frequencies(table["modality"]),
        "units": _frequencies(f.unit for f in read),
        "colour_scans": sum(f.colour for f in read),
        "shape": _ranges([f.shape for f in read]),
        "spacing_mm": _ranges([f.spacing_mm for f in read]),
        "intensities_outside_test": {unit: _intensities(outside_test, unit) for unit in sorted({f.unit for f in read})},
    }


def scans_sha256(table: pd.DataFrame, labels: Sequence[str]) -> str:
    """A hash over what decides a result: ids, patients, voxels, labels, split and fold; row order does not count."""
    columns = ["scan_id", "patient_id", "content_sha256", *labels, "split", "fold"]
    rows = table[columns].astype(str).sort_values("scan_id")
    digest = hashlib.sha256("\x1f".join(columns).encode())
    for row in rows.itertuples(index=False):
        digest.update(("\x1e" + "\x1f".join(row)).encode())
    return digest.hexdigest()


def counts(table: pd.DataFrame, task: Task | None) -> dict[str, object]:
    """Scans and patients, in all and in each split, with positives and negatives of each finding."""
    found: dict[str, object] = {
        "scans": len(table),
        "patients": int(patients(table).nunique()),
        "without_patient_id": int((table["patient_id"] == "").sum()),
        "identical_images": int(duplicated(table).sum()),
    }
    if task:
        y = targets_of(table, task)
        for name in (*SPLITS, ""):
            rows = table["split"] == name
            found[name or "not_used"] = {
                "scans": int(rows.sum()),
                "patients": int(patients(table)[rows].nunique()),
                "positive": {str(finding): int((y[finding][rows] == 1).sum()) for finding in y},
                "negative": {str(finding): int((y[finding][rows] == 0).sum()) for finding in y},
            }
    return found


def _task(task: Task | None) -> dict[str, object] | None:
    return asdict(task) if task else None


def _split(section: CohortSection, given: bool) -> dict[str, object]:
    settings = section.model_dump(mode="json", exclude={"folder"})
    return {"origin": "labels.csv" if given else "prepare", **settings}


def _frequencies(values: Iterable[str]) -> dict[str, int]:
    found = pd.Series(list(values), dtype=str).value_counts()
    return {str(value): int(n) for value, n in found.sort_index().items()}


def _ranges(rows: Sequence[tuple[float, ...]]) -> dict[str, list[float]] | None:
    """Smallest, middle and largest value along i, j and k."""
    if not rows:
        return None
    values = np.array(rows, dtype=float)
    return {
        "min": [round(float(v), 4) for v in values.min(axis=0)],
        "median": [round(float(v), 4) for v in np.median(values, axis=0)],
        "max": [round(float(v), 4) for v in values.max(axis=0)],
    }


def _intensities(facts: Sequence[Measured], unit: str) -> dict[str, float] | None:
    samples = [f.sample for f in facts if f.unit == unit]
    if not samples:
        return None
    pooled = np.concatenate(samples).astype(float)
    percentiles = zip(PERCENTILES, np.percentile(pooled, PERCENTILES), strict=True)
    found = {f"p{p:g}": float(v) for p, v in percentiles}
    return {k: round(v, 3) for k, v in {**found, "mean": float(pooled.mean()), "std": float(pooled.std())}.items()}
