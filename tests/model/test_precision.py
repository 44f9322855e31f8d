"""Mixed precision is used where its gradients are right, and only there."""

import pytest
import torch
from torch import nn

from pipeline.config import Config
from pipeline.domain import UsageError
from pipeline.model import fit
from pipeline.model.backbone import build_network
from pipeline.model.precision import bf16_refusal
from pipeline.sections import ModelSection, TrainSection
from tests.model.tiny import lively

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
NETWORKS = [
    ModelSection(dimensions=3, backbone="resnet10", width=0.25),
    ModelSection(dimensions=2, backbone="resnet18"),
]


def gradients(network: nn.Module, inputs: torch.Tensor, mixed: bool) -> torch.Tensor:
    """All weight gradients of one step, as one vector."""
    network.zero_grad()
    with torch.autocast(inputs.device.type, torch.bfloat16, enabled=mixed):
        loss = network(inputs).float().square().mean()
    loss.backward()
    return torch.cat([p.grad.float().flatten() for p in network.parameters()])


@pytest.mark.skipif(DEVICE.type == "cpu", reason="needs a GPU: on a CPU training never takes bf16")
@pytest.mark.parametrize("section", NETWORKS, ids=lambda s: f"{s.dimensions}d")
def test_bf16_gradients_are_right_where_auto_takes_it(section) -> None:
    torch.manual_seed(0)
    network = build_network(section, 1).to(DEVICE).train()
    inputs = torch.rand(4, 1, *[32] * section.dimensions, device=DEVICE)
    exact, mixed = (gradients(network, inputs, how) for how in (False, True))
    assert torch.isfinite(mixed).all()
    assert float((mixed - exact).norm() / exact.norm()) < 0.1
    assert fit._precision(Config()) == "bf16-mixed"


@pytest.mark.skipif(DEVICE.type != "cpu", reason="about CPUs")
def test_a_cpu_trains_in_fp32(monkeypatch) -> None:
    """A 3x3x3 kernel on a 2x2x2 map: torch's bf16 weight gradient on a CPU is wrong without an error."""
    assert fit._precision(Config()) == "32-true"
    with pytest.raises(UsageError, match=r"train.precision: bf16 is for GPUs; on a CPU it computes wrong 3D gradients"):
        fit._precision(Config(train=TrainSection(precision="bf16")))


@pytest.mark.parametrize("section", NETWORKS, ids=lambda s: f"{s.dimensions}d")
def test_the_forward_pass_is_right_in_bf16(section) -> None:
    """On a CPU, too, down to maps of one voxel: 0.8 % was the most that was seen with any network."""
    torch.manual_seed(0)
    network = lively(build_network(section, 1)).to(DEVICE)
    inputs = torch.rand(4, 1, *[32] * section.dimensions, device=DEVICE)
    with torch.inference_mode():
        exact = network.embed(inputs)
        with torch.autocast(DEVICE.type, torch.bfloat16):
            mixed = network.embed(inputs).float()
    assert 0 < float((mixed - exact).norm() / exact.norm()) < 0.02


CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("device", "native", "gradients", "refusal"),
    [
        (GPU, True, True, ""),
        (GPU, True, False, ""),
        (GPU, False, True, "is slower than fp32 on this GPU, which has no instructions for it"),
        (GPU, False, False, "is slower than fp32 on this GPU, which has no instructions for it"),
        (CPU, True, True, "is for GPUs; on a CPU it computes wrong 3D gradients"),
        (CPU, True, False, ""),
        (CPU, False, False, "is slower than fp32 on this CPU, which has no avx512_bf16"),
    ],
)
def test_what_a_device_is_made_for(monkeypatch, device, native, gradients, refusal) -> None:
    def supported(including_emulation: bool = True) -> bool:
        return native or including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": native}, raising=False)
    assert bf16_refusal(device, gradients) == refusal


def test_a_torch_that_does_not_tell_is_not_trusted(monkeypatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert bf16_refusal(CPU, gradients=False).endswith("no avx512_bf16")


@pytest.mark.parametrize(
    ("precision", "capable", "taken"),
    [("auto", True, "bf16-mixed"), ("auto", False, "32-true"), ("fp32", True, "32-true"), ("bf16", True, "bf16-mixed")],
)
def test_what_a_gpu_takes(monkeypatch, precision, capable, taken) -> None:
    monkeypatch.setattr(fit, "device_of", lambda _: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: capable)
    assert fit._precision(Config(train=TrainSection(precision=precision))) == taken


def test_a_gpu_that_would_emulate_it_is_told_so(monkeypatch) -> None:
    monkeypatch.setattr(fit, "device_of", lambda _: GPU)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    with pytest.raises(UsageError, match=r"train.precision: bf16 is slower than fp32 on this GPU, .* Use auto or fp32"):
        fit._precision(Config(train=TrainSection(precision="bf16")))
