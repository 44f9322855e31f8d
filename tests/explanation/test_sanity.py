import json
import shutil
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch

from pipeline import load_model
from pipeline.domain import UsageError
from pipeline.explanation.gradcam import Way
from pipeline.explanation.sanity import EMPTY, SCANS, _judged, check_maps, masks_of
from pipeline.explanation.trust import REPORT, UNCHECKED, map_trust, save_trust, verdict
from pipeline.model.integrity import verify
from pipeline.scans.find import survey
from tests.explanation.bright import lesion_scan, save_bright
from tests.model.tiny import save_tiny

WAY = Way("gradcam", "layer1")


def silent(*_: object) -> None:
    """No progress bar."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """scans/ with a lesion each, masks/ over them in another orientation, wrong/ with masks elsewhere."""
    root = tmp_path_factory.mktemp("masked")
    for name in ("scans", "masks", "wrong"):
        (root / name).mkdir()
    for seed in range(10):
        voxels, mask, affine = lesion_scan(seed)
        nib.save(nib.Nifti1Image(voxels, affine), root / "scans" / f"{seed}.nii")
        turned = nib.Nifti1Image(mask.astype(np.uint8), affine).as_reoriented([[1, -1], [0, 1], [2, -1]])
        nib.save(turned, root / "masks" / f"{seed}.nii.gz")
        nib.save(nib.Nifti1Image(mask[::-1, ::-1].astype(np.uint8), affine), root / "wrong" / f"{seed}.nii.gz")
    return root


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(save_bright(tmp_path_factory.mktemp("bright") / "model"), "cpu")


@pytest.fixture(scope="module")
def trust(model, folder):
    return checked(model, folder, "masks")


def checked(model, folder, masks):
    scans = survey(folder / "scans").scans
    chosen = masks_of(scans, folder / "scans", masks and folder / masks, model.findings)
    return check_maps(model, chosen, WAY, silent)


def test_peaks_in_the_lesion_are_counted_in_the_patients_space(model, folder, trust) -> None:
    found = trust
    assert (found.hits, found.n_masks, found.hit_rate) == (10, 10, 1.0)
    assert (found.method, found.layer, found.n_scans) == ("gradcam", "layer1", SCANS)
    assert list(found.randomised) == ["head", "stage 4", "stage 3", "stage 2", "stage 1", "stem"]
    assert found.noise > 0.7
    wrong = checked(model, folder, "wrong")
    assert wrong.trusted is False
    assert wrong.sentence.startswith("Maps of this model are not to be trusted:")
    assert f"the peak lies in the lesion in {wrong.hits} of 10 scans" in wrong.sentence
    assert wrong.hits <= 3


def test_a_map_that_does_not_depend_on_the_weights_is_not_trusted(trust) -> None:
    """This network is a blur whatever the order of its weights."""
    assert trust.randomised["stem"] > 0.5
    assert trust.trusted is False
    assert "hardly change when the weights are shuffled" in trust.sentence


def test_a_network_that_learned_depends_on_its_weights(tmp_path, folder) -> None:
    """Weights of both signs: shuffled, they make another map."""
    model = load_model(save_tiny(tmp_path / "model"), "cpu")
    assert checked(model, folder, None).randomised["stem"] < 0.5


def test_empty_maps_are_not_trusted_and_refused_scans_are_counted(tmp_path, folder) -> None:
    model = load_model(save_bright(tmp_path / "model"), "cpu")
    with torch.no_grad():
        model.networks[0].head.weight.mul_(-1)  # all evidence is against the finding
    (tmp_path / "scans").mkdir()
    shutil.copy(folder / "scans" / "0.nii", tmp_path / "scans")
    one_slice = np.random.default_rng(0).random((9, 9, 1), dtype=np.float32)
    nib.save(nib.Nifti1Image(one_slice, np.eye(4)), tmp_path / "scans" / "a.nii")
    found = checked(model, tmp_path, None)
    assert (found.trusted, found.sentence, found.n_refused) == (False, EMPTY, 1)


def test_without_masks_nobody_knows(model, folder) -> None:
    found = checked(model, folder, None)
    assert (found.hits, found.n_masks, found.hit_rate) == (None, None, None)
    calm = replace(found, trusted=None, randomised={"stem": 0.1}, noise=0.9)
    assert _judged(calm).trusted is None
    assert _judged(calm).sentence.startswith("Whether these maps point at lesions was not measured")
    assert _judged(replace(calm, hits=8, n_masks=10)).trusted is True
    assert _judged(replace(calm, hits=7, n_masks=10)).trusted is False
    assert "a little noise changes them" in _judged(replace(calm, noise=0.5)).sentence


def test_it_is_kept_in_the_model_folder_and_the_model_stays_the_same(model, trust) -> None:
    assert map_trust(model.folder) is None
    save_trust(model.folder, trust)
    assert map_trust(model.folder) == trust
    assert verify(model.folder)
    assert load_model(model.folder, "cpu").model_id == model.model_id
    assert not list(model.folder.glob(".*"))
    assert verdict(trust, "gradcam", "layer1") == (trust.trusted, trust.sentence)
    assert verdict(trust, "gradcam", "trunk") == verdict(None, "hirescam", "layer1") == (None, UNCHECKED)


def test_what_was_measured_of_another_model_does_not_count(model, trust) -> None:
    save_trust(model.folder, replace(trust, model="0" * 12))
    assert map_trust(model.folder) is None
    report = model.folder / REPORT
    report.write_text(json.dumps({"trusted": True}))
    assert map_trust(model.folder) is None


def test_masks_lie_where_their_scans_do(folder, tmp_path) -> None:
    scans = survey(folder / "scans").scans
    (tmp_path / "cyst").mkdir()
    (tmp_path / "cyst" / "3.nii.gz").touch()
    (one,) = masks_of(scans, folder / "scans", tmp_path, ["nodule", "cyst"])
    assert one.masks == {"cyst": tmp_path / "cyst" / "3.nii.gz"}
    with pytest.raises(UsageError, match="holds no mask for 10 scans; expected for example"):
        masks_of(scans, folder / "scans", tmp_path, ["nodule"])


def test_scans_that_can_not_be_used_are_an_error(model, tmp_path) -> None:
    nib.save(
        nib.Nifti1Image(np.random.default_rng(0).random((9, 9, 1), dtype=np.float32), np.eye(4)), tmp_path / "a.nii"
    )
    chosen = masks_of(survey(tmp_path).scans, tmp_path, None, model.findings)
    with pytest.raises(UsageError, match="--check: 1 scan found, each refused"):
        check_maps(model, chosen, WAY, silent)
