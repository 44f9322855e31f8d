import numpy as np
import pytest
import torch

from pipeline import load_model
from pipeline.explanation.gradcam import grid_saliency, saliency, to_volume
from pipeline.model.preprocess import preprocess
from pipeline.sections import ModelSection, PreprocessSection
from tests.model.tiny import lively, marked, save_tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(save_tiny(tmp_path_factory.mktemp("tiny") / "model"))


def test_the_map_lies_on_the_scans_own_voxels(model) -> None:
    volume = marked((31, 29, 18), np.diag([2.0, 2, 3, 1]), (20, 8, 10), radius=4)
    found = saliency(model, volume, "nodule")
    assert found.shape == volume.shape
    assert np.isfinite(found).all()
    assert found.min() >= 0
    assert found.max() == pytest.approx(1) or not found.any()


def test_a_peak_on_the_models_grid_comes_back_to_its_place(model) -> None:
    volume = marked((40, 36, 20), np.diag([1.7, 1.7, 4, 1]), (28, 7, 15), radius=2)
    item = preprocess(volume, model.preprocess)
    back = to_volume(item.array[0], item, volume)
    peak = np.array(np.unravel_index(back.argmax(), back.shape))
    assert np.abs(peak - (28, 7, 15)).max() <= 3


def test_the_map_agrees_with_the_definition(model) -> None:
    """Grad-CAM by hand (Selvaraju 2017, equation 1 and 2): features weighted by their mean gradients, then ReLU."""
    volume = marked((30, 30, 20), np.diag([2.0, 2, 3, 1]), (10, 20, 8), radius=3)
    item = preprocess(volume, model.preprocess)
    network = model.networks[0]
    inputs = torch.from_numpy(item.array[None])
    features = network.trunk(inputs).detach().requires_grad_()
    network.head(features.flatten(2).mean(-1))[0, 0].backward()
    weights = features.grad.mean((2, 3, 4), keepdim=True)
    expected = torch.relu((weights * features).sum(1, keepdim=True))
    expected = torch.nn.functional.interpolate(expected, inputs.shape[2:], mode="trilinear", align_corners=False)
    found = grid_saliency(model, item, 0)
    np.testing.assert_allclose(found, expected[0, 0].detach().numpy(), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("section", "size"),
    [
        (ModelSection(dimensions=2, backbone="resnetv2_18"), (64, 64)),
        (ModelSection(dimensions=2, backbone="test_vit"), (96, 96)),
        (ModelSection(backbone="resnet10", width=0.125, shortcut="A"), (32, 32, 16)),
        (ModelSection(architecture="inflated", backbone="test_resnet"), (64, 64, 8)),
        (ModelSection(architecture="slices", backbone="test_resnet"), (64, 64, 5)),
        (ModelSection(architecture="slices", backbone="test_convnext", pooling="max"), (64, 64, 5)),
    ],
)
def test_every_kind_of_network_has_a_map_on_the_scans_own_voxels(tmp_path, section, size) -> None:
    model = load_model(save_tiny(tmp_path / "model", model=section, preprocess=PreprocessSection(size=size)))
    lively(model.networks[0])
    shape = (31, 29, 1 if len(size) == 2 else 9)
    volume = marked(shape, np.diag([2.0, 2, 3, 1]), (20, 8, shape[2] // 2), radius=4)
    item = preprocess(volume, model.preprocess)
    grid = grid_saliency(model, item, 0)
    assert grid.shape == item.array.shape[1:]
    assert np.isfinite(grid).all()
    found = saliency(model, volume, "nodule")
    assert found.shape == volume.shape
    assert found.max() == pytest.approx(1) or not found.any()


def test_a_map_of_slices_agrees_with_its_definition(tmp_path) -> None:
    """As above, by hand, with the gradients' means taken within each slice."""
    section = ModelSection(architecture="slices", backbone="test_resnet")
    model = load_model(save_tiny(tmp_path / "model", model=section, preprocess=PreprocessSection(size=(64, 64, 5))))
    network = lively(model.networks[0])
    item = preprocess(marked((30, 30, 5), np.diag([2.0, 2, 3, 1]), (10, 20, 2), radius=1), model.preprocess)
    inputs = torch.from_numpy(item.array[None])
    features = network.trunk(inputs).detach().requires_grad_()
    network.head(network.pool(features))[0, 0].backward()
    expected = torch.relu((features.grad.mean((3, 4), keepdim=True) * features).sum(1, keepdim=True))
    expected = torch.nn.functional.interpolate(expected, inputs.shape[2:], mode="trilinear", align_corners=False)
    found = grid_saliency(model, item, 0)
    np.testing.assert_allclose(found, expected[0, 0].detach().numpy(), rtol=1e-3, atol=1e-7)


def test_an_unknown_finding_is_named(model) -> None:
    with pytest.raises(KeyError, match="the model predicts nodule, not cyst"):
        saliency(model, marked((9, 9, 9), np.eye(4), (4, 4, 4)), "cyst")
