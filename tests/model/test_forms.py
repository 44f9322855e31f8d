"""The same phantom gets the same score, whichever form it comes in."""

from pipeline.model.package import load_model
from tests.model.tiny import save_tiny
from tests.scans.forms import classic, enhanced, nifti


def test_three_forms_get_one_score(tmp_path):
    folder = classic(tmp_path / "classic")
    model = load_model(save_tiny(tmp_path / "model"))
    forms = [folder, enhanced(tmp_path / "e.dcm", folder), nifti(tmp_path / "n.nii")]
    scores = [model.predict(form).probabilities["nodule"] for form in forms]
    assert max(scores) - min(scores) < 1e-5
