import errno

import pytest
import torch

from pipeline.model.checkpoints import BEFORE, LAST, WholeFiles, newest


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


def test_none_is_none(tmp_path) -> None:
    assert newest(tmp_path) is None


def test_a_full_disk_leaves_the_old_ones(tmp_path, monkeypatch) -> None:
    save(tmp_path, 0)
    save(tmp_path, 1)

    def full(_, path):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        save(tmp_path, 2)
    assert (epoch_of(tmp_path / LAST), epoch_of(tmp_path / BEFORE)) == (1, 0)
    assert len(list(tmp_path.iterdir())) == 2
