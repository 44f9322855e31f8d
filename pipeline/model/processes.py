"""Training in several processes: which one this is. The first writes; the others learn with it and keep silent."""

import os
import time
from pathlib import Path

from pipeline.console import stderr, stdout
from pipeline.domain import UsageError

RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID")
"""Where torchrun, SLURM and Lightning's own launcher write a process's number."""
WAIT_S = 6 * 3600.0
"""Longest wait for the first process to read all scans."""


def rank() -> int:
    """This process's number among those of one run, 0 for the first."""
    return next((int(os.environ[name]) for name in RANKS if os.environ.get(name, "").isdigit()), 0)


def silence_others() -> None:
    """Print nothing in any process but the first."""
    stdout.quiet = stderr.quiet = rank() > 0


def wait_for(path: Path, what: str) -> None:
    """Return when the first process has written `path`.

    Raises:
        UsageError: If it has not after six hours.
    """
    end = time.monotonic() + WAIT_S
    while not path.is_file():
        if time.monotonic() > end:
            raise UsageError(f"the first process has not written {what} ({path}); all need the same file system")
        time.sleep(0.2)
