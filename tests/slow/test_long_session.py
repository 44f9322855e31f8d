"""One reader for long: memory stays where it was."""

import os

import pytest

from app.session import OpenScans
from pipeline.scans.find import find_scans
from tests.app.conftest import fresh, open_page, save_tiny_model  # noqa: F401 - fixtures
from tests.app.pages import alerts, html, open_scan
from tests.app.volumes import resident_bytes, volumes

pytestmark = pytest.mark.slow

CYCLES = 200


def test_two_hundred_scans_opened_one_after_the_other(open_page, tmp_path):  # noqa: F811 - the fixture
    scans = volumes(tmp_path / "scans", 4, 96)
    page = open_page(save_tiny_model(tmp_path / "model"), scans)
    ids = [scan.scan_id for scan in find_scans(scans)[0]]
    warm = 0
    for number in range(CYCLES):
        page = open_scan(page, ids[number % len(ids)])
        assert alerts(page) == []
        assert "calibrated probability" in html(page)
        if number == CYCLES // 5:
            warm = resident_bytes(os.getpid())
    assert isinstance(page.session_state["opened"], OpenScans)
    now = resident_bytes(os.getpid())
    print(f"\n{CYCLES} scans opened: {warm / 2**20:.0f} MiB after {CYCLES // 5}, {now / 2**20:.0f} MiB at the end")
    assert now < 1.1 * warm
