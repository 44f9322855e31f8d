import pytest
import torch

from pipeline.config import Config
from pipeline.domain import UsageError
from pipeline.model.backbone import build_network
from pipeline.model.stages import heights, hold_all_norms, norms_are_held, parameter_groups, recompute_stages, thaw
from pipeline.sections import ModelSection, TrainSection

NETWORKS = [
    ModelSection(dimensions=3, backbone="resnet10", width=0.125),
    ModelSection(dimensions=2, backbone="resnet18"),
    ModelSection(dimensions=2, backbone="resnetv2_50"),
]
every_network = pytest.mark.parametrize("section", NETWORKS, ids=lambda s: f"{s.backbone}-{s.dimensions}d")


@every_network
def test_stem_four_stages_head(section) -> None:
    found = heights(build_network(section, 1))
    assert sorted(set(found.values())) == [0, 1, 2, 3, 4, 5]
    assert {name for name, height in found.items() if height == 5} == {"head.weight", "head.bias"}
    assert {"conv1" in name or "bn1" in name or "stem" in name for name, at in found.items() if at == 0} == {True}
    first = "layer1" if any("layer1" in name for name in found) else "stages.0"
    assert {first in name for name, height in found.items() if height == 1} == {True}


@pytest.mark.parametrize(
    ("backbone", "stages", "stem", "last"),
    [
        ("resnetv2_50", 4, {"stem"}, {"stages.3", "norm"}),
        ("regnety_002", 4, {"stem"}, {"s4"}),
        ("convnext_atto", 4, {"stem"}, {"stages.3", "head"}),
        ("efficientnet_b0", 7, {"conv_stem", "bn1"}, {"blocks.6", "conv_head", "bn2"}),
        ("densenet121", 4, {"features.conv0", "features.norm0"}, {"features.denseblock4", "features.norm5"}),
        ("vit_tiny_patch16_224", 12, {"cls_token", "pos_embed", "patch_embed"}, {"blocks.11", "norm"}),
        ("swin_tiny_patch4_window7_224", 4, {"patch_embed"}, {"layers.3", "norm"}),
    ],
)
def test_stages_of_other_networks_are_those_that_timm_tells(backbone, stages, stem, last) -> None:
    with torch.device("meta"):
        found = heights(build_network(ModelSection(dimensions=2, backbone=backbone), 1))
    assert set(found.values()) == set(range(stages + 2))

    def parts(at: int) -> set[str]:
        inside = [name.removeprefix("trunk.network.") for name, height in found.items() if height == at]
        return {next((part for part in stem | last if name.startswith(f"{part}.") or name == part), name)
                for name in inside}  # fmt: skip

    assert (parts(0), parts(stages)) == (stem, last)


@every_network
def test_deeper_stages_learn_more_slowly_and_nothing_is_left_out(section) -> None:
    network = build_network(section, 1)
    groups = parameter_groups(network, TrainSection(learning_rate=0.01, layer_decay=0.5, weight_decay=0.1))
    assert sum(len(group["params"]) for group in groups) == len(list(network.parameters()))
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    for name, parameter in network.named_parameters():
        assert rates[id(parameter)] == pytest.approx(0.01 * 0.5 ** (5 - heights(network)[name]))
    decay = {id(p): group["weight_decay"] for group in groups for p in group["params"]}
    assert all(decay[id(p)] == (0.1 if p.ndim > 1 else 0) for p in network.parameters())


def learning(network) -> set[int]:
    height = heights(network)
    return {height[name] for name, p in network.named_parameters() if p.requires_grad}


@every_network
def test_the_head_learns_first_then_one_stage_after_another(section) -> None:
    network = build_network(section, 1).train()
    steps = [(0, {5}), (1, {5}), (2, {4, 5}), (4, {3, 4, 5}), (10, {0, 1, 2, 3, 4, 5}), (99, {0, 1, 2, 3, 4, 5})]
    for epoch, stages in steps:
        thaw(network, epoch, every=2)
        assert learning(network) == stages
    thaw(network, 0, every=0)
    assert learning(network) == {0, 1, 2, 3, 4, 5}


def test_frozen_stages_change_neither_weights_nor_statistics() -> None:
    network = build_network(NETWORKS[1], 1).train()
    thaw(network, 0, every=1)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimizer = torch.optim.AdamW(parameter_groups(network, TrainSection()))
    network(torch.rand(4, 1, 32, 32)).sum().backward()
    optimizer.step()
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"head.weight", "head.bias"}


@pytest.mark.parametrize(
    "section",
    [
        *NETWORKS[:2],
        ModelSection(architecture="slices", backbone="resnet18"),
        ModelSection(architecture="inflated"),
        ModelSection(dimensions=2, backbone="regnety_002"),
        ModelSection(dimensions=2, backbone="densenet121"),
    ],
    ids=lambda s: f"{s.architecture}-{s.backbone}-{s.dimensions}d",
)
def test_recomputed_stages_learn_the_same_from_less_memory(section) -> None:
    size = [32, 32] if section.dimensions == 2 else [8, 32, 32]
    batch, found = torch.rand(2, 1, *size), []
    for recompute in (False, True):
        torch.manual_seed(0)
        network = build_network(section, 1).train()
        if recompute:
            recompute_stages(network)
        kept = 0

        def count(tensor):
            nonlocal kept
            kept += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            loss = network(batch).sum()
        loss.backward()
        found.append((kept, {n: p.grad for n, p in network.named_parameters()}, dict(network.named_buffers())))
    (all_kept, gradients, statistics), (fewer_kept, again, twice) = found
    assert fewer_kept < all_kept
    for name, gradient in gradients.items():
        torch.testing.assert_close(again[name], gradient, rtol=1e-3, atol=1e-5)
    for name, values in statistics.items():
        if "running" in name:
            torch.testing.assert_close(twice[name], values, rtol=1e-4, atol=1e-6)


def test_a_network_without_known_stages_is_not_recomputed() -> None:
    with torch.device("meta"):
        network = build_network(ModelSection(dimensions=2, backbone="vgg11"), 1)
    with pytest.raises(UsageError, match=r"train\.recompute: model\.backbone has no stages"):
        recompute_stages(network)


def test_held_norms_use_what_they_have() -> None:
    network = build_network(NETWORKS[0], 1).train()
    hold_all_norms(network)
    batch = torch.rand(2, 1, 32, 32, 32)
    torch.testing.assert_close(network(batch)[:1], network(batch[:1]))


@pytest.mark.parametrize(
    ("rules", "pretrained", "held"),
    [
        ({"batch_size": 4}, True, True),
        ({"batch_size": 4}, False, False),
        ({"batch_size": 32}, True, False),
        ({"batch_size": 32, "accumulate": 8}, True, True),
        ({"batch_size": 32, "batch_norm": "frozen"}, True, True),
        ({"batch_size": 4, "batch_norm": "learn"}, True, False),
    ],
)
def test_when_norms_are_held(rules, pretrained, held) -> None:
    assert norms_are_held(TrainSection(**rules), pretrained) is held


@pytest.mark.parametrize(
    ("rules", "key"), [({"unfreeze_epochs": 2}, "unfreeze_epochs"), ({"batch_norm": "frozen"}, "batch_norm: frozen")]
)
def test_random_weights_are_never_left_frozen(rules, key) -> None:
    with pytest.raises(
        ValueError, match=f"train.{key} keeps pretrained weights as they are, but model.weights is none"
    ):
        Config(train=TrainSection(**rules))
    Config(train=TrainSection(**rules), model=ModelSection(weights="file.pth"))
