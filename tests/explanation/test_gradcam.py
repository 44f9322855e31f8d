from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from pipeline import load_model
from pipeline.domain import ScanError, UsageError
from pipeline.explanation import gradcam
from pipeline.explanation.gradcam import (
    FEWEST_CELLS,
    METHODS,
    OCCLUSION,
    Way,
    grid_saliency,
    saliency,
    to_volume,
    way_of,
)
from pipeline.explanation.trust import MapTrust, save_trust
from pipeline.model.preprocess import preprocess
from pipeline.sections import ModelSection, PreprocessSection
from tests.model.tiny import lively, marked, save_tiny

LAST = Way("gradcam", "trunk")
SLICES = ModelSection(architecture="slices", backbone="test_resnet")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(save_tiny(tmp_path_factory.mktemp("tiny") / "model"), "cpu")


def inputs_of(model, *places) -> np.ndarray:
    shape = (30, 30, 20)
    volumes = [marked(shape, np.diag([2.0, 2, 3, 1]), place, radius=3) for place in places]
    return np.stack([preprocess(volume, model.preprocess).array for volume in volumes])


@pytest.mark.parametrize("method", METHODS)
def test_the_map_lies_on_the_scans_own_voxels(model, method) -> None:
    volume = marked((31, 29, 18), np.diag([2.0, 2, 3, 1]), (20, 8, 10), radius=4)
    found = saliency(model, volume, "nodule", way_of(model, method))
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


def by_hand(network, inputs, layer):
    """Features and gradients at a layer, with plain autograd."""
    kept = []
    hook = network.get_submodule(layer).register_forward_hook(lambda _m, _i, output: kept.append(output))
    logit = network(inputs)[0, 0]
    hook.remove()
    return kept[0].detach(), torch.autograd.grad(logit, kept[0])[0]


@pytest.mark.parametrize("layer", ["trunk", "layer2"])
def test_maps_agree_with_their_definitions(model, layer) -> None:
    """Grad-CAM (Selvaraju 2017, equations 1 and 2) and HiResCAM (Draelos 2020, equation 4)."""
    arrays = inputs_of(model, (10, 20, 8))
    name = layer if layer == "trunk" else f"trunk.network.{layer}"
    features, gradients = by_hand(model.networks[0], torch.from_numpy(arrays), name)
    weights = {"gradcam": gradients.mean((2, 3, 4), keepdim=True), "hirescam": gradients}
    for method, weight in weights.items():
        coarse = torch.relu((weight * features).sum(1, keepdim=True))
        expected = interpolate(coarse, arrays.shape[2:], mode="trilinear", align_corners=False)[0, 0]
        found = grid_saliency(model, arrays, 0, Way(method, layer))[0]
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-3, atol=1e-6)


def test_grad_cam_plus_plus_agrees_with_its_definition(model) -> None:
    """Chattopadhyay 2018, equations 18 and 19, without the factor exp(score) of the whole map."""
    arrays = inputs_of(model, (10, 20, 8))
    a, g = by_hand(model.networks[0], torch.from_numpy(arrays), "trunk.network.layer1")
    total = (a * g**3).sum((2, 3, 4), keepdim=True)
    alpha = g**2 / (2 * g**2 + total + 1e-7)
    weights = (alpha * torch.relu(g)).sum((2, 3, 4), keepdim=True)
    coarse = torch.relu((weights * a).sum(1, keepdim=True))
    expected = interpolate(coarse, arrays.shape[2:], mode="trilinear", align_corners=False)[0, 0].numpy()
    found = grid_saliency(model, arrays, 0, Way("gradcampp", "layer1"))[0]
    np.testing.assert_allclose(found / found.max(), expected / expected.max(), rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("layer", ["trunk", "layer2"])
def test_a_map_of_slices_weighs_each_slice_by_itself(tmp_path, layer) -> None:
    rules = PreprocessSection(size=(64, 64, 5))
    model = load_model(save_tiny(tmp_path / "model", model=SLICES, preprocess=rules), "cpu")
    network = lively(model.networks[0])
    item = preprocess(marked((30, 30, 5), np.diag([2.0, 2, 3, 1]), (10, 20, 2), radius=1), model.preprocess)
    inputs = torch.from_numpy(item.array[None])
    features, gradients = by_hand(network, inputs, layer if layer == "trunk" else f"trunk.network.{layer}")
    coarse = torch.relu((gradients.mean((-2, -1), keepdim=True) * features).sum(1, keepdim=True))
    coarse = coarse if coarse.ndim == 5 else coarse.transpose(0, 1)[None]
    expected = interpolate(coarse, inputs.shape[2:], mode="trilinear", align_corners=False)
    found = grid_saliency(model, item.array[None], 0, Way("gradcam", layer))[0]
    np.testing.assert_allclose(found, expected[0, 0].numpy(), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_gives_each_scan_its_own_map(tmp_path, method) -> None:
    kinds = [ModelSection(backbone="resnet10", width=0.125), SLICES]
    for architecture in kinds[method == OCCLUSION :]:
        rules = PreprocessSection(size=(32, 32, 2 if method == OCCLUSION else 6))
        home = save_tiny(tmp_path / architecture.architecture, model=architecture, preprocess=rules)
        model = load_model(home, "cpu")
        lively(model.networks[0])
        arrays, way = inputs_of(model, (10, 20, 8), (22, 6, 12)), way_of(model, method)
        both = grid_saliency(model, arrays, 0, way)
        alone = np.concatenate([grid_saliency(model, one[None], 0, way) for one in arrays])
        np.testing.assert_allclose(both, alone, rtol=1e-4, atol=1e-6)


def test_a_model_that_averages_mirror_images_has_an_average_map(tmp_path) -> None:
    model = load_model(save_tiny(tmp_path / "model", members=2, test_time_flips=("x",)), "cpu")
    arrays = inputs_of(model, (10, 20, 8))
    found = grid_saliency(model, arrays, 0, LAST)
    plain = replace(model, settings=model.settings.model_copy(update={"test_time_flips": ()}))
    mirrored = grid_saliency(plain, arrays[..., ::-1].copy(), 0, LAST)[..., ::-1]
    np.testing.assert_allclose(found, (grid_saliency(plain, arrays, 0, LAST) + mirrored) / 2, rtol=1e-4, atol=1e-7)


def test_nothing_stays_on_the_network(model) -> None:
    arrays = inputs_of(model, (10, 20, 8))
    before = model.outputs(arrays)[0]
    for method in FEWEST_CELLS:
        grid_saliency(model, arrays, 0, way_of(model, method))
    for module in model.networks[0].modules():
        assert not module._forward_hooks
        assert not module._backward_hooks
    assert all(parameter.grad is None for parameter in model.networks[0].parameters())
    np.testing.assert_array_equal(model.outputs(arrays)[0], before)


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
def test_every_kind_of_network_has_a_map_of_every_kind(tmp_path, section, size) -> None:
    model = load_model(save_tiny(tmp_path / "model", model=section, preprocess=PreprocessSection(size=size)), "cpu")
    lively(model.networks[0])
    shape = (31, 29, 1 if len(size) == 2 else 9)
    volume = marked(shape, np.diag([2.0, 2, 3, 1]), (20, 8, shape[2] // 2), radius=4)
    item = preprocess(volume, model.preprocess)
    for method in METHODS if len(size) == 2 else FEWEST_CELLS:
        (grid,) = grid_saliency(model, item.array[None], 0, way_of(model, method))
        assert grid.shape == item.array.shape[1:]
        assert np.isfinite(grid).all()
        assert grid.min() >= 0
    assert saliency(model, volume, "nodule").shape == volume.shape


def test_occlusion_finds_what_the_answer_rests_on(model) -> None:
    """A network whose answer is the brightness of one corner."""

    class Corner(torch.nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return inputs[:, 0, 4:12, 4:12, 4:12].mean((1, 2, 3))[:, None]

    arrays = np.ones((1, 1, 32, 32, 32), dtype=np.float32)
    corner = replace(model, networks=[Corner()])
    (found,) = grid_saliency(corner, arrays, 0, Way(OCCLUSION, ""))
    assert all(4 <= at < 12 for at in np.unravel_index(found.argmax(), found.shape))
    assert found[4:12, 4:12, 4:12].mean() > 20 * found[16:, 16:, 16:].mean()


def test_occlusion_of_large_inputs_is_refused_with_ways_that_the_command_takes(model) -> None:
    with pytest.raises(UsageError, match=r"up to 1,048,576 voxels; this model.s have 2,097,152") as told:
        grid_saliency(model, np.zeros((1, 1, 128, 128, 128), dtype=np.float32), 0, Way(OCCLUSION, ""))
    named = str(told.value).partition("pipeline.explain --method ")[2].partition(";")[0].split(" or ")
    assert [way_of(model, method).method for method in named] == [m for m in METHODS if m != OCCLUSION]


def test_how_maps_are_made(tmp_path) -> None:
    model = load_model(save_tiny(tmp_path / "model"), "cpu")
    assert way_of(model) == Way("hirescam", "layer1")
    assert way_of(model, "gradcam") == Way("gradcam", "layer2")
    assert way_of(model, "gradcam", "trunk") == LAST
    assert way_of(model, "occlusion") == Way("occlusion", "")
    trust = MapTrust(True, "", "gradcam", "layer3", model.model_id.rpartition("-")[2], 1, {"head": 0.1}, 1.0)
    save_trust(model.folder, trust)
    assert way_of(model) == way_of(model, "gradcam") == Way("gradcam", "layer3")  # as it was checked
    assert way_of(model, "hirescam") == Way("hirescam", "layer1")
    with pytest.raises(UsageError, match="method: expected one of hirescam, gradcam, gradcampp, occlusion, got 'lime'"):
        way_of(model, "lime")
    with pytest.raises(UsageError, match="layer: occlusion looks at no layer"):
        way_of(model, "occlusion", "layer1")


def test_an_unknown_finding_is_named(model) -> None:
    with pytest.raises(KeyError, match="the model predicts nodule, not cyst"):
        saliency(model, marked((9, 9, 9), np.eye(4), (4, 4, 4)), "cyst")


OUT_OF_MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


@pytest.mark.parametrize("holds", [3, 1])
def test_where_memory_ends_maps_are_made_in_smaller_batches(model, monkeypatch, holds) -> None:
    inputs, sizes = inputs_of(model, (20, 8, 10), (8, 20, 5), (15, 15, 10), (5, 5, 15)), []
    whole, way = grid_saliency(model, inputs, 0), way_of(model)

    def maps(network, batch, *how):
        sizes.append(len(batch))
        if len(batch) > holds:
            raise OUT_OF_MEMORY
        return made(network, batch, *how)

    made = gradcam._maps
    monkeypatch.setattr(gradcam, "_maps", maps)
    np.testing.assert_allclose(grid_saliency(model, inputs, 0, way), whole, atol=1e-5)
    assert sizes[0] == 4
    assert set(sizes) == {4, 2} | ({1} if holds == 1 else set())


def test_after_the_gpu_comes_the_cpu_and_the_network_goes_back(model, monkeypatch) -> None:
    inputs, moves = inputs_of(model, (20, 8, 10)), []
    whole = grid_saliency(model, inputs, 0)
    (network,) = model.networks

    def to_device(some, device):
        if device.type == "cuda":
            raise OUT_OF_MEMORY
        return some

    monkeypatch.setattr(gradcam, "on_device", to_device)
    monkeypatch.setattr(network, "to", lambda device: moves.append(device.type))
    found = gradcam._with_less(network, torch.from_numpy(inputs), 0, way_of(model), torch.device("cuda"))
    np.testing.assert_allclose(found.numpy(), whole, atol=1e-5)
    assert moves == ["cuda"]


def test_a_map_that_is_too_much_for_all_is_refused_and_other_errors_are_not_taken_for_it(model, monkeypatch) -> None:
    def fail(*_):
        raise errors.pop()

    monkeypatch.setattr(gradcam, "_maps", fail)
    errors = [RuntimeError("shapes do not fit"), OUT_OF_MEMORY]
    with pytest.raises(ScanError, match="too_large: the heat map needs more memory for this scan than there is"):
        grid_saliency(model, inputs_of(model, (20, 8, 10)), 0)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        grid_saliency(model, inputs_of(model, (20, 8, 10)), 0)
