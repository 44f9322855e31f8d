"""A PACS as the viewer's source: listed, opened, and what it does not give is told."""

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from app import pacs_source
from app.__main__ import viewer_app
from app.catalog import read_catalog
from app.settings import Settings
from pipeline.domain import ReadRules, Reason, ScanError, UsageError
from pipeline.scans.find import read_volume
from tests.app.pages import alerts, everything, html, open_scan
from tests.scans.fake_pacs import Server, serving

QUERY = "Modality=CT&StudyDate=20260101-20260131"


@pytest.fixture
def pacs(monkeypatch, tmp_path):
    """A PACS, and a temporary folder of its own for what it sends."""
    folder = tmp_path / "kept"
    folder.mkdir()
    monkeypatch.setattr(pacs_source, "_folder", lambda: folder)
    with serving() as server:
        yield server


def asked(server: Server) -> int:
    return sum("/series/" in path and not path.split("?")[0].endswith("instances") for path in server.asked)


def test_what_a_query_finds_is_listed_and_can_be_read(pacs):
    seen = []
    catalog = read_catalog(Path(pacs.address), ReadRules(), lambda *at: seen.append(at), QUERY)
    (scan,) = catalog.found.scans
    assert read_volume(scan).shape[2] == 6
    assert catalog.identities[scan.scan_id].patient_name
    assert seen == [(1, 1)]
    times = asked(pacs)
    again = read_catalog(Path(pacs.address), ReadRules(), lambda *_: None, QUERY)
    assert [one.scan_id for one in again.found.scans] == [scan.scan_id]
    assert asked(pacs) == times  # it lay there, complete


def test_a_series_that_does_not_come_whole_is_a_refused_row(pacs):
    pacs.counted = 7
    catalog = read_catalog(Path(pacs.address), ReadRules(), lambda *_: None, QUERY)
    assert catalog.found.scans == []
    (lost,) = catalog.found.rejections
    assert lost.reason is Reason.PACS_INCOMPLETE


def test_a_pacs_that_denies_access_is_told(pacs):
    pacs.faults.append(lambda handler: handler.reply(b"", "text/plain", 401) or True)
    with pytest.raises(ScanError, match="pacs_denied"):
        read_catalog(Path(pacs.address), ReadRules(), lambda *_: None, QUERY)


def test_a_full_disk_is_told(pacs, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pipeline.scoring.pacs_batch.retrieve_all", full)
    with pytest.raises(UsageError, match=r"temporary folder \(No space left on device\); make room"):
        pacs_source.retrieved(pacs.address, QUERY, lambda *_: None)


def test_the_folder_is_this_users_alone():
    folder = pacs_source._folder()
    assert folder.stat().st_mode & 0o077 == 0
    pacs_source.remove()
    assert not folder.exists()
    pacs_source.remove()  # nothing there: nothing happens


def test_the_folder_goes_with_the_viewer():
    with TestClient(viewer_app(Settings(Path("m"), Path("s"))), base_url="http://127.0.0.1"):
        folder = pacs_source._folder()
        assert folder.is_dir()
    assert not folder.exists()


def test_the_worklist_lists_a_pacs_and_opens_its_scans(pacs, open_page, model_folder):
    page = open_page(model_folder, Path(pacs.address), "--query", QUERY)
    assert alerts(page) == []
    (table,) = page.dataframe
    assert len(table.value) == 1
    scan_id = read_catalog(Path(pacs.address), ReadRules(), lambda *_: None, QUERY).found.scans[0].scan_id
    page = open_scan(page, scan_id)
    assert alerts(page) == []
    assert "calibrated probability" in html(page)
    assert pacs.address not in everything(page)


def test_the_worklist_says_that_a_pacs_denies_access(pacs, open_page, model_folder):
    pacs.faults.append(lambda handler: handler.reply(b"", "text/plain", 403) or True)
    page = open_page(model_folder, Path(pacs.address), "--query", QUERY)
    assert any("the PACS denies it" in text for text in alerts(page))
