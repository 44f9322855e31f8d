import pytest

from pipeline.domain import UsageError
from pipeline.explanation.layers import grids, layer_for
from pipeline.sections import ModelSection

DEMO = ModelSection(backbone="resnet10", width=0.25)


def test_the_grids_of_a_network_are_measured_on_its_own_input() -> None:
    assert grids(DEMO, (48, 48, 32)) == {
        "act": (16, 24, 24), "layer1": (8, 12, 12), "layer2": (4, 6, 6), "layer3": (2, 3, 3), "layer4": (1, 2, 2),
        "trunk": (1, 2, 2),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("section", "size", "coarse", "fine"),
    [
        (DEMO, (48, 48, 32), "layer1", "act"),
        (ModelSection(dimensions=2, backbone="resnet18"), (224, 224), "trunk", "layer3"),
        (ModelSection(dimensions=2, backbone="resnet18"), (28, 28), "layer1", "act1"),
        (ModelSection(dimensions=2, backbone="test_vit"), (224, 224), "trunk", "trunk"),
        (ModelSection(dimensions=2, backbone="test_convnext"), (128, 128), "stages.2", "stages.1"),
        (ModelSection(architecture="slices", backbone="resnet18"), (128, 128, 5), "layer3", "layer2"),
        (ModelSection(architecture="inflated", backbone="resnet18"), (128, 128, 8), "layer2", "layer1"),
        (ModelSection(backbone="resnet10", width=0.25), (8, 8, 8), "layer1", "act"),
    ],
)
def test_the_deepest_layer_that_is_fine_enough(section, size, coarse, fine) -> None:
    assert (layer_for(section, size, 7), layer_for(section, size, 14)) == (coarse, fine)


def test_another_layer_may_be_asked_for() -> None:
    assert layer_for(DEMO, (48, 48, 32), 7, "layer4") == "layer4"
    with pytest.raises(UsageError, match=r"no feature map called 'layer9'; it has act \(16 x 24 x 24\), layer1"):
        layer_for(DEMO, (48, 48, 32), 7, "layer9")
