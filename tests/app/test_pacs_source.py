"""A PACS as the viewer's source: listed, opened, and what it does not give is told."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from app import pacs_source
from app.__main__ import viewer_app
from app.background import Stopped
from app.catalog import read_catalog
from app.settings import Settings
from pipeline.domain import ReadRules, Reason, ScanError, UsageError
from pipeline.scans.find import read_volume
from tests.app.pages import alerts, everything, html, open_scan
from tests.scans.fake_pacs import BOUNDARY, Handler, Server, encoded, instances, part, serving
from tests.signals import heeded

QUERY = "Modality=CT&StudyDate=20260101-20260131"
VIEWER = """
import sys
from pathlib import Path
from app import __main__ as launcher
from app.catalog import the_catalog
from pipeline.domain import ReadRules
launcher._check_contents = lambda settings: None  # this is not about the model
model, address, query = sys.argv[1:]
announce = launcher._announce
def opened(*link):
    the_catalog(Path(address), ReadRules(), query)  # as the worklist does
    announce(*link)
launcher._announce = opened
sys.exit(launcher.main(["--model", model, "--scans", address, "--query", query, "--port", "0"]))
"""
"""A viewer that begins to retrieve as soon as it is up, without a browser that opens the worklist."""


@pytest.fixture
def pacs(monkeypatch, tmp_path):
    """A PACS, and a temporary folder of its own for what it sends."""
    folder = tmp_path / "kept"
    folder.mkdir()
    pacs_source.begin()
    monkeypatch.setattr(pacs_source.Kept, "folder", folder)
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
    kept = pacs_source.Kept()
    assert kept.folder.stat().st_mode & 0o077 == 0
    kept.remove()
    assert not kept.folder.exists()
    kept.remove()  # nothing there: nothing happens


def test_the_folder_goes_with_the_viewer_and_nothing_is_retrieved_after_it():
    with serving() as server, TestClient(viewer_app(Settings(Path("m"), Path("s"))), base_url="http://127.0.0.1"):
        folder, _ = pacs_source.retrieved(server.address, QUERY, lambda *_: None)
        assert list(folder.rglob("*.dcm"))
    assert not folder.exists()
    with pytest.raises(Stopped):
        pacs_source.retrieved(server.address, QUERY, lambda *_: None)
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


def trickling(handler: Handler) -> bool:
    """A series that comes instance by instance, each a moment after the other."""
    if not handler.is_retrieval:
        return False
    bodies = [part(encoded(one)) for one in handler.server.instances]
    handler.reply(b"", f"multipart/related; boundary={BOUNDARY.decode()}", length=sum(map(len, bodies)))
    for body in bodies:
        handler.wfile.write(body)
        handler.wfile.flush()
        time.sleep(0.05)
    return True


@pytest.mark.parametrize(
    ("signals", "code"),
    [
        ((signal.SIGTERM,), -signal.SIGTERM),
        pytest.param((signal.SIGINT,), 130, marks=pytest.mark.slow),
        pytest.param((signal.SIGINT, signal.SIGINT), 130, marks=pytest.mark.slow),
        pytest.param((signal.SIGHUP,), -signal.SIGTERM, marks=pytest.mark.slow),
    ],
    ids=["SIGTERM", "Ctrl-C", "Ctrl-C twice", "its window closed"],
)
def test_a_series_under_way_goes_with_the_viewer(signals, code, model_folder, tmp_path):
    with serving() as server:
        server.instances, server.faults = instances(600), [trickling]
        with heeded():
            viewer = subprocess.Popen(
                [sys.executable, "-c", VIEWER, str(model_folder), server.address, QUERY],
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                env={**os.environ, "TMPDIR": str(tmp_path), "XDG_DATA_HOME": str(tmp_path / "own")},
            )  # fmt: skip
        assert any("?token=" in line for line in viewer.stdout)
        while viewer.poll() is None and not list(tmp_path.glob("scanline-*/scans/.partial/*/*.dcm")):
            time.sleep(0.01)
        for number in signals:
            viewer.send_signal(number)
            time.sleep(0.01)
        said, _ = viewer.communicate(timeout=120)
    assert viewer.returncode == code, said
    assert list(tmp_path.glob("scanline-*")) == []
