"""The viewer as a user starts it: a process of its own, for the tests of the launcher and of the browser."""

import os
import re
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

START_SECONDS = 120
"""A cold import of torch on a busy machine takes its time."""


@dataclass
class Viewer:
    """A running viewer: its process, its port, what it was given, its user's data folder, and all that it printed."""

    process: subprocess.Popen[str]
    model: Path
    scans: Path
    lines: list[str]
    data: Path

    @property
    def link(self) -> str:
        """The newest link: each one works once."""
        return next(found[0] for line in reversed(self.lines) if (found := re.search(r"http://\S+\?token=\S+", line)))

    @property
    def port(self) -> int:
        return int(re.search(r":(\d+)/", self.link)[1])


def start_viewer(
    model: Path, scans: Path, cwd: Path, *options: str, environment: dict[str, str] | None = None
) -> Viewer:
    """The viewer, started in another folder than the repository's, once it printed its link."""
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-m", "app", "--model", str(model), "--scans", str(scans), "--port", "0", *options],
        cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "XDG_DATA_HOME": str(cwd / "data")},
    )  # fmt: skip
    viewer = Viewer(process, model, scans, [], cwd / "data")
    threading.Thread(target=lambda: viewer.lines.extend(process.stdout), daemon=True).start()
    wanted = time.monotonic() + START_SECONDS
    while not any("?token=" in line for line in viewer.lines):
        if process.poll() is not None or time.monotonic() > wanted:
            stop_viewer(viewer)
            pytest.fail("the viewer did not start:\n" + "".join(viewer.lines))
        time.sleep(0.1)
    return viewer


def stop_viewer(viewer: Viewer) -> None:
    """End the process that `start_viewer` began."""
    viewer.process.terminate()
    try:
        viewer.process.wait(20)
    except subprocess.TimeoutExpired:
        viewer.process.kill()
        viewer.process.wait(5)
    if viewer.process.stdout:
        viewer.process.stdout.close()
