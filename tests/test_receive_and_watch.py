"""A receiver and a watching score as two processes: what is pushed becomes rows, each once, until Ctrl-C ends both."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import pytest
from pydicom.dataset import Dataset

from pipeline.console import DONE
from pipeline.scans.receiver import SUCCESS
from pipeline.scoring.folder import Request, score
from pipeline.scoring.journal import row_of
from tests.scans.fake_pacs import instances
from tests.scans.test_receiver import send
from tests.scoring.scenes import save_tiny_model
from tests.scoring.test_folder import timeless
from tests.signals import heeded

WITHIN_S = 120


def study(number: int, slices: int) -> list[Dataset]:
    found = instances(slices, f"1.2.{number}.4")
    for one in found:
        one.StudyInstanceUID, one.PatientID = f"1.2.{number}", f"P{number}"
    return found


def start(module: str, *words: object) -> subprocess.Popen[str]:
    with heeded():
        return subprocess.Popen(
            [sys.executable, "-m", f"pipeline.{module}", *map(str, words)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip


def until(done: Callable[[], bool], running: subprocess.Popen[str]) -> None:
    """Wait while a process works."""
    end = time.monotonic() + WITHIN_S
    while not done():
        assert running.poll() is None, running.stdout.read()
        assert time.monotonic() < end, f"not within {WITHIN_S} s"
        time.sleep(0.1)


def ended(running: subprocess.Popen[str]) -> str:
    """What a process said that Ctrl-C has ended."""
    running.send_signal(signal.SIGINT)
    said, _ = running.communicate(timeout=WITHIN_S)
    assert running.returncode == DONE, said
    return said


def pushed(port: int, *sent: Sequence[Dataset]) -> None:
    for one in sent:
        assert send(port, *one) == [SUCCESS] * len(one)


@pytest.mark.slow
def test_what_is_pushed_is_scored_once_and_both_end_cleanly(tmp_path: Path) -> None:
    model, incoming, out = save_tiny_model(tmp_path / "model"), tmp_path / "in", tmp_path / "out"
    receiver = start("receive", "--aet", "SCANLINE", "--port", 0, "--out", incoming, "--min-free-gb", 0)
    port = int(receiver.stdout.readline().split("port ")[1].split(";")[0])
    scorer = start("score", model, incoming, "--out", out, "--workers", 1, "--watch", "--settle-seconds", 1)
    assert scorer.stdout.readline().startswith("watching ")
    first, second = study(1, 6), study(2, 8)
    pushed(port, first)
    until((out / "predictions.csv").exists, scorer)
    pushed(port, second[:5], second[5:])
    pushed(port, first)  # a modality that sends again
    score(Request(model, incoming, tmp_path / "whole", workers=1))
    until(lambda: timeless(out) == timeless(tmp_path / "whole"), scorer)
    assert "2 scans found" in ended(scorer)
    assert "20 files received" in ended(receiver)
    assert len(list(incoming.rglob("*.dcm"))) == 14
    rows = pd.read_csv(out / "predictions.csv")
    assert list(rows["status"]) == ["ok", "ok"]
    kept = [row_of(line) for line in (out / "journal.jsonl").read_bytes().splitlines(keepends=True)[1:]]
    assert {row.scan_id for row in kept} == set(rows["scan_id"])
    assert timeless(out) == timeless(tmp_path / "whole")
