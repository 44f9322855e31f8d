"""The nearest training scans beside the open one: opaque, explained, and a sentence where there is no index."""

import io

import numpy as np
import pytest

from app import review
from app.language import LANGUAGES, words
from app.similar_panel import table, truth
from pipeline.explanation.similar import INDEX, Neighbour
from pipeline.model.integrity import identity, listing
from pipeline.model.package import load_model
from pipeline.scans.find import find_scans
from tests.app.conftest import save_tiny_model
from tests.app.pages import alerts, html, open_scan

IDS = [f"{n:016x}" for n in range(8)]


def save_index(run, model_folder, made_by: str = "") -> None:
    """A run folder with an index of 8 scans, of which the first is the model's own view of nothing at all."""
    model = load_model(model_folder)
    _, (features, *_) = model.outputs(np.zeros((1, 1, 32, 32, 32), np.float32))
    known = features + np.arange(8, dtype=np.float32)[:, None]
    content = io.BytesIO()
    np.savez_compressed(
        content, scan_id=np.array(IDS), labels=np.array([[n % 2] for n in range(8)], np.float32), features=known,
        spread=np.ones(known.shape[1], np.float32), model=np.array(made_by or identity(listing(model_folder))),
    )  # fmt: skip
    run.mkdir(exist_ok=True)
    (run / INDEX).write_bytes(content.getvalue())


@pytest.fixture
def open_first(open_page, scans, tmp_path, monkeypatch):
    """Opens the first scan of a viewer with --run, and asks for similar scans."""

    def opened(run):
        # A whole run folder is the performance page's concern, not this one's.
        monkeypatch.setattr(review, "the_settings", lambda: _with_run(run))
        page = open_scan(open_page(tmp_path / "own", scans), find_scans(scans)[0][0].scan_id)
        return page.toggle(key="kept.similar").set_value(True).run()

    save_tiny_model(tmp_path / "own")
    return opened


def _with_run(run):
    from dataclasses import replace

    from app.settings import the_settings

    return replace(the_settings(), run=run)


def test_five_scans_with_distance_and_truth(open_first, tmp_path):
    save_index(tmp_path / "run", tmp_path / "own")
    page = open_first(tmp_path / "run")
    assert not page.exception
    assert alerts(page) == []
    shown = html(page)
    assert sum(scan_id in shown for scan_id in IDS) == 5
    assert shown.count("<tr><td>") == 5
    assert "nodule</td>" in shown
    assert "without finding</td>" in shown
    assert "DOE" not in shown


def test_a_run_without_an_index_says_so(open_first, tmp_path):
    (tmp_path / "run").mkdir()
    page = open_first(tmp_path / "run")
    assert page.info[0].value.startswith("This run keeps no index of similar scans (similar.npz)")
    assert alerts(page) == []


def test_the_index_of_another_model_is_refused_and_the_scan_stays(open_first, tmp_path):
    save_index(tmp_path / "run", tmp_path / "own", made_by="0" * 12)
    page = open_first(tmp_path / "run")
    assert "its similar.npz is of the model 000000000000" in alerts(page)[0]
    assert "calibrated probability" in html(page)


def test_without_a_run_nothing_is_offered(open_page, model_folder, scans):
    page = open_scan(open_page(model_folder, scans), find_scans(scans)[0][0].scan_id)
    assert [toggle.key for toggle in page.toggle] == ["overlay"]


def test_truth_in_words():
    said = words("en")
    assert truth(said, Neighbour("a", 1.0, {"x": 1, "y": 0, "z": 1})) == "x, z"
    assert truth(said, Neighbour("a", 1.0, {"x": 0, "y": 0})) == "without finding"
    assert truth(said, Neighbour("a", 1.0, {"x": 0, "y": None})) == "not known"


@pytest.mark.parametrize("code", LANGUAGES)
def test_text_from_outside_is_escaped(code):
    shown = table(words(code), [Neighbour("<script>", 0.5, {"<b>": 1})])
    assert "<script>" not in shown
    assert "&lt;b&gt;" in shown
