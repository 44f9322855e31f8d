"""The audit log: one line an event, for the owner's eyes, on the disk before anything is shown."""

import json
import os
import threading

import pytest

from app import audit_log
from app.audit_log import record
from pipeline.domain import UsageError

EVENT = {"reader": "Ann", "scan": "0123456789abcdef", "model": "demo-1"}


def test_events_are_appended_and_private(tmp_path):
    file = tmp_path / "deep" / "audit.jsonl"
    record(file, "open", **EVENT)
    record(file, "export", **EVENT)
    first, second = map(json.loads, file.read_text().splitlines())
    assert (first["event"], second["event"]) == ("open", "export")
    assert {key: first[key] for key in EVENT} == EVENT
    assert first["time"].endswith("+00:00")
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_lines_of_many_tabs_do_not_mix(tmp_path):
    file = tmp_path / "audit.jsonl"
    threads = [threading.Thread(target=record, args=(file, "open"), kwargs=EVENT) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [json.loads(line)["event"] for line in file.read_text().splitlines()] == ["open"] * 20


def test_what_cannot_be_recorded_is_refused(tmp_path):
    (tmp_path / "audit.jsonl").mkdir()
    with pytest.raises(UsageError, match=r"audit log can't be written .*no scan is shown"):
        record(tmp_path / "audit.jsonl", "open", **EVENT)


def test_a_full_disk_leaves_whole_lines(tmp_path, monkeypatch):
    file = tmp_path / "audit.jsonl"
    record(file, "open", **EVENT)
    before = file.read_bytes()
    write = os.write
    monkeypatch.setattr(audit_log.os, "write", lambda log, line: write(log, line[:5]))
    with pytest.raises(UsageError, match="No space left"):
        record(file, "open", **EVENT)
    assert file.read_bytes() == before
