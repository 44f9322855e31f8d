"""Training is killed at random moments and resumed: python -m pytest tests/slow/test_train_kill.py -m slow."""

import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from pipeline.prepare import main as prepare
from tests.test_train import config_file, scans

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

__all__ = ["scans"]

KILLS = 8
SECTIONS = {
    "train": {"epochs": 12, "ema": 0.9, "accumulate": 2},
    "model": {"dropout": 0.3},
    "augment": {"mixup": 0.2, "elastic": 0.03},
}


def command(config: Path, cohort: Path, out: Path, *words: str) -> list[str]:
    where = ["--cohort.folder", str(cohort), "--out", str(out)]
    return [sys.executable, "-m", "pipeline.train", str(config), *where, *words]


def test_killed_at_random_moments_the_weights_are_the_same_to_the_bit(scans: Path, tmp_path: Path) -> None:
    cohort, config = tmp_path / "cohort", config_file(tmp_path, **SECTIONS)
    words = [scans / "scans", "--labels", scans / "labels.csv", "--label", "bright", "--out", cohort, "--workers", "0"]
    assert prepare([str(w) for w in words]) == 0
    started = time.monotonic()
    subprocess.run(command(config, cohort, tmp_path / "whole"), check=True, capture_output=True)
    usual = time.monotonic() - started

    moments, killed = random.Random(0), 0
    while killed < KILLS:
        resume = ["--resume"] if (tmp_path / "cut" / "config.yaml").is_file() else []
        process = subprocess.Popen(
            command(config, cohort, tmp_path / "cut", *resume), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        # The first blow falls when it has begun: on a machine that has become faster, another may meet no process.
        while not killed and process.poll() is None and not (tmp_path / "cut" / "history.csv").is_file():
            time.sleep(0.01)
        try:
            process.wait(moments.uniform(0.2, 1.0) * usual if killed else 0.01)
            break  # it came to its end before the blow
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            killed += 1
    done = subprocess.run(
        command(config, cohort, tmp_path / "cut", "--resume"), check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert killed > 0
    a, b = (load_file(tmp_path / name / "model" / "weights.safetensors") for name in ("whole", "cut"))
    assert all(np.array_equal(a[k], b[k]) for k in a)
    assert (tmp_path / "whole" / "predictions.csv").read_bytes() == (tmp_path / "cut" / "predictions.csv").read_bytes()
    assert not list((tmp_path / "cut").rglob(".*.part")), "files that were never finished are left behind"
