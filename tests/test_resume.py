"""`train --resume` beside a cohort or a config that changed, an early stop, and checkpoints that were lost."""

from pathlib import Path

import pandas as pd
import pytest

from pipeline.prepare import main as prepare
from tests.test_train import cohort, cohort_of, scans, train

__all__ = ["cohort", "scans"]


def test_a_cohort_that_changed_is_refused(scans, tmp_path, capsys) -> None:
    """Other folds under half of the networks: each would judge patients that it has learned from."""
    changing = cohort_of(scans, tmp_path / "cohort", "bright")
    assert train(tmp_path, changing, "--train.epochs", "1") == 0
    assert train(tmp_path, changing, "--train.epochs", "1", "--resume") == 0
    words = [scans / "scans", "--labels", scans / "labels.csv", "--label", "bright", "--out", changing]
    assert prepare([str(w) for w in words] + ["--workers", "0", "--cohort.seed", "7"]) == 0
    assert train(tmp_path, changing, "--train.epochs", "1", "--resume") == 2
    assert "are not those that this run began with" in capsys.readouterr().err


def test_keys_that_changed_are_named(cohort, tmp_path, capsys) -> None:
    assert train(tmp_path, cohort, "--train.epochs", "1") == 0
    assert train(tmp_path, cohort, "--train.epochs", "2", "--name", "other", "--resume") == 2
    told = capsys.readouterr().err
    assert "  name: 'other' now, 'tiny' before" in told
    assert "  train.epochs: 2 now, 1 before" in told
    assert "train.seed" not in told


def test_a_run_killed_after_its_early_stop_does_not_train_on(cohort, tmp_path) -> None:
    words = ("--train.epochs", "20", "--train.patience", "2")
    assert train(tmp_path, cohort, *words) == 0
    run = tmp_path / "run"
    epochs, before = len(pd.read_csv(run / "history.csv")), (run / "predictions.csv").read_bytes()
    assert epochs < 20
    (run / "checkpoints" / "single" / "finished").unlink()  # the last thing that is written
    assert train(tmp_path, cohort, *words, "--resume") == 0
    assert len(pd.read_csv(run / "history.csv")) == epochs
    assert (run / "predictions.csv").read_bytes() == before


@pytest.mark.parametrize("lost", ["best", "last", "both"])
@pytest.mark.parametrize("folds", [0, 3])
def test_checkpoints_lost_after_the_end_are_made_again(cohort, tmp_path, capsys, lost, folds) -> None:
    words = ("--train.epochs", "2", "--train.folds", str(folds))
    assert train(tmp_path, cohort, *words) == 0
    before = (tmp_path / "run" / "predictions.csv").read_bytes()
    home: Path = tmp_path / "run" / "checkpoints" / ("fold1" if folds else "single")
    (home / "last.ckpt").write_bytes((home / "last.ckpt").read_bytes()[:2000] if lost != "best" else b"")
    if lost != "last" and not folds:
        (home / "best.ckpt").unlink()
    capsys.readouterr()
    assert train(tmp_path, cohort, *words, "--resume") == 0
    again = bool(folds) or lost != "last"
    assert ("is trained again" in capsys.readouterr().out) == again
    assert (tmp_path / "run" / "predictions.csv").read_bytes() == before
