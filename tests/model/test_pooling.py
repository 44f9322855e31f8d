import pytest
import torch

from pipeline.domain import UsageError
from pipeline.model.backbone import build_network
from pipeline.sections import ModelSection
from tests.model.tiny import lively

RULES = ModelSection(architecture="slices", backbone="test_resnet")


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return lively(build_network(RULES, 3))


def test_the_evidence_of_all_slices_and_the_bias_are_the_logits(network) -> None:
    volume = torch.rand(2, 1, 6, 64, 64)
    with torch.inference_mode():
        evidence = network.slice_evidence(volume)
        assert evidence.shape == (2, 3, 6)
        torch.testing.assert_close(evidence.sum(-1) + network.head.bias, network(volume))


def test_the_order_of_slices_does_not_matter_and_each_is_seen_alone(network) -> None:
    volume = torch.rand(1, 1, 6, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(network(volume), network(volume.flip(2)))
        torch.testing.assert_close(network.slice_evidence(volume.flip(2)), network.slice_evidence(volume).flip(2))
        torch.testing.assert_close(network.trunk(volume)[:, :, 2:3], network.trunk(volume[:, :, 2:3]))


def test_attention_is_that_of_the_paper(network) -> None:
    """Ilse, Tomczak and Welling 2018, equation 9, by hand."""
    pool = network.pool
    h = torch.rand(1, 4, network.head.in_features)
    with torch.inference_mode():
        scores = [float(pool.score.weight[0] @ (torch.tanh(pool.value(v)) * torch.sigmoid(pool.gate(v)))) for v in h[0]]
    expected = torch.tensor(scores).exp() / torch.tensor(scores).exp().sum()
    torch.testing.assert_close(pool.attention(h)[0], expected)


def test_max_pooling_is_within_each_slice() -> None:
    network = build_network(RULES.model_copy(update={"pooling": "max"}), 1).eval()
    maps = torch.rand(1, network.head.in_features, 4, 2, 2)
    torch.testing.assert_close(network.pool.slices(maps), maps.amax((3, 4)).transpose(1, 2))


def test_other_networks_have_no_evidence_per_slice() -> None:
    network = build_network(ModelSection(backbone="resnet10", width=0.1), 1)
    with pytest.raises(UsageError, match=r"trained with model\.architecture: slices"):
        network.slice_evidence(torch.rand(1, 1, 4, 16, 16))
