import pytest
import timm
import torch
from monai.networks.nets.resnet import ResNet, ResNetBlock

from pipeline.domain import UsageError
from pipeline.model.backbone import build_network
from pipeline.model.weights import load_backbone
from pipeline.sections import ModelSection
from tests.model.tiny import lively


@pytest.mark.parametrize(
    ("name", "inflation", "depth"),
    [
        ("test_resnet", "mean", 1),
        ("test_resnet", "mean", 8),
        ("test_resnet", "centre", 5),
        ("resnet18", "mean", 5),
        ("resnetv2_18d", "mean", 5),
        ("resnetv2_18d", "centre", 3),
        ("seresnext26d_32x4d", "mean", 5),
    ],
)
def test_a_volume_of_equal_slices_gives_what_the_2d_network_gives(tmp_path, name, inflation, depth) -> None:
    flat = lively(timm.create_model(name, in_chans=3, num_classes=0, global_pool=""))
    torch.save(flat.state_dict(), tmp_path / "w.pth")
    rules = ModelSection(architecture="inflated", backbone=name, inflation=inflation, weights=str(tmp_path / "w.pth"))
    network = build_network(rules, 1).eval()
    match = load_backbone(network.trunk, rules)
    assert (match.loaded, match.fresh, match.foreign) == (match.total, (), ())
    assert match.adapted[0] in ("conv1.weight", "conv1.0.weight", "stem.conv1.weight")
    picture = torch.rand(1, 1, 64, 64)
    with torch.inference_mode():
        expected = flat.forward_features(picture.expand(-1, 3, -1, -1))
        found = network.trunk(picture[:, :, None].expand(-1, -1, depth, -1, -1))
    assert found.ndim == 5
    for z in range(found.shape[2]):
        torch.testing.assert_close(found[:, :, z], expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_zeros_beyond_the_outer_slices_break_that_equality() -> None:
    torch.manual_seed(0)
    same = ModelSection(architecture="inflated", backbone="test_resnet")
    repeated = build_network(same, 1).eval()
    zeros = build_network(same.model_copy(update={"depth_padding": "zeros"}), 1).eval()
    zeros.load_state_dict(repeated.state_dict())
    volume = torch.rand(1, 1, 1, 64, 64).expand(-1, -1, 5, -1, -1)
    with torch.inference_mode():
        assert not torch.allclose(zeros.trunk(volume), repeated.trunk(volume), rtol=0.01)


def test_with_zeros_it_is_monais_network_of_the_same_kernels() -> None:
    """The same shape as I3ResNet (Merlin, Astra): a first convolution of 3 x 7 x 7 that keeps every slice."""
    network = build_network(
        ModelSection(architecture="inflated", backbone="resnet18", channels=3, depth_padding="zeros"), 1
    )
    lively(network)
    monais = ResNet(
        ResNetBlock, [2, 2, 2, 2], [64, 128, 256, 512], spatial_dims=3, n_input_channels=3, conv1_t_size=(3, 7, 7),
        conv1_t_stride=(1, 2, 2), shortcut_type="B", bias_downsample=False, feed_forward=False,
    ).eval()  # fmt: skip
    monais.load_state_dict(network.trunk.network.state_dict())
    volume = torch.rand(1, 3, 6, 33, 32)
    with torch.inference_mode():
        torch.testing.assert_close(network.embed(volume), monais(volume), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "part"),
    [("ecaresnet50t", "EcaModule"), ("resnetv2_50x1_bit", "StdConv2d"), ("convnext_atto", "ConvNeXt")],
)
def test_networks_with_other_parts_are_refused(name, part) -> None:
    with pytest.raises(UsageError, match=rf"{name} has a part of another kind \({part}\)"):
        build_network(ModelSection(architecture="inflated", backbone=name), 1)
