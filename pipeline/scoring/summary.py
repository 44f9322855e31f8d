"""What a run over a folder gave: counts, speed, where the time went, and drift; in summary.json and in words."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.console import count
from pipeline.files import write_json
from pipeline.scoring.drift import Comparison

STEPS = ("read", "preprocess", "forward", "write")


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run over a folder gave.

    Attributes:
        found: What the folder holds, in words.
        predictions: The table, predictions.csv.
        units: studies.csv or patients.csv; None where the model judges single scans.
        model: Name and hash of the model.
        backend: What ran the network.
        precision: What it computed in.
        difference: The largest one in probability from torch in fp32, on the first batch of this run; None where it was
            that itself, or had nothing to do.
        statuses: Status -> rows of the table.
        reasons: Status other than ok -> reason -> rows of the table.
        warnings: Code -> rows of the table.
        skipped: Why a file is no scan -> files.
        read_now: Scans that this run has read; the other rows were in the journal or refused by their headers.
        waiting: Scans that this run has left for the next start.
        seconds: Time from the first scan read to the last row.
        steps: Step of STEPS -> seconds of this run, added up over processes that work side by side.
        drift: Comparisons with the model's training cohort; none where it holds no reference.
    """

    found: str
    predictions: Path
    units: Path | None
    model: str
    backend: str
    precision: str
    difference: float | None
    statuses: Counter[str]
    reasons: dict[str, Counter[str]]
    warnings: Counter[str]
    skipped: Counter[str]
    read_now: int
    waiting: int
    seconds: float
    steps: dict[str, float]
    drift: Sequence[Comparison]

    @property
    def complete(self) -> bool:
        """Whether something was found and nothing refused; scans that the model's rules leave out don't count."""
        return self.statuses["ok"] > 0 and self.statuses["rejected"] == 0

    @property
    def scans_per_second(self) -> float:
        """Of the scans that this run has read."""
        return self.read_now / max(self.seconds, 1e-9)


def write_summary(path: Path, summary: Summary) -> None:
    """Write summary.json."""
    write_json(path, {
        "model": summary.model,
        "backend": summary.backend,
        "precision": summary.precision,
        "found": summary.found,
        "rows": summary.statuses.total(),
        "statuses": summary.statuses,
        "reasons": summary.reasons,
        "warnings": summary.warnings,
        "files_that_are_no_scans": summary.skipped.total(),
        "why_files_are_no_scans": summary.skipped,
        "this_run": {
            "scans_read": summary.read_now,
            "scans_left": summary.waiting,
            "seconds": round(summary.seconds, 3),
            "scans_per_second": round(summary.scans_per_second, 3),
            "seconds_by_step": {step: round(summary.steps.get(step, 0.0), 3) for step in STEPS},
            "difference_from_torch_fp32": summary.difference,
        },
        "drift": [asdict(one) for one in summary.drift],
    })  # fmt: skip


def in_words(summary: Summary) -> list[str]:
    """Lines for the terminal."""
    speed = f"in {summary.seconds:.1f} s, {summary.scans_per_second:.1f} scans/s" if summary.read_now else "nothing new"
    lines = [
        f"found: {summary.found}",
        f"{count(summary.statuses.total(), 'scan')} found, {summary.read_now:,} read now ({speed})",
    ]
    if summary.read_now:
        total = max(sum(summary.steps.values()), 1e-9)
        shares = (f"{step} {summary.steps.get(step, 0.0) / total:.0%}" for step in STEPS)
        lines.append(f"  time: {', '.join(shares)}")
    if summary.difference is not None:
        taken, gap = f"{summary.backend} in {summary.precision}", f"{summary.difference:.2g}"
        lines.append(f"  {taken}: at most {gap} in probability from torch in fp32, on the first batch")
    for status, n in sorted(summary.statuses.items()):
        why = listed(summary.reasons.get(status, Counter()))
        lines.append(f"  {status:<12}{n:>7}  {why}".rstrip())
    if summary.warnings:
        lines.append(f"  warnings: {listed(summary.warnings)}")
    if summary.skipped:
        lines.append(f"  files that are no scans: {summary.skipped.total():,} ({listed(summary.skipped)})")
    if summary.waiting:
        lines.append(f"  left for the next start: {count(summary.waiting, 'scan')}")
    lines += drift_in_words(summary.drift)
    if not summary.statuses["ok"]:
        lines.append("nothing usable was found" + ("; the reasons are in the table" if summary.statuses else ""))
    return lines


def drift_in_words(comparisons: Sequence[Comparison]) -> list[str]:
    """What has changed since training, else that nothing has, as far as can be told."""
    if not comparisons:
        return ["beside training: the model folder holds nothing to compare with; models trained from now on do"]
    lines = ["beside training:"]
    for one in comparisons:
        numbers = "" if one.now is None or one.then is None else f" ({one.now:.3f} now, {one.then:.3f} then)"
        lines.append(f"  {'! ' if one.changed else ''}{one.what}: {one.verdict}{numbers}")
    return lines


def listed(counts: Counter[str]) -> str:
    """For example "truncated 3, modality 1"."""
    return ", ".join(f"{name} {n}" for name, n in counts.most_common())
