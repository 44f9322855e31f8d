"""Parameters, multiply-adds, memory and speed of each network: `python -m benchmarks.networks [--write]`.

Prints a table; --write puts it between the markers of docs/resnet.md. On a CPU the speed is the CPU time of one thread:
other work on the machine hardly changes it.
"""

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import torch
import tyro
from torch.utils.flop_counter import FlopCounterMode

from pipeline.files import write_text
from pipeline.model.backbone import Classifier, build_network, count_parameters
from pipeline.model.memory import kept_bytes
from pipeline.sections import ModelSection

DOCUMENT = Path(__file__).parents[1] / "docs" / "resnet.md"
BEGIN, END = "<!-- table: python -m benchmarks.networks --write -->\n", "<!-- end of table -->"

FLAT = (
    "resnet10t", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnet50d", "resnetv2_50",
    "resnext50_32x4d", "wide_resnet50_2", "seresnet50",
)  # fmt: skip
SOLID = ("resnet10", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
NETWORKS = (
    *(("2D", ModelSection(dimensions=2, backbone=name)) for name in FLAT),
    *(("3D", ModelSection(backbone=name)) for name in SOLID),
    ("3D, shortcut A", ModelSection(backbone="resnet18", shortcut="A")),
    ("3D, width 0.25", ModelSection(backbone="resnet10", width=0.25)),
    ("3D, width 2", ModelSection(backbone="resnet18", width=2)),
    ("3D, inflated", ModelSection(backbone="resnet18", architecture="inflated")),
    ("3D, inflated", ModelSection(backbone="resnet50", architecture="inflated")),
    ("2.5D, slices", ModelSection(backbone="resnet18", architecture="slices")),
    ("2.5D, slices", ModelSection(backbone="resnet50", architecture="slices")),
)


@dataclass(frozen=True)
class Options:
    """What is measured, and where the table goes."""

    picture: int = 224
    """Width and height of the 2D inputs."""
    volume: int = 64
    """Width, height and depth of the inputs of all others."""
    batch: int = 1
    """Inputs in one pass."""
    repeats: int = 1
    """Timed passes, after one that does not count; the median counts."""
    write: bool = False
    """Write the table into docs/resnet.md."""


def main(options: Options) -> None:
    """Measure every network and print, or write, the table."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(1)
    rows = []
    for kind, rules in NETWORKS:
        rows.append(_row(kind, rules, options, device))
        print(rows[-1], flush=True)
    table = "\n".join([_heading(options, device), *rows]) + "\n"
    if options.write:
        before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
        write_text(DOCUMENT, f"{before}{BEGIN}{table}{END}{rest.partition(END)[2]}")
        print(f"written: {DOCUMENT}")


def _heading(options: Options, device: torch.device) -> str:
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU time of one {platform.machine()} core"
    return f"""
For one gray input of {options.picture}² (2D) or {options.volume}³ (all others), in batches of {options.batch}, fp32.
Times: {where}, median of {options.repeats} after a first pass, on a busy
machine; torch {torch.__version__.partition("+")[0]}, {datetime.now(UTC):%Y-%m-%d}. Memory: what the forward pass
keeps for the backward pass; weights, gradients and AdamW's two moments add 16 bytes a parameter.

| | backbone | parameters, M | multiply-adds, G | memory, MB | forward, ms | training step, ms |
|---|---|---|---|---|---|---|"""


def _row(kind: str, rules: ModelSection, options: Options, device: torch.device) -> str:
    torch.manual_seed(0)
    network = build_network(rules, 1).to(device)
    size = (options.picture,) * 2 if rules.dimensions == 2 else (options.volume,) * 3
    inputs = torch.rand(options.batch, 1, *size, device=device)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network.eval()(inputs)
    kept = sum(kept_bytes(network.train(), inputs)) / options.batch
    training = _seconds(_training_step(network, inputs), options.repeats, device) / options.batch
    network.eval()
    with torch.inference_mode():
        forward = _seconds(lambda: network(inputs), options.repeats, device) / options.batch
    return (
        f"| {kind} | {rules.backbone} | {count_parameters(network) / 1e6:.1f} "
        f"| {counter.get_total_flops() / 2e9 / options.batch:.1f} | {kept / 1e6:.0f} | {forward * 1e3:.0f} "
        f"| {training * 1e3:.0f} |"
    )


def _training_step(network: Classifier, inputs: torch.Tensor) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        network(inputs).square().mean().backward()
        optimizer.step()

    return step


def _seconds(work: Callable[[], object], repeats: int, device: torch.device) -> float:
    """Median time of a call, after one that does not count."""
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    times = []
    for _ in range(repeats + 1):
        start = clock()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(clock() - start)
    return median(times[1:])


if __name__ == "__main__":
    main(tyro.cli(Options))
