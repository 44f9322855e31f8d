"""The page in each of its states, run in this process by Streamlit's own test harness."""

import re
import sys
from html import unescape
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from app import panels, review, session
from pipeline.config import ReadRules
from pipeline.scans.find import find_scans, read_identity
from tests.app.conftest import NAME, save_tiny_model
from tests.scans.phantoms import series

PAGE = Path(session.__file__).with_name("viewer.py")
INVITATION = "Choose a scan on the left, or upload one."


@pytest.fixture(autouse=True)
def fresh():
    """No test sees another's model or scans."""
    for cached in (session.parse_settings, session.the_model, session.the_scans):
        cached.cache_clear()


@pytest.fixture
def scans(tmp_path) -> Path:
    """Two NIfTI scans and a file that only claims to be one."""
    folder = tmp_path / "scans"
    folder.mkdir()
    for number in (1, 2):
        voxels = np.random.default_rng(number).normal(-500, 300, (20, 18, 12)).astype(np.int16)
        nib.save(nib.Nifti1Image(voxels, np.diag([2.0, 2.0, 3.0, 1.0])), folder / f"DOE-JANE-{number}.nii.gz")
    (folder / "broken.dcm").write_text("no scan at all")
    return folder


@pytest.fixture
def canvases(monkeypatch) -> list[SimpleNamespace]:
    """Every canvas that the page shows: its data and its key; (1, 2, 3) is marked on each."""
    found = []

    def spy(data, key, on_point):
        found.append(SimpleNamespace(key=key, **data))
        return (1, 2, 3)

    monkeypatch.setattr(review, "slice_canvas", spy)
    return found


@pytest.fixture
def open_page(monkeypatch):
    """Starts the page as `python -m app MODEL SCANS OPTIONS` would."""

    def opened(model: Path, scans: Path, *options: str) -> AppTest:
        monkeypatch.setattr(sys, "argv", ["app", "--model", str(model), "--scans", str(scans), *options])
        return AppTest.from_file(PAGE, default_timeout=60).run()

    return opened


def html(page: AppTest) -> str:
    return "".join(element.proto.body for element in page.get("html"))


def everything(page: AppTest) -> str:
    """All that the page says, in one text."""
    kinds = (page.warning, page.info, page.caption, page.button, page.toggle, page.slider, page.expander)
    said = [str(getattr(one, "value", "")) + str(getattr(one, "label", "")) for kind in kinds for one in kind]
    return html(page) + " ".join(said) + " ".join(option for box in page.selectbox for option in box.options)


def alerts(page: AppTest) -> list[str]:
    """Refusals and errors on the page, as text."""
    return [
        unescape(text) for text in re.findall(r"<div class='alert' role='alert'>(.*?)</div>", html(page), re.DOTALL)
    ]


def choose(page: AppTest, number: int = 0) -> AppTest:
    box = page.selectbox(key="scan")
    return box.set_value(list(session.the_scans.__wrapped__(Path(sys.argv[4]))[0])[number].scan_id).run()


def test_no_scan_is_open_at_first(open_page, model_folder, scans):
    page = open_page(model_folder, scans)
    assert not page.exception
    assert page.info[0].value == INVITATION
    assert "No scan is open" in html(page)
    assert page.selectbox(key="scan").value is None
    assert page.selectbox(key="scan").options == ["DOE-JANE-1.nii.gz · NIfTI", "DOE-JANE-2.nii.gz · NIfTI"]
    assert not page.get("bidi_component")


def test_every_state_says_research_only_and_names_the_model(open_page, model_folder, scans):
    page = open_page(model_folder, scans)
    for state in (page, choose(page)):
        assert panels.RESEARCH_ONLY in html(state)
        assert f"{NAME}-" in html(state)


def test_refused_scans_are_listed_with_their_reason(open_page, model_folder, scans):
    page = open_page(model_folder, scans)
    assert page.expander[0].label == "1 of 3 scans were refused"
    assert "broken.dcm" in html(page)
    assert "not_an_image" in html(page)


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
    assert "CT" in page.selectbox(key="scan").options[0]


def test_hidden_identity_is_nowhere_on_the_page(open_page, model_folder, demo_scans, capfd):
    scans, rejections = find_scans(demo_scans)
    page = choose(open_page(model_folder, demo_scans, "--hide-identity"))
    who = read_identity(scans[0])
    said = everything(page) + capfd.readouterr().err
    assert "Identity hidden" in said
    assert page.selectbox(key="scan").options[0] == "Scan 1 · CT"
    number = scans[0].path.relative_to(demo_scans).parts[0]
    assert number in who.patient_name
    assert number not in said
    assert panels.readable_date(who.study_date) not in said
    assert not any(one.path.name in said for one in rejections)


def test_a_refused_scan_shows_its_reason(open_page, scans, tmp_path):
    model = save_tiny_model(tmp_path / "strict", read=ReadRules(modalities=("CT",), allow_unknown_modality=False))
    page = choose(open_page(model, scans))
    assert alerts(page)[0].startswith("Refused (modality): ")
    assert "No scan is open" in html(page)
    assert not page.get("bidi_component")
    assert panels.RESEARCH_ONLY in html(page)


@pytest.mark.parametrize("more", [(), ("--hide-identity",)])
def test_scans_that_the_model_leaves_out_are_listed_with_the_reason(open_page, tmp_path, more):
    for name, slices in (("thick-DOE", 4), ("thin-DOE", 8)):
        series(tmp_path / "in" / name, lambda ds, k: setattr(ds, "StudyInstanceUID", "1.2.3"), slices=slices)
    model = save_tiny_model(tmp_path / "strict", read=ReadRules(min_slices=6))
    page = open_page(model, tmp_path / "in", *more)
    assert len(page.selectbox(key="scan").options) == 1
    assert "1 of 2 scans were not selected" in [expander.label for expander in page.expander]
    assert "4 slices; read.min_slices asks for at least 6" in html(page)
    assert ("thick-DOE" in html(page)) == (not more)
    assert ("Other scan 1" in html(page)) == bool(more)


def test_a_scan_that_vanished_is_refused_and_the_page_goes_on(open_page, model_folder, scans):
    page = open_page(model_folder, scans)
    first = find_scans(scans)[0][0].scan_id
    (scans / "DOE-JANE-1.nii.gz").rename(scans / "DOE-JANE-3.nii.gz")
    broken = page.selectbox(key="scan").set_value(first).run()
    assert not broken.exception
    assert alerts(broken)[0].startswith("Refused (io_error)")
    assert "DOE" not in alerts(broken)[0]
    broken.button(key="again").click().run()
    assert "DOE-JANE-3.nii.gz · NIfTI" in broken.selectbox(key="scan").options


def test_a_scan_that_does_not_fit_is_shown_without_probability(open_page, scans, tmp_path):
    page = choose(open_page(save_tiny_model(tmp_path / "flat", dimensions=2), scans))
    assert alerts(page)[0].startswith("The model makes no prediction. Refused (not_one_slice)")
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
        "model folder refused (checksum): weights.safetensors was changed after it was written (SHA-256 differs); "
        "copy it again"
    ]
    assert not page.selectbox
    assert panels.RESEARCH_ONLY in html(page)


def test_a_missing_folder_is_one_clear_message(open_page, model_folder, tmp_path):
    page = open_page(model_folder, tmp_path / "none")
    assert not page.exception
    assert len(alerts(page)) == 1
    assert "can't be read" in alerts(page)[0]


def test_upload_of_a_nifti_file(open_page, model_folder, scans):
    page = open_page(model_folder, scans)
    page.segmented_control(key="source").set_value("Upload").run()
    assert page.info[0].value == INVITATION
    content = (scans / "DOE-JANE-1.nii.gz").read_bytes()
    page.file_uploader(key="upload").upload("../../DOE.nii.gz", content, "application/octet-stream").run()
    assert not page.exception
    assert alerts(page) == []
    assert len(page.get("bidi_component")) == 1
    assert "DOE" not in everything(page)


def test_upload_of_a_picture_has_no_letters_and_no_slices(open_page, scans, tmp_path, canvases):
    picture = BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 30), dtype=np.uint8)).save(picture, "PNG")
    page = open_page(save_tiny_model(tmp_path / "flat", dimensions=2), scans)
    page.segmented_control(key="source").set_value("Upload").run()
    page.file_uploader(key="upload").upload("x.png", picture.getvalue(), "image/png").run()
    assert not page.exception
    assert canvases[-1].volume["hasFrame"] is False
    assert canvases[-1].volume["shape"] == [30, 40, 1]
    assert canvases[-1].volume["lengthUnit"] == "px"
    assert panels.WORDS["no_spacing"] in [warning.value for warning in page.warning]


def test_upload_that_is_no_scan_is_refused(open_page, model_folder, scans):
    page = open_page(model_folder, scans)
    page.segmented_control(key="source").set_value("Upload").run()
    page.file_uploader(key="upload").upload("x.png", b"MZ an executable", "image/png").run()
    assert not page.exception
    assert alerts(page)[0].startswith("Refused (not_an_image)")


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
