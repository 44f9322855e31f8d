import errno
import json
import os
from pathlib import Path

import pytest

from pipeline.domain import UsageError
from pipeline.scoring.journal import Journal, Row

SETTINGS = {"model": "demo-0123456789ab", "scans folder": "aa", "saliency": "no"}

FULL = {"warnings": ("no_rescale",), "positive": {"nodule": True}, "seconds": {"read": 0.5}, "stamp": "s"}


def row(n: int, **changes: object) -> Row:
    return Row(**{"scan_id": f"{n:016x}", "status": "ok", "probabilities": {"nodule": 0.25}, **changes})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with Journal(tmp_path / "journal.jsonl", SETTINGS) as journal:
        for n in range(3):
            journal.append(row(n, **FULL))
    return tmp_path / "journal.jsonl"


def test_rows_come_back_as_they_were(path: Path) -> None:
    with Journal(path, SETTINGS) as journal:
        assert list(journal.rows.values()) == [row(n, **FULL) for n in range(3)]


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_torn_last_line_is_dropped_and_the_next_row_stands_whole(path: Path, cut: int) -> None:
    path.write_bytes(path.read_bytes()[:-cut])
    with Journal(path, SETTINGS) as journal:
        assert len(journal.rows) == 2
        journal.append(row(7))
    with Journal(path, SETTINGS) as journal:
        assert sorted(journal.rows) == sorted(row(n).scan_id for n in (0, 1, 7))
    assert all(json.loads(line) for line in path.read_text().splitlines())


@pytest.mark.parametrize("damage", [b"\0\0\0\0\n", b"{}\n", b"[1]\n", b'{"scan_id": 1}\n', b"\xff\xfe\n", b"NaN\n"])
def test_from_an_unreadable_line_on_all_is_done_again(path: Path, damage: bytes) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], damage, *lines[2:]]))
    with Journal(path, SETTINGS) as journal:
        assert list(journal.rows) == [row(0).scan_id]


@pytest.mark.parametrize("header", [b"", b'{"format": "1", "mod'])
def test_a_journal_without_a_whole_header_is_begun_anew(tmp_path: Path, header: bytes) -> None:
    (tmp_path / "j").write_bytes(header)
    with Journal(tmp_path / "j", SETTINGS) as journal:
        journal.append(row(1))
    with Journal(tmp_path / "j", SETTINGS) as journal:
        assert list(journal.rows) == [row(1).scan_id]


def test_the_latest_row_of_a_scan_counts(path: Path) -> None:
    with Journal(path, SETTINGS) as journal:
        journal.append(row(1, stamp="later"))
    with Journal(path, SETTINGS) as journal:
        assert len(journal.rows) == 3
        assert journal.rows[row(1).scan_id].stamp == "later"


@pytest.mark.parametrize("key", sorted(SETTINGS))
def test_other_settings_are_refused_with_both_values_and_nothing_is_touched(path: Path, key: str) -> None:
    before = path.read_bytes()
    with pytest.raises(UsageError, match=rf"{key}: there {SETTINGS[key]}, now other(?s:.)*choose another --out"):
        Journal(path, {**SETTINGS, key: "other"})
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"scan_id,path\n1,2\n", b"[]\n", b"{}\n"])
def test_a_file_that_is_no_journal_is_refused_and_kept(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "j").write_bytes(content)
    with pytest.raises(UsageError, match="no journal"):
        Journal(tmp_path / "j", SETTINGS)
    assert (tmp_path / "j").read_bytes() == content


def test_two_runs_never_write_one_journal(path: Path) -> None:
    with Journal(path, SETTINGS), pytest.raises(UsageError, match="another run writes into it"):
        Journal(path, SETTINGS)
    Journal(path, SETTINGS).__exit__(None, None, None)


def test_a_folder_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "j").mkdir()
    with pytest.raises(UsageError, match="can't be opened"):
        Journal(tmp_path / "j", SETTINGS)


@pytest.mark.parametrize("fits", [0, 1, 40])
def test_a_row_that_does_not_fit_on_the_disk_is_taken_back_whole(
    path: Path, monkeypatch: pytest.MonkeyPatch, fits: int
) -> None:
    before, write, calls = path.read_bytes(), os.write, []

    def full(file: int, content: bytes) -> int:
        calls.append(content)
        if len(calls) == 1 and fits:
            return write(file, content[:fits])
        raise OSError(errno.ENOSPC, "No space left on device")

    with Journal(path, SETTINGS) as journal:
        monkeypatch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space left"):
            journal.append(row(8))
        monkeypatch.undo()
        assert path.read_bytes() == before
        journal.append(row(9))
    with Journal(path, SETTINGS) as journal:
        assert sorted(journal.rows) == sorted(row(n).scan_id for n in (0, 1, 2, 9))


def test_rows_are_synced_in_groups_and_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal(tmp_path / "j", SETTINGS) as journal:
        syncs: list[int] = []
        monkeypatch.setattr(os, "fsync", syncs.append)
        monkeypatch.setattr("pipeline.scoring.journal.SYNC_SECONDS", 1e9)
        for n in range(17):
            journal.append(row(n))
        assert len(syncs) == 1
    assert len(syncs) == 2


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EISDIR])
def test_a_folder_that_can_not_be_written_to_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(UsageError, match=rf"journal.jsonl: can't be opened for writing \({os.strerror(number)}\)"):
        Journal(tmp_path / "journal.jsonl", SETTINGS)
