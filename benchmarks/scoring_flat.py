"""Is `score` as fast and as small at its end as at its start? Hard links of 100 small scans, 1 % of them broken.

    python -m benchmarks.scoring_flat [SCANS]        10,000 scans: 5 minutes on 2 cores

Memory is that of the process and of those that it has started, sampled every 100 scans. Speed is the median over
stretches of 100 scans.
"""

import os
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import nibabel as nib
import numpy as np

from benchmarks.measure import Target, console, verdict
from benchmarks.scoring import write_model
from pipeline.scoring.folder import Request, checked_model, find, open_journal, score_found

SCANS, ORIGINALS, EVERY, EARLY = 10_000, 100, 100, 500
MOST_MEMORY, LEAST_SPEED = 1.05, 0.95


@dataclass
class Watcher:
    """What was seen after each `every` rows: bytes in memory, seconds, open files."""

    every: int = EVERY
    rows: int = 0
    memory: list[int] = field(default_factory=list)
    at: list[float] = field(default_factory=lambda: [time.perf_counter()])
    files: list[int] = field(default_factory=list)

    def __call__(self) -> bool:
        """Called after each row; never stops the run."""
        self.rows += 1
        if self.rows % self.every == 0:
            self.memory.append(memory_bytes())
            self.at.append(time.perf_counter())
            self.files.append(sum(1 for _ in Path("/proc/self/fd").iterdir()))
        return False


def memory_bytes() -> int:
    """Resident memory of this process and its children, what they share counted once for each (Linux)."""
    children = [p for task in Path("/proc/self/task").glob("*/children") for p in task.read_text().split()]
    pages = [int(Path("/proc", one, "statm").read_text().split()[1]) for one in ("self", *children)]
    return sum(pages) * os.sysconf("SC_PAGE_SIZE")


def write_links(folder: Path, count: int) -> Path:
    """`count` files: hard links of 99 small volumes and of one that is torn."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for n in range(ORIGINALS):
        volume = nib.Nifti1Image(rng.normal(0, 300, (48, 48, 24)).astype(np.int16), np.diag([5.0, 5.0, 5.0, 1.0]))
        nib.save(volume, folder / f"{n:06d}.nii.gz")
    torn = folder / "000000.nii.gz"
    torn.write_bytes(torn.read_bytes()[:-5000])
    for n in range(ORIGINALS, count):
        (folder / f"{n:06d}.nii.gz").hardlink_to(folder / f"{n % ORIGINALS:06d}.nii.gz")
    return folder


def run(root: Path, count: int, every: int = EVERY) -> Watcher:
    """What was seen while `count` scans were scored."""
    write_model(root / "model", "resnet10", 0.125, 32)
    request = Request(root / "model", write_links(root / "scans", count), root / "out")
    model, watcher = checked_model(request), Watcher(every)
    found = find(request, model)
    with open_journal(request, model) as journal:
        watcher.at = [time.perf_counter()]
        summary = score_found(request, model, journal, found, stopped=watcher)
    if (summary.statuses["ok"], summary.statuses["rejected"]) != (count - count // ORIGINALS, count // ORIGINALS):
        raise RuntimeError(f"{summary.statuses} of {count} scans; the measurement does not matter")
    return watcher


def targets(seen: Watcher) -> list[Target]:
    """What is claimed, and what was measured."""
    stretches = [late - early for early, late in zip(seen.at[:-1], seen.at[1:], strict=True)]
    fifth = max(1, len(stretches) // 5)
    speed = median(stretches[1 : fifth + 1]) / median(stretches[-fifth:])
    early = EARLY // seen.every - 1
    memory, files = (max(one[-fifth:]) / one[early] for one in (seen.memory, seen.files))
    return [
        Target(f"most memory of the last fifth over that at scan {EARLY}", memory, at_most=MOST_MEMORY),
        Target("speed of the last fifth over the first", speed, at_least=LEAST_SPEED),
        Target("open files, likewise", files, at_most=1.0),
    ]


def main() -> int:
    """Measure, print, and say which targets hold."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else SCANS
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        seen = run(Path(name), count)
    wall = seen.at[-1] - seen.at[0]
    console.print(f"{seen.rows} scans, {seen.rows / wall:.0f} a second; MiB every 1,000: ")
    console.print(" ".join(f"{one >> 20}" for one in seen.memory[9::10] or seen.memory))
    return verdict(targets(seen))


if __name__ == "__main__":
    sys.exit(main())
