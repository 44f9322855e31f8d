"""Readers' opinions: kept in order, never changed, and every trouble of the database told in words."""

import csv
import io
import sqlite3
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from app import opinions as module
from app.opinions import Opinion, Opinions, the_opinions
from pipeline.domain import UsageError

FIRST = Opinion("Ann", "0123456789abcdef", "demo-1", "nodule", "agree", "clear", 0.9, 1, 2, 3, -4.5, 5.0, 6.25)


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / "deep" / "opinions.sqlite"


@pytest.fixture
def store(file) -> Opinions:
    return Opinions(f"sqlite:///{file}")


def rows(store: Opinions) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(store.csv().decode("utf-8-sig"))))


def test_what_a_reader_says_is_kept_with_its_time(store):
    store.add(FIRST)
    (found,) = store.of_scan(FIRST.scan_id)
    assert datetime.now(UTC).replace(tzinfo=None) - found.time < timedelta(seconds=30)
    assert found == Opinion(**{**module.asdict(FIRST), "time": found.time})
    assert store.of_scan("another") == []


def test_a_reader_who_thinks_again_adds_a_row(store):
    store.add(FIRST)
    store.add(Opinion("Ann", FIRST.scan_id, "demo-1", "nodule", "unsure"))
    assert [one.opinion for one in store.of_scan(FIRST.scan_id)] == ["unsure", "agree"]


@pytest.mark.parametrize("statement", ["UPDATE opinions SET note = ''", "DELETE FROM opinions"])
def test_rows_are_never_changed_nor_removed(store, file, statement):
    store.add(FIRST)
    with sqlite3.connect(file) as connection, pytest.raises(sqlite3.IntegrityError, match="opinions are only added"):
        connection.execute(statement)
    connection.close()
    assert len(store.of_scan(FIRST.scan_id)) == 1


def test_the_csv_holds_everything_and_no_formula(store):
    store.add(FIRST)
    store.add(Opinion("=cmd|' /C calc'!A0", "s", "m", "nodule", "disagree", "@SUM(1,2)\nsecond line, é"))
    first, second = rows(store)
    assert (first["reader"], first["i"], first["z_mm"], first["probability"]) == ("Ann", "1", "6.25", "0.9")
    assert first["time"].endswith("Z")
    assert second["reader"].startswith("'=cmd")
    assert second["note"] == "'@SUM(1,2)\nsecond line, é"
    assert second["i"] == second["x_mm"] == ""


def test_the_csv_of_no_opinions_has_its_header(store):
    assert store.csv().decode("utf-8-sig").startswith("id,time,reader,scan_id,model,finding,probability,opinion,note")


def test_two_tabs_and_another_process_lose_nothing(file, monkeypatch):
    monkeypatch.setattr(module, "WAIT_S", 60)  # a slow disk is another matter
    store, other = Opinions(f"sqlite:///{file}"), Opinions(f"sqlite:///{file}")

    def write(where: Opinions, reader: str) -> None:
        for number in range(15):
            where.add(Opinion(reader, "s", "m", "nodule", "agree", str(number)))

    tabs = ((store, "a"), (store, "b"), (other, "c"))
    threads = [threading.Thread(target=write, args=tab) for tab in tabs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = store.of_scan("s")
    assert {(one.reader, one.note) for one in found} == {(r, str(n)) for r in "abc" for n in range(15)}
    assert len(found) == 45


def test_a_locked_database_is_told_after_a_while(file, monkeypatch):
    monkeypatch.setattr(module, "WAIT_S", 0.2)
    store = Opinions(f"sqlite:///{file}")
    blocker = sqlite3.connect(file)
    blocker.execute("BEGIN EXCLUSIVE")
    with pytest.raises(UsageError, match="the database is locked: another program writes into it"):
        store.add(FIRST)
    blocker.rollback()
    blocker.close()
    store.add(FIRST)
    assert len(store.of_scan(FIRST.scan_id)) == 1


def test_a_read_only_database_is_told(file, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Opinions(f"sqlite:///{file}").add(FIRST)
    with pytest.raises(UsageError, match="the database is read-only"):
        Opinions(f"sqlite:///file:{file}?mode=ro&uri=true").add(FIRST)
    assert not (tmp_path / "file:").exists()


def test_a_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "x.sqlite").write_bytes(b"no database, but long enough to have a header" * 40)
    with pytest.raises(UsageError, match=r"--db: .*no SQLite database"):
        the_opinions(f"sqlite:///{tmp_path / 'x.sqlite'}")


def test_a_database_that_was_replaced_is_told(store, file):
    file.unlink()
    sqlite3.connect(file).close()
    with pytest.raises(UsageError, match=r"replaced while the viewer ran|locked|read-only"):
        store.add(FIRST)


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="--db: the folder of the database can't be made"):
        Opinions(f"sqlite:///{tmp_path / 'file' / 'deep' / 'x.sqlite'}")
    with pytest.raises(UsageError, match=r"--db: .*can't be opened"):
        Opinions(f"sqlite:///{tmp_path}")


@pytest.mark.parametrize("url", ["nosuch://base", "no url at all", "mssql+nosuch://x"])
def test_what_is_no_database_url_is_refused(url):
    with pytest.raises(UsageError, match="--db: is no database URL"):
        Opinions(url)


def test_a_trouble_without_words_names_its_kind_only(store, monkeypatch):
    def burst(*_):
        raise OperationalError("INSERT ... 'DOE'", {}, Exception("strange: DOE"))

    monkeypatch.setattr(store._engine, "begin", burst)
    with pytest.raises(UsageError, match=r"^the database refuses \(OperationalError\)\.$"):
        store.add(FIRST)
