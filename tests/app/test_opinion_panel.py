"""The reader's opinion on the page: stored with everything, and what was typed is kept when it can't be."""

import csv
import io
import json
import sqlite3
from pathlib import Path

import pytest

from app import opinion_panel, opinions
from app.opinions import Opinions
from app.settings import the_settings
from pipeline.scans.find import find_scans
from tests.app.conftest import save_tiny_model
from tests.app.pages import alerts, everything, open_scan, turn_to


@pytest.fixture
def front(open_page, model_folder, scans):
    """The first scan, open in front of Ann."""
    found = open_page(model_folder, scans)
    found.text_input(key="reader").set_value("Ann").run()
    return open_scan(found, find_scans(scans)[0][0].scan_id)


def key_of(page) -> str:
    return page.session_state["chosen_scan"]


def say(page, verdict: str, note: str = ""):
    page.segmented_control(key=f"kept.opinion-{key_of(page)}").set_value(verdict)
    page.text_area(key=f"kept.note-{key_of(page)}").set_value(note).run()
    return page.button(key=f"save-{key_of(page)}").click().run()


def stored() -> list[dict[str, str]]:
    content = Opinions(the_settings().database).csv()
    return list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"))))


def test_nothing_can_be_saved_before_a_verdict(front):
    page = front
    assert page.button(key=f"save-{key_of(page)}").disabled


def test_an_opinion_is_stored_and_listed(front):
    page = front
    page = say(page, "disagree", "  a vessel  ")
    assert not page.exception
    assert page.success[0].value == "Saved."
    (row,) = stored()
    assert (row["reader"], row["scan_id"], row["opinion"], row["note"]) == ("Ann", key_of(page), "disagree", "a vessel")
    assert row["model"].startswith("tiny-")
    assert 0 <= float(row["probability"]) <= 1
    assert row["i"] == ""
    assert page.expander[0].label == "Earlier opinions: 1"
    assert "Disagree · nodule · Ann" in page.text[0].value
    assert page.text_area(key=f"kept.note-{key_of(page)}").value == ""
    page = say(page, "unsure")
    assert [row["opinion"] for row in stored()] == ["disagree", "unsure"]


def test_what_was_typed_stays_when_the_database_is_locked(front, monkeypatch):
    page = front
    file = the_settings().database.removeprefix("sqlite:///")
    blocker = sqlite3.connect(file)
    monkeypatch.setattr(opinions, "WAIT_S", 0.1)
    opinions.the_opinions.cache_clear()
    page.run()
    blocker.execute("BEGIN EXCLUSIVE")
    page = say(page, "agree", "a long thought")
    blocker.rollback()
    blocker.close()
    assert not page.exception
    assert page.error[0].value.startswith("Not saved, what you typed is still here: the database is locked")
    assert page.text_area(key=f"kept.note-{key_of(page)}").value == "a long thought"
    assert stored() == []
    page = page.button(key=f"save-{key_of(page)}").click().run()
    assert [row["note"] for row in stored()] == ["a long thought"]


def test_what_was_typed_outlives_a_look_at_another_page(front):
    page = front
    page.text_area(key=f"kept.note-{key_of(page)}").set_value("half a thought").run()
    page = turn_to(turn_to(page, "worklist"), "scan")
    assert page.text_area(key=f"kept.note-{key_of(page)}").value == "half a thought"


def test_a_database_that_cannot_be_read_is_told_and_the_scan_stays(front):
    page = front
    file = Path(the_settings().database.removeprefix("sqlite:///"))
    file.write_bytes(b"something else that is no database at all" * 100)
    opinions.the_opinions.cache_clear()
    page = page.run()
    assert not page.exception
    assert any("no SQLite database" in error.value for error in page.error)
    assert "calibrated probability" in everything(page)


def test_a_point_is_stored_on_the_grid_and_in_the_patient(open_page, model_folder, scans, monkeypatch):
    page = open_page(model_folder, scans)
    real = opinion_panel.opinion_panel
    monkeypatch.setattr("app.review.opinion_panel", lambda model, scan, point=None: real(model, scan, (3, 4, 5)))
    page = open_scan(page, find_scans(scans)[0][0].scan_id)
    assert page.checkbox(key=f"kept.point-{key_of(page)}").label == "Keep the point (3, 4, 5)"
    say(page, "agree")
    page.checkbox(key=f"kept.point-{key_of(page)}").uncheck().run()
    say(page, "agree")
    with_point, without = stored()
    assert [with_point[name] for name in ("i", "j", "k", "x_mm", "y_mm", "z_mm")] == [
        "3",
        "4",
        "5",
        "6.0",
        "8.0",
        "15.0",
    ]
    assert without["i"] == without["x_mm"] == ""


def test_with_several_findings_the_reader_says_which(open_page, scans, tmp_path):
    page = open_page(save_tiny_model(tmp_path / "multi", findings=("nodule", "effusion")), scans)
    page = open_scan(page, find_scans(scans)[0][0].scan_id)
    page.selectbox(key=f"kept.about-{key_of(page)}").set_value("effusion").run()
    say(page, "agree")
    assert stored()[0]["finding"] == "effusion"


def test_the_audit_log_names_reader_scan_and_model_once_a_scan(front, scans):
    page = front
    page.run()
    turn_to(turn_to(page, "worklist"), "scan")
    open_scan(page, find_scans(scans)[0][1].scan_id)
    events = [json.loads(line) for line in the_settings().audit_file.read_text().splitlines()]
    assert [event["scan"] for event in events] == [scan.scan_id for scan in find_scans(scans)[0]]
    assert {event["reader"] for event in events} == {"Ann"}
    assert all(event["model"].startswith("tiny-") for event in events)
    assert "DOE" not in the_settings().audit_file.read_text()


def test_without_an_audit_log_no_scan_is_shown(open_page, model_folder, scans):
    page = open_page(model_folder, scans)
    the_settings().audit_file.parent.mkdir(parents=True)
    the_settings().audit_file.mkdir()
    page = open_scan(page, find_scans(scans)[0][0].scan_id)
    assert "audit log can't be written" in alerts(page)[0]
    assert "calibrated probability" not in everything(page)
