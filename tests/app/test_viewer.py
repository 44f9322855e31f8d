"""The page in each of its states, run in this process by Streamlit's own test harness."""

import sys
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from app import panels, review, session
from app.language import words
from app.memory import Memory
from pipeline.config import ReadRules
from pipeline.scans.find import find_scans, read_identity
from tests.app.conftest import NAME, save_tiny_model
from tests.app.pages import alerts, everything, html, open_scan, turn_to

RESEARCH_ONLY = "Research use only. Not a medical device."
INVITATION = "No scan is open. Choose one in the worklist, or upload one."


@pytest.fixture
def canvases(monkeypatch) -> list[SimpleNamespace]:
    """Every canvas that the page shows: its data and its key; (1, 2, 3) is marked on each."""
    found = []

    def spy(data, key, on_point):
        found.append(SimpleNamespace(key=key, **data))
        return (1, 2, 3)

    monkeypatch.setattr(review, "slice_canvas", spy)
    return found


def choose(page: AppTest, number: int = 0) -> AppTest:
    return open_scan(page, find_scans(sys.argv[4])[0][number].scan_id)


def test_no_scan_is_open_at_first(open_page, model_folder, scans):
    page = turn_to(open_page(model_folder, scans), "scan")
    assert not page.exception
    assert page.info[0].value == INVITATION
    assert "No scan is open" in html(page)
    assert not page.get("bidi_component")


def test_every_state_says_research_only_and_names_the_model(open_page, model_folder, scans):
    page = open_page(model_folder, scans)
    for state in (page, choose(page)):
        assert RESEARCH_ONLY in html(state)
        assert f"{NAME}-" in html(state)


def test_a_chosen_scan_shows_picture_probability_and_operating_point(open_page, model_folder, scans):
    page = choose(open_page(model_folder, scans))
    assert not page.exception
    assert alerts(page) == []
    assert len(page.get("bidi_component")) == 1
    assert "calibrated probability" in html(page)
    assert "Positive: at or above 0.430, fixed on the tune split for sensitivity &gt;= 0.95." in html(page)
    assert page.caption[0].value.startswith("Uncertainty ")
    assert "Made for: tests of the viewer" in html(page)
    assert "Unknown patient" in html(page)


def test_the_canvas_is_told_what_it_shows(open_page, model_folder, scans, canvases):
    page = choose(open_page(model_folder, scans))
    canvas = canvases[-1]
    assert not page.exception
    assert (canvas.volume["kind"], canvas.volume["shape"], canvas.volume["hasFrame"]) == ("int16", [20, 18, 12], True)
    assert canvas.volume["url"].startswith("/api/volume/")
    assert [window["name"] for window in canvas.windows] == ["Model", "Full range", "Contrast"]
    assert canvas.words["axial"] == "Axial"
    assert (canvas.heat, canvas.curve) == (None, None)


def test_a_rerun_keeps_the_address_of_the_volume(open_page, model_folder, scans, canvases):
    page = choose(open_page(model_folder, scans))
    page.toggle(key="overlay").set_value(True).run()
    assert len(canvases) > 1
    assert len({(canvas.key, canvas.volume["url"]) for canvas in canvases}) == 1


def test_the_marked_point_is_kept_in_the_volumes_own_voxels(open_page, model_folder, scans, canvases):
    page = choose(open_page(model_folder, scans))
    key = canvases[-1].key.removeprefix("canvas-")
    assert page.session_state[f"point-{key}"] == (18, 15, 3)


def test_the_map_and_its_curve_are_computed_on_demand(open_page, model_folder, scans, canvases, monkeypatch):
    found = np.zeros((20, 18, 12), np.float32)
    found[5, 5, 9] = 1
    monkeypatch.setattr(session, "saliency", lambda *_: found)
    page = choose(open_page(model_folder, scans))
    page.toggle(key="overlay").set_value(True).run()
    assert not page.exception
    assert canvases[-1].heat["shape"] == [20, 18, 12]
    assert canvases[-1].curve == [0.0] * 9 + [1.0] + [0.0] * 2


def test_a_scan_that_left_memory_while_on_show_is_read_again(open_page, model_folder, scans, canvases, monkeypatch):
    monkeypatch.setattr(session, "decoded", Memory(1))
    page = choose(open_page(model_folder, scans))
    session.open_scan(session.the_model(model_folder), find_scans(scans)[0][1])  # another tab takes the room
    page.toggle(key="overlay").set_value(True).run()
    assert not page.exception
    assert alerts(page) == []
    assert canvases[-1].heat is not None
    assert len({canvas.volume["url"] for canvas in canvases}) == 1, "the browser need not fetch it again"


def test_the_page_speaks_the_chosen_language(open_page, model_folder, scans, canvases):
    page = open_page(model_folder, scans)
    page.session_state["language"] = "it"
    choose(page)
    assert canvases[-1].words["axial"] == "Assiale"
    assert "probabilità calibrata" in html(page)


def test_overlay_of_the_real_grad_cam(open_page, model_folder, scans):
    page = choose(open_page(model_folder, scans))
    page.toggle(key="overlay").set_value(True).run()
    assert not page.exception
    assert alerts(page) == []


def test_an_empty_map_is_said_aloud(open_page, model_folder, scans, monkeypatch):
    monkeypatch.setattr(session, "saliency", lambda *_: np.zeros((20, 18, 12), np.float32))
    page = choose(open_page(model_folder, scans))
    page.toggle(key="overlay").set_value(True).run()
    assert page.info[0].value == "The map found no region that speaks for this finding."


def test_several_findings_have_a_card_each_and_a_choice_of_map(open_page, scans, tmp_path):
    model = save_tiny_model(tmp_path / "multi", findings=("nodule", "effusion"))
    page = choose(open_page(model, scans))
    assert html(page).count("class='card'") == 2
    page.toggle(key="overlay").set_value(True).run()
    assert page.selectbox(key="finding").options == ["nodule", "effusion"]


def test_identity_is_on_top(open_page, model_folder, demo_scans):
    scans = find_scans(demo_scans)[0]
    page = choose(open_page(model_folder, demo_scans))
    who = read_identity(scans[0])
    assert who.patient_id
    for text in (panels.readable_name(who.patient_name), who.patient_id, panels.readable_date(who.birth_date)):
        assert text in html(page)


def test_hidden_identity_is_nowhere_on_the_page(open_page, model_folder, demo_scans, capfd):
    scans, rejections = find_scans(demo_scans)
    page = open_page(model_folder, demo_scans, "--hide-identity")
    said = everything(page)
    page = choose(page)
    who = read_identity(scans[0])
    said += everything(page) + capfd.readouterr().err
    assert "Identity hidden" in said
    assert "00001" in said
    number = scans[0].path.relative_to(demo_scans).parts[0]
    assert number in who.patient_name
    assert number not in said
    assert panels.readable_date(who.study_date) not in said
    assert not any(one.path.name in said for one in rejections)


def test_a_refused_scan_shows_its_reason(open_page, scans, tmp_path):
    model = save_tiny_model(tmp_path / "strict", read=ReadRules(modalities=("CT",), allow_unknown_modality=False))
    page = choose(open_page(model, scans))
    assert alerts(page)[0].startswith("Refused: the model is not for this modality (modality). ")
    assert "No scan is open" in html(page)
    assert not page.get("bidi_component")
    assert RESEARCH_ONLY in html(page)


def test_a_scan_that_vanished_is_refused_and_the_page_goes_on(open_page, model_folder, scans):
    page = open_page(model_folder, scans)
    first = find_scans(scans)[0][0].scan_id
    (scans / "DOE-JANE-1.nii.gz").rename(scans / "DOE-JANE-3.nii.gz")
    broken = open_scan(page, first)
    assert not broken.exception
    assert alerts(broken)[0].startswith("Refused: it can't be read from the disk (io_error).")
    assert "DOE" not in alerts(broken)[0]
    again = turn_to(broken, "worklist").button(key="again").click().run()
    assert "DOE-JANE-3.nii.gz" in list(again.dataframe[0].value["what"])
    assert "no longer in the folder" in alerts(open_scan(again, first))[0]


def test_a_scan_that_does_not_fit_is_shown_without_probability(open_page, scans, tmp_path):
    page = choose(open_page(save_tiny_model(tmp_path / "flat", dimensions=2), scans))
    assert alerts(page)[0].startswith(
        "The model makes no prediction. Refused: the model takes one slice (not_one_slice)"
    )
    assert len(page.get("bidi_component")) == 1
    assert "calibrated probability" not in html(page)
    assert not page.toggle


def test_a_model_that_does_not_verify_is_one_clear_message(open_page, scans, tmp_path):
    folder = save_tiny_model(tmp_path / "model")
    weights = bytearray((folder / "weights.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "weights.safetensors").write_bytes(weights)
    page = open_page(folder, scans)
    assert not page.exception
    assert alerts(page) == [
        f"{words('en')('fault.usage', detail='')}model folder refused (checksum): weights.safetensors was changed "
        "after it was written (SHA-256 differs); copy it again"
    ]
    assert not page.dataframe
    assert RESEARCH_ONLY in html(page)


def test_a_missing_folder_is_one_clear_message(open_page, model_folder, tmp_path):
    page = open_page(model_folder, tmp_path / "none")
    assert not page.exception
    assert len(alerts(page)) == 1
    assert "does not exist" in alerts(page)[0]


def test_upload_of_a_picture_has_no_letters_and_no_slices(open_page, scans, tmp_path, canvases):
    picture = BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 30), dtype=np.uint8)).save(picture, "PNG")
    page = open_page(save_tiny_model(tmp_path / "flat", dimensions=2), scans)
    page = turn_to(page, "upload")
    page.file_uploader(key="files").upload("x.png", picture.getvalue(), "image/png").run()
    assert not page.exception
    assert canvases[-1].volume["hasFrame"] is False
    assert canvases[-1].volume["shape"] == [30, 40, 1]
    assert canvases[-1].volume["lengthUnit"] == "px"
    assert "The scan does not tell its voxel spacing: proportions may be wrong." in [
        warning.value for warning in page.warning
    ]


def test_a_fault_shows_no_traceback_and_no_text_of_the_error(open_page, model_folder, scans, monkeypatch, capfd):
    def burst(*_):
        raise RuntimeError("DOE^JANE 4711")

    monkeypatch.setattr(review, "pack_volume", burst)
    page = choose(open_page(model_folder, scans))
    assert not page.exception
    assert "A fault of this viewer" in alerts(page)[0]
    logged = capfd.readouterr().err
    assert "RuntimeError at test_viewer.py" in logged
    assert "DOE" not in everything(page).replace("DOE-JANE", "") + logged


def test_the_page_keeps_nothing_in_its_address(open_page, model_folder, scans):
    page = choose(open_page(model_folder, scans))
    assert page.query_params == {}
    assert "DOE" not in str(page.session_state)
