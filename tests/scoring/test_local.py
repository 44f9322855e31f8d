"""Reading, forward passes and writing at the same time: in order, bounded, and never two threads in one network."""

import errno
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.domain import Reason, ScanError
from pipeline.model.backbone import Classifier
from pipeline.model.inference import BATCH
from pipeline.model.package import load_model
from pipeline.model.preprocess import ModelInput
from pipeline.scans.isolated import Finished
from pipeline.scoring import local
from pipeline.scoring.folder import Request, score
from pipeline.scoring.predict import Outcome, Read
from pipeline.scoring.worker import Timed
from tests.scoring.scenes import run_here, save_nifti, save_tiny_model

PATIENCE_S = 20.0


def readings(count: int, refused: Sequence[int] = ()) -> Iterator[Finished]:
    """Scans that are called by their numbers."""
    timed = Timed(ModelInput(np.zeros(1, dtype=np.float32), np.eye(4)), 0.5)
    for n in range(count):
        yield Finished(n, ScanError(Reason.TIMEOUT, "") if n in refused else timed, 0.75)


class Recorder:
    """Stands in for a Predictor: writes down what happens, and gives each scan's number as its row."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.passed: dict[int, threading.Event] = {n: threading.Event() for n in range(9)}
        self.seconds: dict[int, dict[str, float]] = {}

    def outcomes(self, batch: Sequence[Read]) -> list[Outcome]:
        number = batch[0].scan // BATCH
        self.events.append(f"pass {number}")
        self.passed[number].set()
        self.seconds |= {one.scan: one.seconds for one in batch}
        return [Outcome(one.scan, None, one.seconds) for one in batch]

    def row(self, outcome: Outcome) -> int:
        self.events.append(f"write {outcome.scan}")
        return outcome.scan


def test_files_are_written_while_the_next_batch_passes() -> None:
    class Waiting(Recorder):
        def row(self, outcome: Outcome) -> int:
            following = outcome.scan // BATCH + 1
            assert following == 3 or self.passed[following].wait(PATIENCE_S), "writing held up the network"
            return super().row(outcome)

    predictor = Waiting()
    assert list(local._in_batches(readings(3 * BATCH), predictor)) == list(range(3 * BATCH))
    assert predictor.events.index("pass 1") < predictor.events.index("write 0")
    assert predictor.events.index("pass 2") < predictor.events.index(f"write {BATCH}")
    assert predictor.seconds[0] == {"read": 0.5, "preprocess": 0.25}


def test_a_row_comes_when_its_files_are_written_and_refused_scans_at_once() -> None:
    predictor = Recorder()
    written = []
    for row in local._in_batches(readings(3 * BATCH + 2, refused=(1,)), predictor):
        assert f"write {row}" in predictor.events
        written.append(row)
    assert written == [1, 0, *range(2, 3 * BATCH + 2)]


def test_slow_writing_holds_up_reading_so_that_few_inputs_wait() -> None:
    predictor, read, ahead = Recorder(), [], []

    def counted() -> Iterator[Finished]:
        for one in readings(8 * BATCH):
            read.append(one.item)
            yield one

    def slow(outcome: Outcome) -> int:
        time.sleep(0.002)
        ahead.append(len(read) - outcome.scan)
        return outcome.scan

    predictor.row = slow  # type: ignore[method-assign]
    assert list(local._in_batches(counted(), predictor)) == list(range(8 * BATCH))
    assert max(ahead) <= (local.AHEAD + 2) * BATCH


def test_a_full_disk_while_writing_ends_it_and_nothing_more_is_written() -> None:
    class Full(Recorder):
        def row(self, outcome: Outcome) -> int:
            if outcome.scan == 3:
                assert self.passed[1].wait(PATIENCE_S)
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().row(outcome)

    predictor, rows = Full(), []
    with pytest.raises(OSError, match="No space left"):
        rows.extend(local._in_batches(readings(5 * BATCH), predictor))
    assert rows == []
    assert not {f"write {n}" for n in range(3 * BATCH, 5 * BATCH)} & set(predictor.events)


def test_one_thread_at_a_time_runs_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A heat map hooks into the network: a batch that passed meanwhile would run into its hook."""
    embed, inside, threads, most = Classifier.embed, [], set(), [0]

    def watched(self: Classifier, batch: torch.Tensor) -> torch.Tensor:
        inside.append(threading.get_ident())
        threads.add(threading.get_ident())
        most[0] = max(most[0], len(inside))
        time.sleep(0.002)
        found = embed(self, batch)
        inside.remove(threading.get_ident())
        return found

    monkeypatch.setattr(local, "run_isolated", run_here)
    model = save_tiny_model(tmp_path / "model")
    for n in range(3 * BATCH):
        save_nifti(tmp_path / "in" / f"{n:02d}.nii", n)
    monkeypatch.setattr(Classifier, "embed", watched)
    score(Request(model, tmp_path / "in", tmp_path / "out", kinds=("saliency",)))
    assert len(threads) > 1
    assert most == [1]
    assert len(list((tmp_path / "out" / "saliency").iterdir())) == 3 * BATCH


def test_a_models_copies_share_its_lock(tmp_path: Path) -> None:
    from dataclasses import replace

    model = load_model(save_tiny_model(tmp_path / "model"))
    assert replace(model, engine=None).in_use is model.in_use
