"""COHORT/cache, where training keeps the inputs that it has read: what of it must not outlive the next `prepare`."""

from pathlib import Path

from pipeline.domain import Reason
from pipeline.files import read_json

CACHE = "cache"
"""Folder in a COHORT; one sub-folder a combination of scans and rules."""
FINISHED = "done.json"
"""Says that a sub-folder is complete, and which of its rows were refused: row -> [reason, detail, status]."""
PASSING = frozenset({Reason.IO_ERROR, Reason.TIMEOUT})
"""Reasons that may be gone tomorrow: a share that was away, a machine that was busy."""


def forget_passing_refusals(cohort: Path) -> None:
    """Open again every cache that holds a refusal of a passing kind, so that the next training reads its scans anew."""
    for finished in sorted((cohort / CACHE).glob(f"*/{FINISHED}")):
        try:
            refusals = read_json(finished).values()
        except (OSError, ValueError):
            continue  # training will not take it for finished either, and says so
        if any(isinstance(refusal, list) and refusal[:1] and refusal[0] in PASSING for refusal in refusals):
            finished.unlink()
