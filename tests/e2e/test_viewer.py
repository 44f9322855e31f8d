"""A reader's whole path in a real browser: worklist, scoring, a scan, another language, an opinion, files; uploads."""

import json
import re
import sqlite3
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect

from pipeline.scans.find import find_scans, read_identity
from tests.app.running import Viewer, start_viewer, stop_viewer
from tests.e2e.opening import SECONDS, Watch, open_scan, settled

pytestmark = [
    pytest.mark.e2e,
    # pytest-base-url 2.1 defines its fixture in a way that pytest 10 will refuse; nothing of ours.
    pytest.mark.filterwarnings("ignore:Session-scoped fixtures defined as instance methods"),
]

WIDE = "() => document.documentElement.scrollWidth > window.innerWidth"


def turn_to(page: Page, name: str) -> None:
    page.get_by_role("radio", name=name, exact=True).click()
    settled(page)


def pictures(page: Page, folder: Path, name: str) -> None:
    """The page at the widths of a desk and of a tablet; nothing is cut off on the right."""
    for width in (1440, 1024, 820):
        page.set_viewport_size({"width": width, "height": 1000})
        page.wait_for_timeout(400)
        page.screenshot(path=folder / f"{name}_{width}.png")
        assert not page.evaluate(WIDE)
    page.set_viewport_size({"width": 1440, "height": 1000})
    page.wait_for_timeout(400)


def data_of(viewer: Viewer, name: str) -> Path:
    return next(viewer.data.rglob(name))


def audited(viewer) -> list[dict[str, str]]:
    """The audit log so far; other tests use the same viewer."""
    return [json.loads(line) for file in viewer.data.rglob("audit.jsonl") for line in file.read_text().splitlines()]


def test_main_path(page: Page, viewer, output_path):
    watch = Watch(page)
    before = len(audited(viewer))
    page.goto(viewer.link)
    expect(page.get_by_text("not scored yet").first).to_be_visible(timeout=SECONDS)
    expect(page.get_by_text("Research use only. Not a medical device.")).to_be_visible()
    assert urlsplit(page.url).query == ""
    page.get_by_label("Reader").fill("Ann Reader")
    page.get_by_label("Reader").press("Enter")
    settled(page)

    page.get_by_role("button", name=re.compile(r"Score \d+ scans")).click()
    expect(page.get_by_role("button", name=re.compile(r"Score \d+ scans"))).to_be_hidden(timeout=SECONDS)
    expect(page.get_by_text(re.compile(r"^\d+ scored"))).to_be_visible(timeout=SECONDS)
    settled(page)
    pictures(page, output_path, "worklist")

    scan = next(one for one in find_scans(viewer.scans)[0] if len(one.paths) > 10)
    who = read_identity(scan)
    open_scan(page, scan.path.relative_to(viewer.scans).as_posix())
    expect(page.get_by_role("banner", name="Patient")).to_contain_text(who.patient_id)
    expect(page.get_by_text("calibrated probability")).to_be_visible()
    pictures(page, output_path, "scan")

    page.get_by_role("combobox").last.click()
    page.get_by_role("option", name="Español").click()
    expect(page.get_by_text("probabilidad calibrada")).to_be_visible(timeout=SECONDS)
    settled(page)
    pictures(page, output_path, "scan_es")

    page.get_by_role("radio", name="En desacuerdo").click()
    page.get_by_placeholder("Nota (sin nombres, por favor)").fill("un vaso")
    page.get_by_placeholder("Nota (sin nombres, por favor)").press("Control+Enter")
    settled(page)
    page.get_by_role("button", name="Guardar opinión").click()
    expect(page.get_by_text("Guardado.")).to_be_visible(timeout=SECONDS)

    page.get_by_text("Guardar este caso").click()
    for button, ending in (("PDF", "pdf"), ("PNG", "png"), ("Mapa (NIfTI)", "nii.gz")):
        with page.expect_download(timeout=SECONDS) as download:
            page.get_by_role("button", name=button, exact=True).click()
        assert download.value.suggested_filename == f"{scan.scan_id}_nodule.{ending}"
        assert Path(download.value.path()).stat().st_size > 100
        settled(page)

    with sqlite3.connect(data_of(viewer, "opinions.sqlite")) as connection:
        stored = connection.execute("SELECT reader, scan_id, opinion, note FROM opinions").fetchall()
    connection.close()
    assert stored == [("Ann Reader", scan.scan_id, "disagree", "un vaso")]
    events = audited(viewer)[before:]
    assert [event["event"] for event in events] == ["open", "export", "export", "export"]
    assert {(event["reader"], event["scan"]) for event in events} == {("Ann Reader", scan.scan_id)}

    assert watch.faults == []
    assert watch.hosts == {"127.0.0.1"}
    said = " ".join(watch.requests) + page.url + "".join(viewer.lines) + data_of(viewer, "audit.jsonl").read_text()
    assert not any(part in said for part in (who.patient_id, who.patient_name, "Demo"))
    assert "Traceback" not in said
    expect(page.get_by_role("banner", name="Paciente")).to_be_in_viewport()
    expect(page.get_by_role("contentinfo")).to_be_in_viewport()


def test_an_uploaded_folder_opens_and_asks_nobody_else(page: Page, viewer, output_path):
    watch = Watch(page)
    scan = next(one for one in find_scans(viewer.scans)[0] if len(one.paths) > 10)
    page.goto(viewer.link)
    settled(page)
    turn_to(page, "Upload")
    pictures(page, output_path, "upload")
    page.locator("input[type=file][webkitdirectory]").set_input_files(str(scan.path))
    expect(page.get_by_text("calibrated probability")).to_be_visible(timeout=SECONDS)
    expect(page.get_by_role("banner", name="Patient")).to_contain_text(read_identity(scan).patient_id)
    assert watch.hosts == {"127.0.0.1"}
    assert "Traceback" not in "".join(viewer.lines)


def test_a_reader_study_shows_no_name_of_an_upload(page: Page, tmp_path_factory, viewer):
    folder = tmp_path_factory.mktemp("study")
    hidden = start_viewer(viewer.model, viewer.scans, folder, "--hide-identity")
    try:
        page.set_default_timeout(SECONDS)
        page.goto(hidden.link)
        settled(page)
        turn_to(page, "Upload")
        broken = {"name": "DOE-JANE.zip", "mimeType": "application/zip", "buffer": b"PK\3\4 no archive"}
        page.locator("input[type=file]").first.set_input_files(broken)
        expect(page.get_by_text("Refused: the archive is damaged")).to_be_visible(timeout=SECONDS)
        expect(page.get_by_text("DOE-JANE")).to_be_hidden()
        assert "DOE-JANE" not in "".join(hidden.lines)
    finally:
        stop_viewer(hidden)
