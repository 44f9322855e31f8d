"""What stands beside a heat map: its true method, and whether to trust it."""

from dataclasses import replace

import pytest

from app.language import LANGUAGES, words
from app.map_panel import map_words
from pipeline.explanation.gradcam import way_of
from pipeline.explanation.trust import MapTrust, save_trust
from pipeline.model.integrity import identity, listing
from pipeline.model.package import Model, load_model
from pipeline.scans.find import find_scans
from tests.app.conftest import save_tiny_model
from tests.app.pages import open_scan


@pytest.fixture
def model(tmp_path) -> Model:
    return load_model(save_tiny_model(tmp_path / "own"))


def checked(own: Model, trusted: bool | None, **changes) -> None:
    """Keeps a check of the model's own way in its folder."""
    way, cascade = way_of(own), {"head": 0.7, "stem": -0.16}
    made_by = identity(listing(own.folder))
    trust = MapTrust(trusted, "", way.method, way.layer, made_by, 8, cascade, 0.92, 36, 39)
    save_trust(own.folder, replace(trust, **changes))


def test_maps_that_were_never_checked_are_a_warning_with_their_true_method(model):
    about = map_words(words("en"), model)
    assert about.made == f"Heat map: HiResCAM, layer {way_of(model).layer}."
    assert about.verdict.endswith("never checked: do not rely on them.")
    assert not about.trusted


def test_maps_that_passed_say_what_was_measured(model):
    checked(model, trusted=True)
    about = map_words(words("en"), model)
    assert about.trusted
    assert about.verdict == "The maps of this model passed their checks."
    assert about.measured == (
        "The peak lay in the finding in 36 of 39 scans (wanted: at least "
        "80 %). Likeness to maps of shuffled weights: -0.16 (wanted: at most 0.5). Likeness under a little noise: 0.92 "
        "(wanted: at least 0.8)."
    )


def test_maps_that_failed_and_maps_without_masks_are_warnings(model):
    checked(model, trusted=False, hits=3)
    about = map_words(words("en"), model)
    assert about.verdict == "The maps of this model are not to be trusted."
    assert about.measured.startswith("The peak lay in the finding in 3 of 39")
    assert not about.trusted
    checked(model, trusted=None, hits=None, n_masks=None)
    about = map_words(words("en"), model)
    assert "was not measured: do not rely on them." in about.verdict
    assert about.measured.startswith("Likeness to")
    assert not about.trusted


def test_the_check_of_another_model_counts_for_nothing(model):
    checked(model, trusted=True, model="0" * 12)
    assert not map_words(words("en"), model).trusted


@pytest.mark.parametrize("code", [code for code in LANGUAGES if code != "en"])
def test_every_language_has_its_own_words_and_the_same_method(model, code):
    checked(model, trusted=False)
    other, english = map_words(words(code), model), map_words(words("en"), model)
    assert "HiResCAM" in other.made
    assert "36" in other.measured
    assert other.verdict != english.verdict
    assert other.made != english.made


@pytest.mark.parametrize("method", ["gradcam", "gradcampp", "occlusion"])
def test_a_model_that_was_checked_another_way_says_that_way(model, method):
    layer = "" if method == "occlusion" else "trunk"
    checked(model, trusted=True, method=method, layer=layer)
    made = map_words(words("en"), model).made
    assert made == f"Heat map: {words('en')(f'map.{method}')}{f', layer {layer}' if layer else ''}."


def test_the_page_warns_of_maps_that_are_not_to_be_trusted(open_page, model, scans):
    checked(model, trusted=False)
    page = open_scan(open_page(model.folder, scans), find_scans(scans)[0][0].scan_id)
    assert not page.warning
    page.toggle(key="overlay").set_value(True).run()
    assert page.warning[0].value.startswith("The maps of this model are not to be trusted.")
    assert any(caption.value.startswith("Heat map: HiResCAM") for caption in page.caption)


def test_the_page_does_not_warn_of_maps_that_passed(open_page, model, scans):
    checked(model, trusted=True)
    page = open_scan(open_page(model.folder, scans), find_scans(scans)[0][0].scan_id)
    page.toggle(key="overlay").set_value(True).run()
    assert not page.exception
    assert not page.warning
    assert any("passed their checks" in caption.value for caption in page.caption)
