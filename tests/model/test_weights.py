import json
from dataclasses import replace

import pytest
import timm
import torch
from monai.networks import nets
from safetensors.torch import save_file

from pipeline.domain import UsageError
from pipeline.model.backbone import build_network
from pipeline.model.weights import Match, load_backbone
from pipeline.sections import ModelSection
from tests.model.tiny import lively

FLAT = ModelSection(dimensions=2, backbone="resnet18")


@pytest.fixture(scope="module")
def resnet():
    torch.manual_seed(1)
    return lively(timm.create_model("resnet18", pretrained=False)).state_dict()


def trunk(rules: ModelSection = FLAT):
    torch.manual_seed(2)
    return build_network(rules, 1).trunk


def load(backbone, path, rules: ModelSection = FLAT) -> Match:
    return load_backbone(backbone, rules.model_copy(update={"weights": str(path)}))


@pytest.mark.parametrize(
    ("prefix", "form"),
    [
        ("", "pth"),
        ("module.", "nested"),
        ("backbone.", "safetensors"),
        ("state_dict.model.", "pth"),
        ("module.encoder_q.", "nested"),
        ("network.trunk.network.", "nested"),
    ],
)
def test_usual_files_load_whole(resnet, tmp_path, prefix, form) -> None:
    named = {prefix + k: v for k, v in resnet.items()}
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pth")
    if form == "safetensors":
        save_file(named, path)
    else:
        torch.save({"state_dict": named, "epoch": 3} if form == "nested" else named, path)
    backbone = trunk()
    match = load(backbone, path)
    assert (match.loaded, match.total, match.fresh, match.foreign) == (100, 100, (), ())
    assert match.adapted == ("conv1.weight",)
    torch.testing.assert_close(backbone.network.conv1.weight, resnet["conv1.weight"].sum(1, keepdim=True))
    torch.testing.assert_close(backbone.network.layer4[1].bn2.running_var, resnet["layer4.1.bn2.running_var"])


def test_parts_numbered_by_a_sequential_are_known(resnet, tmp_path) -> None:
    """As in RadImageNet's own files."""
    numbers = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
    named = {
        f"backbone.{numbers[part]}.{rest}": v
        for k, v in resnet.items()
        for part, _, rest in [k.partition(".")]
        if part in numbers
    }
    torch.save(named, tmp_path / "RadImageNet-ResNet18.pt")
    assert load(trunk(), tmp_path / "RadImageNet-ResNet18.pt").loaded == 100


@pytest.mark.parametrize("channels", [1, 3])
def test_a_loaded_network_gives_what_timms_own_gives(resnet, tmp_path, channels) -> None:
    """timm sums the colours of the first kernels alike."""
    path = tmp_path / "w.safetensors"
    save_file(resnet, path)
    theirs = timm.create_model(
        "resnet18", pretrained=True, in_chans=channels, num_classes=2, pretrained_cfg_overlay={"file": str(path)}
    ).eval()
    rules = FLAT.model_copy(update={"channels": channels})
    ours = trunk(rules).to(memory_format=torch.contiguous_format).eval()
    load(ours, path, rules)
    picture = torch.rand(2, channels, 64, 64)
    with torch.inference_mode():
        assert torch.equal(ours(picture), theirs.forward_features(picture))


def test_monai_and_a_3d_file_load_alike(tmp_path) -> None:
    rules = ModelSection(dimensions=3, backbone="resnet10", width=0.25)
    source = build_network(rules, 1)
    torch.save({f"module.{k}": v for k, v in source.trunk.network.state_dict().items()}, tmp_path / "w.pth")
    target = build_network(rules, 2)
    assert load(target.trunk, tmp_path / "w.pth", rules).loaded == 60
    assert torch.equal(target.trunk.network.conv1.weight, source.trunk.network.conv1.weight)


def test_the_slices_of_a_volume_take_2d_weights(resnet, tmp_path) -> None:
    torch.save(resnet, tmp_path / "w.pth")
    rules = ModelSection(architecture="slices", backbone="resnet18")
    assert load(trunk(rules), tmp_path / "w.pth", rules).loaded == 100


def test_2d_kernels_do_not_slip_into_a_native_3d_network(resnet, tmp_path) -> None:
    torch.save(resnet, tmp_path / "w.pth")
    rules = ModelSection(backbone="resnet18")
    with pytest.raises(UsageError, match=r"\(architecture\): 80 of 100 .* Check .* model\.architecture"):
        load(trunk(rules), tmp_path / "w.pth", rules)


def test_foreign_keys_are_refused_and_named(tmp_path) -> None:
    torch.save({f"other.{k}": torch.zeros(3) for k in "abcdef"}, tmp_path / "w.pth")
    with pytest.raises(UsageError, match=r"0 of 100 tensors .* First of these: other\.a, other\.b"):
        load(trunk(), tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("name", "message"),
    [("resnet50", r"77 of 100 .* First of these: layer1\.0\.conv1"), ("resnet34", r"100 of 100 .* layer1\.2\.conv1")],
)
def test_a_deeper_network_is_refused(tmp_path, name, message) -> None:
    """All of a ResNet-18's tensors have a namesake of equal shape in a ResNet-34."""
    torch.save(timm.create_model(name, pretrained=False).state_dict(), tmp_path / "w.pth")
    with pytest.raises(UsageError, match=rf"refused \(architecture\): {message}"):
        load(trunk(), tmp_path / "w.pth")


def test_two_copies_of_a_tensor_are_refused(resnet, tmp_path) -> None:
    torch.save(resnet | {"module.conv1.weight": resnet["conv1.weight"]}, tmp_path / "w.pth")
    with pytest.raises(UsageError, match=r"holds conv1\.weight twice, once as module\.conv1\.weight"):
        load(trunk(), tmp_path / "w.pth")


def test_a_match_is_shown_and_saved() -> None:
    match = Match("w.pth", 98, 100, fresh=("conv1.weight", "bn1.bias"), foreign=("x",), sha256="ab", notes=("MIT",))
    assert str(match) == ("weights w.pth: loaded 98 of 100 tensors; fresh: conv1.weight, bn1.bias; left out: x; MIT")
    assert json.loads(json.dumps(match.as_json())) == {
        "source": "w.pth", "loaded": 98, "total": 100, "fresh": ["conv1.weight", "bn1.bias"], "foreign": ["x"],
        "adapted": [], "sha256": "ab", "notes": ["MIT"],
    }  # fmt: skip
    assert "1 adapted" in str(replace(match, adapted=("conv1.weight",)))


@pytest.mark.parametrize(
    "prefix", ["_orig_mod.", "module._orig_mod.", "student.backbone.", "online_encoder.", "features."]
)
def test_wrappers_of_self_supervised_and_compiled_networks_are_peeled_off(resnet, tmp_path, prefix) -> None:
    torch.save({prefix + k: v for k, v in resnet.items()}, tmp_path / "w.pth")
    assert load(trunk(), tmp_path / "w.pth").loaded == 100


@pytest.mark.parametrize("key", ["teacher", "model_ema", "network_weights", "state_dict_ema"])
def test_usual_keys_of_checkpoints_are_looked_under(resnet, tmp_path, key) -> None:
    """Also where a lone tensor or a key without tensors stands beside them."""
    torch.save({"epoch": torch.tensor(3), "model": {"name": "resnet18"}, key: resnet}, tmp_path / "w.ckpt")
    assert load(trunk(), tmp_path / "w.ckpt").loaded == 100


def test_a_checkpoint_that_holds_itself_has_an_end(tmp_path) -> None:
    endless: dict[str, object] = {"epoch": 3}
    endless["model"] = endless
    torch.save(endless, tmp_path / "w.pth")
    with pytest.raises(UsageError, match="holds no tensors"):
        load(trunk(), tmp_path / "w.pth")


def test_gray_kernels_give_on_gray_in_colour_what_they_gave_on_gray(tmp_path) -> None:
    gray = lively(timm.create_model("resnet18", pretrained=False, in_chans=1))
    save_file(gray.state_dict(), tmp_path / "w.safetensors")
    rules = FLAT.model_copy(update={"channels": 3})
    colour = trunk(rules).to(memory_format=torch.contiguous_format).eval()
    assert load(colour, tmp_path / "w.safetensors", rules).adapted == ("conv1.weight",)
    picture = torch.rand(2, 1, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(colour(picture.expand(-1, 3, -1, -1)), gray.forward_features(picture))


def monai_file(path, kind: str, bias: bool) -> torch.nn.Module:
    network = lively(
        nets.resnet34(
            spatial_dims=3, n_input_channels=1, conv1_t_stride=2, shortcut_type=kind, bias_downsample=bias,
            widen_factor=0.0625, feed_forward=False,
        )
    )  # fmt: skip
    torch.save(network.state_dict(), path)
    return network


@pytest.mark.parametrize(("file", "model"), ["AB", "BA"])
def test_shortcuts_of_the_other_kind_are_refused_however_few_they_are(tmp_path, file, model) -> None:
    """15 of a ResNet-34's 180 tensors, and every block behind them."""
    monai_file(tmp_path / "w.pth", file, bias=False)
    rules = ModelSection(backbone="resnet34", width=0.0625, shortcut=model)
    with pytest.raises(UsageError, match=r"\(architecture\): w\.pth has shortcuts of another kind .* model\.shortcut"):
        load(trunk(rules), tmp_path / "w.pth", rules)


def test_shortcuts_of_other_2d_networks_are_refused(tmp_path) -> None:
    torch.save(timm.create_model("resnet101", pretrained=False).state_dict(), tmp_path / "w.pth")
    rules = ModelSection(dimensions=2, backbone="resnet101d")
    with pytest.raises(UsageError, match=r"shortcuts of another kind than resnet101d \(first .* layer1\.0\.downsample"):
        load(trunk(rules), tmp_path / "w.pth", rules)


def test_biases_of_monais_shortcuts_are_taken_over(tmp_path) -> None:
    theirs = monai_file(tmp_path / "w.pth", "B", bias=True)
    rules = ModelSection(backbone="resnet34", width=0.0625)
    ours = trunk(rules).eval()
    match = load(ours, tmp_path / "w.pth", rules)
    assert (match.loaded, match.foreign) == (180, ())
    volume = torch.rand(2, 1, 16, 16, 16)
    with torch.inference_mode():
        torch.testing.assert_close(ours(volume).mean((2, 3, 4)), theirs(volume))
