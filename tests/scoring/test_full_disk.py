"""No space left, at ten moments from the first byte to the last: what was there stays, and the next start goes on."""

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline import score
from pipeline.console import DISK_FULL, DONE
from pipeline.files import read_json
from pipeline.scoring import local
from pipeline.scoring.journal import row_of
from tests.scoring.scenes import run_here, save_nifti, save_tiny_model
from tests.scoring.test_folder import timeless

POINTS = 10


class Disk:
    """Counts what asks the system for space, and refuses from one such call on."""

    def __init__(self, patch: pytest.MonkeyPatch, full_at: float = float("inf")) -> None:
        self.calls, self._full_at = 0, full_at
        for module, name in ((os, "write"), (os, "fsync"), (tempfile, "mkstemp"), (Path, "write_bytes"), (os, "mkdir")):
            patch.setattr(module, name, self._counted(getattr(module, name)))

    def _counted(self, call: Callable[..., object]) -> Callable[..., object]:
        def counted(*given: object, **named: object) -> object:
            self.calls += 1
            if self.calls > self._full_at:
                raise OSError(errno.ENOSPC, "No space left on device")
            return call(*given, **named)

        return counted


def run(model: Path, root: Path, out: str) -> int:
    return score.main([str(word) for word in (model, root / "in", "--out", root / out, "--saliency")])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("model") / "m", unit="study")


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "run_isolated", run_here)


def test_at_ten_points_nothing_is_lost(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_nifti(tmp_path / "in" / "0.nii", 0, (12, 12, 10))
    outs = [f"out{n}" for n in range(POINTS)]
    for out in (*outs, "whole"):
        assert run(model, tmp_path, out) == DONE
    for n in range(1, 4):
        save_nifti(tmp_path / "in" / f"{n}.nii", n, (12, 12, 10))
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(patch)
        assert run(model, tmp_path, "whole") == DONE
    assert disk.calls > 2 * POINTS
    for out, point in zip(outs, np.linspace(0, disk.calls - 1, POINTS).astype(int), strict=True):
        journal, table = (tmp_path / out / "journal.jsonl").read_bytes(), timeless(tmp_path / out)
        with pytest.MonkeyPatch.context() as patch:
            Disk(patch, point)
            assert run(model, tmp_path, out) == DISK_FULL, point
        assert "no space left on the disk" in capsys.readouterr().err
        lines = (tmp_path / out / "journal.jsonl").read_bytes().splitlines(keepends=True)
        assert all(row_of(line) for line in lines[1:])
        assert b"".join(lines).startswith(journal)
        assert timeless(tmp_path / out) in (table, timeless(tmp_path / "whole"))
        assert len(pd.read_parquet(tmp_path / out / "predictions.parquet")) in (1, 4)
        assert read_json(tmp_path / out / "summary.json")["rows"] in (1, 4)
        assert not list((tmp_path / out).rglob("*.part"))
        assert run(model, tmp_path, out) == DONE
        assert timeless(tmp_path / out) == timeless(tmp_path / "whole")
        maps = {path.name: path.read_bytes() for path in (tmp_path / out / "saliency").iterdir()}
        assert maps == {path.name: path.read_bytes() for path in (tmp_path / "whole" / "saliency").iterdir()}
