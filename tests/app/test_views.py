"""Views of one study (a chest from behind and from the side, the views of a breast): the page says which is which."""

import re
from pathlib import Path

import pandas as pd
import pytest
from pydicom.uid import generate_uid
from streamlit.testing.v1 import AppTest

from app import panels, review, session, worklist
from app.exports import Case, case_page
from app.language import LANGUAGES, words
from app.related import other_views
from pipeline.domain import Scan
from pipeline.model.package import load_model
from pipeline.scans.find import find_scans
from tests.app.conftest import save_tiny_model
from tests.app.pages import alerts, everything, html, open_scan
from tests.app.test_exports import text_of
from tests.results.dicom_scenes import radiograph

LATERAL = {"en": "Left lateral", "es": "Lateral izquierda", "pt": "Perfil esquerdo", "it": "Laterale sinistra"}


@pytest.fixture
def no_canvas(monkeypatch) -> None:
    monkeypatch.setattr(review, "slice_canvas", lambda *_, **__: None)


@pytest.fixture(scope="module")
def flat_model(tmp_path_factory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("models") / "flat", dimensions=2)


def captions(page: AppTest) -> list[str]:
    return re.findall(r"<p class='caption'>(.*?)</p>", html(page))


def study(folder: Path, *views: dict[str, str]) -> dict[str, Scan]:
    """Radiographs of one study, by view and side."""
    uid = generate_uid()
    for number, view in enumerate(views):
        radiograph(folder / f"{number}.dcm", StudyInstanceUID=uid, SeriesInstanceUID=generate_uid(), **view)
    return {scan.view + scan.side: scan for scan in find_scans(folder)[0]}


def chest(folder: Path) -> dict[str, Scan]:
    return study(folder, {"ViewPosition": "PA"}, {"ViewPosition": "LL"})


def breasts(folder: Path) -> dict[str, Scan]:
    breast = {"Modality": "MG", "BodyPartExamined": "BREAST"}
    return study(
        folder, *(breast | {"ViewPosition": view, "ImageLaterality": side} for view in ("CC", "MLO") for side in "RL")
    )


@pytest.mark.usefixtures("no_canvas")
@pytest.mark.parametrize("code", LANGUAGES)
def test_each_of_two_views_is_captioned(open_page, flat_model, tmp_path, code):
    scans = chest(tmp_path / "in")
    page = open_page(flat_model, tmp_path / "in")
    page = open_scan(page.selectbox(key="language").set_value(code).run(), scans["PA"].scan_id)
    assert not page.exception
    assert alerts(page) == []
    assert page.selectbox(key=f"beside-{scans['PA'].scan_id}").options[1].endswith(f"1 · {LATERAL[code]}")
    first, second = captions(page)
    assert first == f"<b>PA</b> · {words(code)('review.this_scan')}"
    assert second.startswith(f"<b>{LATERAL[code]}</b> · nodule ")


@pytest.mark.usefixtures("no_canvas")
def test_a_mammogram_stands_beside_the_same_view_of_the_other_breast(open_page, flat_model, tmp_path):
    scans = breasts(tmp_path / "in")
    page = open_scan(open_page(flat_model, tmp_path / "in"), scans["MLOR"].scan_id)
    first, second = captions(page)
    assert first == "<b>MLO, right</b> · On show"
    assert second.startswith("<b>MLO, left</b> · ")
    page = page.selectbox(key=f"beside-{scans['MLOR'].scan_id}").set_value("").run()
    assert captions(page) == ["<b>MLO, right</b>"]


@pytest.mark.usefixtures("no_canvas")
def test_the_worklist_tells_views_apart_and_saves_them_coded(open_page, flat_model, tmp_path, monkeypatch):
    breasts(tmp_path / "in")
    saved: list[pd.DataFrame] = []
    monkeypatch.setattr(worklist, "tools", lambda rows, model: saved.append(rows))
    page = open_page(flat_model, tmp_path / "in")
    assert sorted(page.dataframe[0].value["view"]) == ["CC, left", "CC, right", "MLO, left", "MLO, right"]
    assert "MLO, left" in everything(page)
    page = page.text_input(key="kept.search").set_value("mlo").run()
    assert len(page.dataframe[0].value) == 2
    text = worklist._csv(saved[-1], session.the_model(flat_model)).decode("utf-8-sig")
    assert "scan_id,modality,view,side,status," in text
    assert ",MG,MLO,L,waiting," in text


def test_the_saved_case_names_the_view(flat_model, tmp_path):
    model = load_model(flat_model)
    scan = session.open_scan(model, chest(tmp_path / "in")["LL"])
    page = case_page(Case(model, scan, "nodule", scan.windows[0], (0, 0, 0)), words("es"), "pdf")
    assert "Lateral izquierda" in text_of(page)


def test_a_view_that_has_no_words_stays_as_it_is_coded():
    english = words("en")
    assert panels.view_words(english, "XCCL", "B") == "XCCL, both sides"
    assert panels.view_words(english, "", "") == ""
    assert panels.view_words(english, "![](HTTP://A.B)", "L") == "left"
    assert "<script" not in panels.caption("", "<script>")


def test_the_same_view_of_the_other_side_comes_first(tmp_path):
    scans = breasts(tmp_path)
    for view in ("CC", "MLO"):
        assert other_views(scans.values(), scans[f"{view}R"])[0] == scans[f"{view}L"]
