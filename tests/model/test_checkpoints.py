import resource
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from pipeline.model.checkpoints import BEFORE, LAST, WholeFiles, newest
from tests.model.tiny import save_tiny


def save(home, epoch):
    WholeFiles().save_checkpoint({"epoch": epoch, "state_dict": {"w": torch.ones(3)}}, home / LAST)


def epoch_of(path):
    return torch.load(path, weights_only=True)["epoch"]


def test_the_last_two_are_kept(tmp_path) -> None:
    for epoch in range(3):
        save(tmp_path, epoch)
    assert (epoch_of(tmp_path / LAST), epoch_of(tmp_path / BEFORE)) == (2, 1)
    assert sorted(p.name for p in tmp_path.iterdir()) == [BEFORE, LAST]
    assert newest(tmp_path) == tmp_path / LAST


@pytest.mark.parametrize("left", [0, 10, 0.5, 0.99])
def test_a_damaged_one_is_passed_over_aloud(tmp_path, capsys, left) -> None:
    save(tmp_path, 0)
    save(tmp_path, 1)
    content = (tmp_path / LAST).read_bytes()
    (tmp_path / LAST).write_bytes(content[: int(left * len(content)) if isinstance(left, float) else left])
    assert newest(tmp_path) == tmp_path / BEFORE
    assert "last.ckpt is damaged" in capsys.readouterr().out


def test_a_full_disk_leaves_the_model_folder_that_was_there(tmp_path) -> None:
    model = save_tiny(tmp_path / "model")
    before = {p.name: p.read_bytes() for p in model.iterdir()}
    with full_disk(), pytest.raises(OSError, match="File too large"):
        save_tiny(model)
    assert {p.name: p.read_bytes() for p in model.iterdir()} == before


def test_none_is_none(tmp_path) -> None:
    assert newest(tmp_path) is None


@contextmanager
def full_disk() -> Iterator[None]:
    """No file may grow beyond 100 bytes, as the system sees to it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_the_old_ones(tmp_path) -> None:
    save(tmp_path, 0)
    save(tmp_path, 1)
    with full_disk(), pytest.raises(OSError, match="File too large"):
        save(tmp_path, 2)
    assert (epoch_of(tmp_path / LAST), epoch_of(tmp_path / BEFORE)) == (1, 0)
    assert len(list(tmp_path.iterdir())) == 2
