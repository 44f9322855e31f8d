import pytest
import timm
import torch
from monai.networks import nets

from pipeline.domain import UsageError
from pipeline.model.backbone import build_network
from pipeline.model.weights import load_backbone
from pipeline.sections import ModelSection


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_monai_2d_equals_timm_bit_for_bit(name) -> None:
    torch.manual_seed(0)
    ours = timm.create_model(name, pretrained=False).eval()
    theirs = getattr(nets, name)(
        spatial_dims=2, n_input_channels=3, num_classes=1000, conv1_t_stride=2, shortcut_type="B", bias_downsample=False
    ).eval()
    theirs.load_state_dict(ours.state_dict())
    picture = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert float((ours(picture) - theirs(picture)).abs().max()) == 0


def test_the_3d_trunk_is_monais_network_up_to_its_pooling() -> None:
    network = build_network(ModelSection(dimensions=3, backbone="resnet10", width=0.25), 1).eval()
    volume = torch.rand(2, 1, 16, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(network.embed(volume), network.trunk.network(volume))


@pytest.mark.parametrize(
    ("rules", "shape"),
    [
        (ModelSection(dimensions=2, backbone="resnet18"), (2, 1, 64, 64)),
        (ModelSection(dimensions=2, backbone="resnet18", channels=3, pooling="max"), (2, 3, 64, 64)),
        (ModelSection(dimensions=2, backbone="resnet18", stem_stride=1, stem_pool=False), (2, 1, 28, 28)),
        (ModelSection(dimensions=3, backbone="resnet18", width=0.25, stem_size=3), (2, 1, 16, 32, 32)),
    ],
)
def test_outputs_and_gradients(rules, shape) -> None:
    network = build_network(rules, 3)
    logits = network(torch.rand(shape))
    assert logits.shape == (2, 3)
    logits.sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())


def test_a_small_stem_keeps_small_pictures_large() -> None:
    plain = build_network(ModelSection(dimensions=2), 1).eval().trunk(torch.rand(1, 1, 28, 28))
    light = (
        build_network(ModelSection(dimensions=2, stem_stride=1, stem_pool=False), 1)
        .eval()
        .trunk(torch.rand(1, 1, 28, 28))
    )
    assert (plain.shape[-1], light.shape[-1]) == (1, 4)


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (
            ModelSection(dimensions=2, backbone="resnet19"),
            "timm knows no network 'resnet19'; it has for example resnet",
        ),
        (ModelSection(dimensions=3, backbone="resnext50"), "3D networks are resnet10, .* got 'resnext50'"),
        (ModelSection(dimensions=2, backbone="vit_tiny_patch16_224", stem_stride=1), "no single first convolution"),
        (ModelSection(dimensions=2, backbone="vit_tiny_patch16_224", stem_pool=False), "no pooling in its stem"),
    ],
)
def test_networks_that_do_not_exist_are_named(rules, message) -> None:
    with pytest.raises(UsageError, match=message):
        build_network(rules, 1)


def test_no_weights_leaves_the_start_random() -> None:
    network = build_network(ModelSection(dimensions=2), 1)
    before = network.trunk.network.conv1.weight.clone()
    assert "start at random" in str(load_backbone(network.trunk, "none"))
    assert torch.equal(before, network.trunk.network.conv1.weight)
