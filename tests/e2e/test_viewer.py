"""What the viewer hides in a reader study, in a real browser."""

import pytest
from playwright.sync_api import Page, expect

from tests.app.running import start_viewer, stop_viewer
from tests.e2e.opening import SECONDS

pytestmark = [
    pytest.mark.e2e,
    # pytest-base-url 2.1 defines its fixture in a way that pytest 10 will refuse; nothing of ours.
    pytest.mark.filterwarnings("ignore:Session-scoped fixtures defined as instance methods"),
]


def test_a_reader_study_shows_no_name_of_an_upload(page: Page, tmp_path_factory, viewer):
    folder = tmp_path_factory.mktemp("study")
    hidden = start_viewer(viewer.model, viewer.scans, folder, "--hide-identity")
    try:
        page.set_default_timeout(SECONDS)
        page.goto(hidden.link)
        page.get_by_text("Upload", exact=True).click()
        broken = {"name": "DOE-JANE.png", "mimeType": "image/png", "buffer": b"MZ no picture"}
        page.locator("input[type=file]").set_input_files(broken)
        expect(page.get_by_text("Refused (not_an_image)")).to_be_visible(timeout=SECONDS)
        expect(page.get_by_text("DOE-JANE")).to_be_hidden()
        assert "DOE-JANE" not in "".join(hidden.lines)
    finally:
        stop_viewer(hidden)
