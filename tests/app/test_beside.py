"""What the reader may put beside the open scan, on the page: earlier studies and other views, each recorded."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from streamlit.testing.v1 import AppTest

from app import review
from pipeline.config import ReadRules
from pipeline.domain import Scan
from pipeline.scans.find import find_scans
from tests.app.conftest import save_tiny_model
from tests.app.pages import alerts, everything, open_scan
from tests.scans.phantoms import series


@pytest.fixture
def shown(monkeypatch) -> list[SimpleNamespace]:
    """Every canvas that the page shows."""
    found = []
    monkeypatch.setattr(
        review, "slice_canvas", lambda data, key, on_point: found.append(SimpleNamespace(key=key, **data))
    )
    return found


def study(folder: Path, date: str, patient: str = "P1", **values: str) -> None:
    def change(dataset, _: int) -> None:
        dataset.PatientID, dataset.StudyDate = patient, date
        for name, value in values.items():
            setattr(dataset, name, value)

    series(folder / f"{patient}-{date}", change, slices=6)


def by_date(folder: Path) -> dict[str, Scan]:
    return {f"{scan.patient_id}-{scan.acquired}": scan for scan in find_scans(folder)[0]}


def select(page: AppTest, scan: Scan):
    return page.selectbox(key=f"beside-{scan.scan_id}")


def test_an_earlier_study_of_the_patient_stands_beside(open_page, model_folder, tmp_path, shown):
    for date, patient in (("20200101", "P1"), ("20230101", "P1"), ("20240101", "P1"), ("20210101", "P2")):
        study(tmp_path / "in", date, patient)
    scans, log = by_date(tmp_path / "in"), tmp_path / "audit.jsonl"
    now, before = scans["P1-20230101"], scans["P1-20200101"]
    page = open_scan(open_page(model_folder, tmp_path / "in", "--audit-log", str(log)), now.scan_id)
    assert select(page, now).options == ["Nothing", "Earlier study 2020-01-01"]
    assert [canvas.key for canvas in shown] == [f"canvas-{now.scan_id}"]
    select(page, now).set_value(before.scan_id).run()
    assert not page.exception
    assert alerts(page) == []
    assert [canvas.key for canvas in shown[-2:]] == [f"canvas-{now.scan_id}", f"canvas-{before.scan_id}"]
    assert all(canvas.compact for canvas in shown[-2:])
    assert "2020-01-01 · nodule " in everything(page)
    assert before.scan_id in [json.loads(line)["scan"] for line in log.read_text().splitlines()]


def test_a_reader_study_shows_no_date_of_an_earlier_study(open_page, model_folder, tmp_path, shown):
    for date in ("20200101", "20230101"):
        study(tmp_path / "in", date)
    scans = by_date(tmp_path / "in")
    page = open_scan(open_page(model_folder, tmp_path / "in", "--hide-identity"), scans["P1-20230101"].scan_id)
    choice = select(page, scans["P1-20230101"])
    assert choice.options == ["Nothing", "Earlier study 1"]
    choice.set_value(scans["P1-20200101"].scan_id).run()
    assert len(shown) == 3
    assert "2020" not in everything(page)


def test_a_lone_scan_has_nothing_beside_it(open_page, model_folder, tmp_path, shown):
    study(tmp_path / "in", "20200101")
    page = open_scan(open_page(model_folder, tmp_path / "in"), by_date(tmp_path / "in")["P1-20200101"].scan_id)
    assert len(shown) == 1
    assert not any((box.key or "").startswith("beside") for box in page.selectbox)


def test_a_refused_neighbour_is_said_and_the_scan_stays(open_page, tmp_path, shown):
    model = save_tiny_model(tmp_path / "strict", read=ReadRules())
    for date in ("20200101", "20230101"):
        study(tmp_path / "in", date)
    scans = by_date(tmp_path / "in")
    page = open_scan(open_page(model, tmp_path / "in"), scans["P1-20230101"].scan_id)
    for path in scans["P1-20200101"].paths:
        path.unlink()
    select(page, scans["P1-20230101"]).set_value(scans["P1-20200101"].scan_id).run()
    assert not page.exception
    assert alerts(page)[0].startswith("Refused: ")
    assert [canvas.key for canvas in shown][-1] == f"canvas-{scans['P1-20230101'].scan_id}"
    assert len(shown) == 2
