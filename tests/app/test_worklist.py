"""The worklist's page: found, sorted, filtered, scored, opened; thousands of rows stay fluid."""

import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from app import opening, session, worklist
from app.background import Job
from app.catalog import Score
from app.worklist_table import Wanted, narrowed
from app.worklist_table import worklist as table_of
from pipeline.domain import Prediction, ReadRules
from pipeline.scans.find import find_scans
from pipeline.score import main as score
from tests.app.conftest import save_tiny_model
from tests.app.pages import alerts, everything, html, open_scan, turn_to
from tests.app.test_catalog import catalog_of
from tests.scans.phantoms import series


def rows(page):
    return page.dataframe[0].value


def wait_for_scoring(page, model: Path):
    end = time.monotonic() + 60
    while session.the_scorer(model).job is not None:
        assert time.monotonic() < end
        time.sleep(0.05)
    return page.run()


def test_every_scan_of_the_folder_is_a_row(open_page, model_folder, scans):
    page = open_page(model_folder, scans)
    assert not page.exception
    assert alerts(page) == []
    assert list(rows(page)["what"]) == ["DOE-JANE-1.nii.gz", "DOE-JANE-2.nii.gz", "broken.dcm"]
    assert list(rows(page)["status"]) == ["not scored yet", "not scored yet", "refused"]
    assert rows(page)["reason"].iloc[2].startswith("it is no image (not_an_image): ")
    assert page.markdown[0].value == "**2** not scored yet · **1** refused"


def test_the_unscored_are_scored_in_the_background(open_page, model_folder, scans):
    page = open_page(model_folder, scans)
    button = page.button(key="score")
    assert button.label == "Score 2 scans"
    page = button.click().run()
    assert not page.exception
    page = wait_for_scoring(page, model_folder)
    assert list(rows(page)["status"]) == ["scored", "scored", "refused"]
    assert rows(page)["p_nodule"].iloc[0] >= rows(page)["p_nodule"].iloc[1]
    assert "score" not in [button.key for button in page.button]


def test_one_scan_is_said_in_singular(open_page, model_folder, scans):
    (scans / "DOE-JANE-2.nii.gz").unlink()
    page = open_page(model_folder, scans)
    assert page.button(key="score").label == "Score 1 scan"
    page = page.selectbox(key="language").set_value("es").run()
    assert page.button(key="score").label == "Evaluar 1 estudio"
    assert page.markdown[0].value == "**1** sin evaluar · **1** rechazado"


def test_while_it_scores_the_page_shows_how_far_it_is(open_page, model_folder, scans):
    page = open_page(model_folder, scans)
    with session.the_model(model_folder).in_use:
        page = page.button(key="score").click().run()
        assert not page.exception
        assert "stop" in [button.key for button in page.button]
        page = page.button(key="stop").click().run()
    page = wait_for_scoring(page, model_folder)
    assert alerts(page) == []


def test_scoring_that_failed_is_told(open_page, model_folder, scans, monkeypatch):
    page = open_page(model_folder, scans)
    monkeypatch.setattr(session.Scorer, "failed", property(lambda self: True))
    assert "Scoring ended before its time" in page.run().warning[0].value


def test_last_nights_scores_fill_the_list(open_page, model_folder, scans, tmp_path):
    score([str(model_folder), str(scans), "--out", str(tmp_path / "out")])
    page = open_page(model_folder, scans, "--scores", str(tmp_path / "out"))
    assert list(rows(page)["status"]) == ["scored", "scored", "refused"]
    assert rows(page)["scored"].notna().sum() == 2
    first = rows(page).iloc[0]
    assert f"calibrated probability {first['p_nodule']:.3f}" in html(open_scan(page, first["scan_id"]))


def test_scores_of_another_model_are_one_clear_message(open_page, model_folder, scans, tmp_path):
    score([str(save_tiny_model(tmp_path / "other", intended_use="else")), str(scans), "--out", str(tmp_path / "out")])
    page = open_page(model_folder, scans, "--scores", str(tmp_path / "out"))
    assert not page.exception
    assert "holds results of tiny-" in alerts(page)[0]


def test_search_and_filters_narrow_the_list(open_page, model_folder, scans):
    page = open_page(model_folder, scans)
    page = page.text_input(key="kept.search").set_value("jane-2").run()
    assert list(rows(page)["what"]) == ["DOE-JANE-2.nii.gz"]
    page = page.text_input(key="kept.search").set_value("").run()
    page = page.multiselect(key="kept.statuses").set_value(["refused"]).run()
    assert list(rows(page)["what"]) == ["broken.dcm"]
    page = page.toggle(key="kept.positives").set_value(True).run()
    assert page.info[0].value == "No scan matches what you look for."


def test_columns_without_an_entry_are_not_shown(open_page, model_folder, scans):
    page = open_page(model_folder, scans)
    page = page.multiselect(key="kept.statuses").set_value(["refused"]).run()
    assert list(page.dataframe[0].proto.column_order) == ["status", "what", "reason"]


def test_filters_are_still_there_when_the_reader_comes_back(open_page, model_folder, scans):
    page = open_page(model_folder, scans)
    page = page.text_input(key="kept.search").set_value("jane-2").run()
    page = turn_to(turn_to(page, "upload"), "worklist")
    assert list(rows(page)["what"]) == ["DOE-JANE-2.nii.gz"]


def test_a_chosen_row_opens_its_scan_and_the_next_follows(open_page, model_folder, scans, monkeypatch):
    page = open_page(model_folder, scans)
    ids = list(rows(page)["scan_id"])
    page = open_scan(page, ids[0])
    assert page.button(key="previous").disabled
    page = page.button(key="next").click().run()
    assert page.session_state["chosen_scan"] == ids[1]
    assert page.button(key="next").disabled
    assert not page.exception


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ({"rows": [1]}, "b"),
        ({"rows": [], "cells": [(0, "patient")]}, "a"),
        ({"rows": [2]}, None),
        ({"rows": []}, None),
        ({"rows": [9]}, None),
    ],
)
def test_what_a_click_on_the_table_opens(monkeypatch, selection, expected):
    shown = []
    monkeypatch.setattr(worklist.st, "session_state", {"table": {"selection": selection}})
    monkeypatch.setattr(opening, "show", shown.append)
    worklist._open_selected(pd.Series(["a", "b", ""]))
    assert shown == ([] if expected is None else [expected])


def test_scans_that_the_model_leaves_out_are_rows_with_the_reason(open_page, tmp_path):
    for name, slices in (("thick-DOE", 4), ("thin-DOE", 8)):
        series(tmp_path / "in" / name, lambda ds, k: setattr(ds, "StudyInstanceUID", "1.2.3"), slices=slices)
    model = save_tiny_model(tmp_path / "strict", read=ReadRules(min_slices=6))
    page = open_page(model, tmp_path / "in")
    assert list(rows(page)["status"]) == ["not scored yet", "not selected"]
    assert "read.min_slices asks for at least 6" in rows(page)["reason"].iloc[1]
    assert "thick-DOE" in everything(page)
    assert "DOE" not in everything(open_page(model, tmp_path / "in", "--hide-identity"))


def test_a_folder_that_takes_long_shows_how_far_it_is(open_page, model_folder, scans, monkeypatch):
    monkeypatch.setattr(worklist, "AT_ONCE_S", 0.0)
    release = threading.Event()

    def slow(report):
        report(3, 10)
        release.wait(30)

    job = Job(slow)
    monkeypatch.setattr(worklist, "the_catalog", lambda *_: job)
    page = open_page(model_folder, scans)
    release.set()
    assert not page.exception
    assert not page.dataframe


def test_the_saved_list_tells_nothing_of_the_patient(model_folder):
    found = catalog_of(["a", "b"])
    scores = {"a": Score(Prediction("a", {"nodule": 0.9}, {}, 0, 0, False, (), "m"), datetime.now(UTC))}
    table = table_of(found, scores, ["nodule"], Path("/s"), False)
    text = worklist._csv(table, session.the_model(model_folder)).decode("utf-8-sig")
    assert "scan_id,modality,view,side,status,p_nodule,positive,uncertainty,unlike,scored,reason,model" in text
    assert "a,CT,,,scored,0.9" in text
    assert not any(word in text for word in ("Ann", "ID-a", "2025", "/s/"))


def test_five_thousand_rows_take_well_under_a_second():
    names = [f"{number:016x}" for number in range(5000)]
    found, now = catalog_of(names), datetime.now(UTC)
    scores = {
        n: Score(Prediction(n, {"nodule": k / 5000}, {}, 0.1, 0, True, (), "m"), now) for k, n in enumerate(names)
    }
    started = time.process_time()
    table = table_of(found, scores, ["nodule"], Path("/s"), False)
    narrowed(table, Wanted("ann id-0000000000000ff", ["scored"]))
    assert time.process_time() - started < 0.5  # 0.06 s measured
    assert len(table) == 5002


def test_it_finds_as_many_scans_as_the_reader(open_page, model_folder, demo_scans):
    page = open_page(model_folder, demo_scans)
    scans, rejections = find_scans(demo_scans)
    assert len(rows(page)) == len(scans) + len(rejections)
    assert any(name.startswith("Demo, P") for name in rows(page)["patient"])
