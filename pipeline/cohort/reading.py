"""Every scan read once: shape, spacing, hash of the voxels. In processes, so that a crash costs one row."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pipeline.cohort.likeness import image_hash
from pipeline.console import Report
from pipeline.domain import ReadRules, Rejection, Scan, ScanError, Volume, Voxels
from pipeline.scans.find import read_volume
from pipeline.scans.isolated import run_isolated

SAMPLE = 256
"""Voxels of a scan, evenly spread, that go into the fingerprint's percentiles."""

CHUNK_BYTES = 1 << 26
"""How much of a volume is copied at once for its hash."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What reading a scan tells.

    Attributes:
        shape, spacing_mm: Along i, j and k (Right, Anterior, Superior).
        orientation: Axis codes of the grid as stored.
        sample: float32 [n], some of the voxels in `unit`.
        colour: Whether a voxel is red, green and blue.
    """

    scan_id: str
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    orientation: str
    unit: str
    content_sha256: str
    image_hash: str
    warnings: tuple[str, ...]
    sample: NDArray[np.float32] = field(repr=False)
    colour: bool = False


def content_sha256(voxels: Voxels) -> str:
    """SHA-256 over the shape and the float32 voxels (little-endian, k fastest), 64 hex digits.

    Spacing and position don't count: a copy with another header is still the same image.
    """
    digest = hashlib.sha256(("x".join(map(str, voxels.shape)) + "\n").encode())
    step = max(1, CHUNK_BYTES // max(1, voxels[:1].nbytes))
    for start in range(0, len(voxels), step):
        chunk = np.ascontiguousarray(voxels[start : start + step], dtype="<f4") + np.float32(0)  # -0 becomes 0
        digest.update(chunk.data)
    return digest.hexdigest()


def measured(scan: Scan, volume: Volume) -> Measured:
    """The facts of one volume that tables and fingerprint hold."""
    return Measured(
        scan.scan_id, volume.shape, volume.spacing_mm, volume.orientation, volume.unit,
        content_sha256(volume.voxels), image_hash(volume.voxels), volume.warnings, spread_sample(volume.voxels),
        colour=volume.voxels.ndim == 4,
    )  # fmt: skip


def spread_sample(voxels: Voxels, n: int = SAMPLE) -> NDArray[np.float32]:
    """`n` of the voxels, evenly spread: steps of the golden ratio, which no row length divides."""
    places = (np.arange(n) * ((5**0.5 - 1) / 2) % 1 * voxels.size).astype(np.int64)
    return voxels[np.unravel_index(np.unique(places), voxels.shape)].astype(np.float32)


def measure(scan: Scan, rules: ReadRules) -> Measured:
    """What reading one scan tells.

    Raises:
        ScanError: If the scan is refused.
    """
    return measured(scan, read_volume(scan, rules))


Measure = Callable[[Scan, ReadRules], Measured]


def measure_all(
    scans: Sequence[Scan], rules: ReadRules, workers: int, report: Report | None = None, measure: Measure = measure
) -> tuple[dict[str, Measured], list[Rejection]]:
    """Facts by scan_id, and rejections, of scans read in `workers` processes (0: in this one)."""
    facts: dict[str, Measured] = {}
    rejections: list[Rejection] = []
    work = partial(_outcome, measure=measure, rules=rules)
    found = (
        ((f.item, f.result) for f in run_isolated(scans, work, workers)) if workers else ((s, work(s)) for s in scans)
    )
    for done, (scan, outcome) in enumerate(found, start=1):
        if isinstance(outcome, ScanError):
            files = (*scan.paths, *scan.aliases)
            rejections.append(Rejection(scan.path, outcome.reason, outcome.detail, scan.scan_id, files))
        else:
            facts[scan.scan_id] = outcome
        if report:
            report(done, len(scans))
    return facts, rejections


def _outcome(scan: Scan, measure: Measure, rules: ReadRules) -> Measured | ScanError:
    try:
        return measure(scan, rules)
    except ScanError as error:
        return error
