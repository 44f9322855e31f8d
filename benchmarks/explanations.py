"""A heat map beside one forward and backward pass of the same batch: `python -m benchmarks.explanations`.

The limit is a training step's two passes, without an optimizer. Occlusion is shown for what it costs; no claim is made.
"""

import sys

import numpy as np
import torch

from benchmarks.measure import Target, console, in_turns, show, verdict
from pipeline.explanation.cam import KINDS, activation_maps
from pipeline.explanation.gradcam import FEWEST_CELLS
from pipeline.explanation.layers import layer_for
from pipeline.explanation.occlusion import occlusion_maps
from pipeline.model.backbone import Classifier, build_network
from pipeline.sections import ModelSection

LIMIT = "forward and backward"
CASES = (
    ("3D ResNet-10 of a quarter's width, 48 x 48 x 32", ModelSection(backbone="resnet10", width=0.25), (48, 48, 32), 8),
    ("2D ResNet-18, 224 x 224", ModelSection(dimensions=2), (224, 224), 8),
    ("2.5D ResNet-18, 96 x 96 x 16", ModelSection(architecture="slices"), (96, 96, 16), 2),
)
ROUNDS = 5


def main() -> int:
    """Measure every case; 1 if a map costs more than was claimed."""
    torch.set_num_threads(1)
    return verdict([target for case in CASES for target in _targets(*case)])


def _targets(name: str, rules: ModelSection, size: tuple[int, ...], batch: int) -> list[Target]:
    torch.manual_seed(0)
    network = build_network(rules, 1).eval()
    inputs = torch.rand(batch, 1, *reversed(size))
    contenders = {LIMIT: lambda: _two_passes(network, inputs)}
    for method in KINDS:
        layer = layer_for(rules, size, FEWEST_CELLS[method])
        contenders[f"{method} {layer}"] = lambda m=method, at=layer: activation_maps(network, inputs, 0, m, at)
    times = in_turns(contenders, ROUNDS)
    show(f"{name}, {batch} at once", times, LIMIT)
    if len(size) == 2:
        once = in_turns({"occlusion": lambda: occlusion_maps(network, inputs[:1], 0)}, 1)["occlusion"]
        console.print(f"occlusion of one picture: {np.mean(once.cpu):.1f} s of CPU time")
    return [
        Target(f"{name}: {method} over forward and backward, CPU", took.cpu_over(times[LIMIT]), at_most=1.5)
        for method, took in times.items()
        if method != LIMIT
    ]


def _two_passes(network: Classifier, inputs: torch.Tensor) -> None:
    network.zero_grad(set_to_none=True)
    network(inputs).sum().backward()


if __name__ == "__main__":
    sys.exit(main())
