"""The performance page: numbers that agree with the evaluation, and what another threshold makes of them."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from app import charts, performance, threshold
from app.language import words
from pipeline.domain import UsageError
from pipeline.evaluate import main as evaluate
from pipeline.evaluation.cases import Cases, numbered
from pipeline.model.package import load_model
from tests.app.conftest import save_tiny_model
from tests.app.pages import alerts, everything, html, turn_to
from tests.evaluation.runs import predictions, run_folder


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run with a real model folder, evaluated."""
    folder = tmp_path_factory.mktemp("run") / "run"
    run_folder(folder, predictions(150, gain=0.9))
    shutil.rmtree(folder / "model")
    save_tiny_model(folder / "model")
    assert evaluate([str(folder)]) == 0
    return folder


@pytest.fixture
def front(open_page, run, scans):
    return turn_to(open_page(run / "model", scans, "--run", str(run)), "performance")


def slider(page, start: str):
    return next(one for one in page.slider if one.key.startswith(start))


def test_the_frozen_point_gives_the_numbers_of_the_evaluation(front, run):
    page = front
    assert not page.exception
    assert alerts(page) == []
    numbers = load_model(run / "model").evaluation["test"]["findings"]["nodule"]
    for name in ("sensitivity", "specificity"):
        assert f"{100 * numbers[name]['value']:.1f} %" in html(page)
    assert "Frozen operating point: 0.430, chosen on the tune split for sensitivity >= 0.95." in everything(page)
    assert "Scans that flip: 0" in everything(page)
    assert "class='moved'" not in html(page)


def test_the_page_names_the_finding_that_its_numbers_are_about(front):
    assert "<div>Finding</div><b>nodule</b>" in html(front)


def test_another_threshold_moves_the_numbers_and_lists_the_scans_that_flip(front, run):
    page = front
    page = slider(page, "kept.threshold").set_value(0.9).run()
    table = pd.read_csv(run / "predictions.csv")
    test = table[(table["split"] == "test") & (table["status"] == "ok")]
    flipped = test[(test["p_nodule"] >= 0.43) & (test["p_nodule"] < 0.9)]
    assert f"Scans that flip: {len(flipped)}" in everything(page)
    shown = page.dataframe[0].value
    assert set(shown["Scan"]) == set(flipped["scan_id"].astype(str))
    assert set(shown["Now"]) == {"negative"}
    assert int(shown["Right"].sum()) == int((flipped["y_nodule"] == 0).sum())
    assert "class='moved'" in html(page)
    assert "Frozen operating point: 0.430" in everything(page)


def test_the_prevalence_moves_the_predictive_values_only(front):
    page = front
    before = html(page)
    page = slider(page, "kept.prevalence").set_value(1.0).run()
    after = html(page)
    tiles = [part.split("</div>")[1] for part in before.split("class='name'>")[1:]]
    moved = [part.split("</div>")[1] for part in after.split("class='name'>")[1:]]
    assert tiles[:2] == moved[:2]
    assert tiles[2] != moved[2]


def test_without_a_run_the_stored_numbers_stand(open_page, run, scans):
    page = turn_to(open_page(run / "model", scans), "performance")
    assert not page.exception
    assert "The frozen operating point alone" in page.info[0].value
    assert html(page).count("class='tile'") == 4
    assert not [one for one in page.slider if one.key.startswith("kept.threshold")]
    assert "bootstrap" in page.dataframe[-1].value.to_csv()


def test_a_model_without_evaluation_says_so(open_page, model_folder, scans):
    page = turn_to(open_page(model_folder, scans), "performance")
    assert "has not been evaluated yet" in page.info[0].value


def test_the_run_of_another_model_is_refused(open_page, model_folder, scans, run):
    page = turn_to(open_page(model_folder, scans, "--run", str(run)), "performance")
    assert not page.exception
    assert "give the run of this model" in alerts(page)[0]
    with pytest.raises(UsageError, match="the viewer's model is other-1; give the run of this model"):
        threshold.the_run(run, "other-1")


def test_every_split_can_be_looked_at(front):
    page = front
    page = page.segmented_control(key="kept.split").set_value("tune").run()
    assert not page.exception
    assert html(page).count("class='tile'") == 4


def cases(y, p, patients=None) -> Cases:
    names = pd.Series(patients if patients is not None else [str(n) for n in range(len(y))])
    return Cases(np.array(y, float), np.array(p, float), numbered(names))


def test_accuracy_by_hand():
    found = threshold.accuracy(cases([1, 1, 1, 0, 0], [0.9, 0.8, 0.1, 0.7, 0.2]), 0.5)
    assert [round(found[name]["value"], 3) for name in performance.MOVED] == [0.667, 0.5, 0.667, 0.5]
    assert all(one["low"] < one["value"] < one["high"] for one in found.values())


def test_intervals_count_patients():
    y, p = [1, 1, 1, 1] * 5, [0.9, 0.9, 0.1, 0.1] * 5
    alone = threshold.accuracy(cases(y, p), 0.5)["sensitivity"]
    together = threshold.accuracy(cases(y, p, [str(n // 2) for n in range(20)]), 0.5)["sensitivity"]
    assert together["high"] - together["low"] > alone["high"] - alone["low"]


def test_what_is_undefined_has_a_reason():
    found = threshold.accuracy(cases([1, 1], [0.9, 0.8]), 0.5)
    assert found["specificity"]["value"] is None
    assert found["specificity"]["reason"] == "no negative scans"
    assert performance._value(found["specificity"]) == "–"
    assert performance._interval(found["specificity"], words("en")) == "not defined here"


def test_curves_agree_with_accuracy():
    some = cases([1, 0, 1, 0, 1], [0.9, 0.5, 0.5, 0.2, 0.1])
    points = threshold.curves(some).set_index("threshold")
    for at in (0.0, 0.5, 1.0):
        found = threshold.accuracy(some, at)
        assert points.loc[at, "sensitivity"] == pytest.approx(found["sensitivity"]["value"])
        assert points.loc[at, "specificity"] == pytest.approx(found["specificity"]["value"])
    assert threshold.histogram(some)["scans"].sum() == 5


def test_charts_mark_the_frozen_and_the_chosen_threshold():
    some = cases([1, 0], [0.9, 0.2])
    for table, spec in (
        charts.call_chart(threshold.histogram(some), 0.4, 0.7, words("en")),
        charts.curve_chart(threshold.curves(some), 0.4, 0.7, words("en")),
    ):
        rules = [layer for layer in spec["layer"] if layer["mark"]["type"] == "rule"]
        assert [rule["data"]["values"][0]["at"] for rule in rules] == [0.4, 0.7]
        assert not table.empty
