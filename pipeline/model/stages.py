"""How the stages of a network learn: rates that fall with depth, stages that join one after another, frozen norms."""

import math
import re
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint

from pipeline.sections import TrainSection

STAGE = re.compile(r"(?:layer|stages\.|blocks\.)(\d+)")
"""What numbers a backbone's stages, in the names of timm and MONAI."""
WHOLE_STAGE = re.compile(r"trunk\.network\.(?:layer\d+|stages\.\d+|blocks\.\d+)")
SMALL_BATCH = 8
"""Below this many scans, a batch's own mean and variance are too noisy to replace pretrained ones."""


def heights(network: nn.Module) -> dict[str, int]:
    """Parameter name -> stage: 0 for the stem, 1, 2 ... for the stages of the trunk, the largest for the head."""
    names = [name for name, _ in network.named_parameters()]
    found = {name: _number(name) for name in names if name.startswith("trunk.")}
    rank = {number: place for place, number in enumerate(sorted(set(found.values()) | {-1}))}
    return {name: rank[found[name]] if name in found else len(rank) for name in names}


def parameter_groups(network: nn.Module, rules: TrainSection) -> list[dict[str, object]]:
    """What AdamW takes: learning rate by stage, weight decay off norms and biases.

    The head learns with `learning_rate`; each stage below it with `layer_decay` times the rate of the one above.
    """
    height, groups = heights(network), dict[tuple[int, bool], list[nn.Parameter]]()
    for name, parameter in network.named_parameters():
        groups.setdefault((height[name], parameter.ndim > 1), []).append(parameter)
    top = max(height.values())
    return [
        {
            "params": parameters,
            "lr": rules.learning_rate * rules.layer_decay ** (top - stage),
            "weight_decay": rules.weight_decay if decayed else 0.0,
        }
        for (stage, decayed), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]


def thaw(network: nn.Module, epoch: int, every: int) -> None:
    """Let the stages learn whose turn has come: from the head downwards, one more every `every` epochs; 0: all."""
    height = heights(network)
    lowest = 0 if every == 0 else max(height.values()) - epoch // every
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(height[name] >= lowest)
    _hold_norms(network, {name.rpartition(".")[0] for name in height if height[name] < lowest})


def hold_all_norms(network: nn.Module) -> None:
    """Use and keep the statistics that the batch norms have."""
    _hold_norms(network, {name for name, _ in network.named_modules()})


def recompute_stages(network: nn.Module) -> None:
    """Let each stage forget what it computed until the backward pass asks for it again.

    A batch norm then sees each batch twice; its momentum is set so that two updates do what one did.
    """
    for name, module in network.named_modules():
        if not WHOLE_STAGE.fullmatch(name):
            continue
        module.forward = partial(checkpoint, module.forward, use_reentrant=False)
        for norm in module.modules():
            if isinstance(norm, nn.modules.batchnorm._BatchNorm) and norm.momentum is not None:
                norm.momentum = 1 - math.sqrt(1 - norm.momentum)


def norms_are_held(rules: TrainSection, pretrained: bool) -> bool:
    """Whether batch norms keep their statistics from the start."""
    small = rules.scans_at_once < SMALL_BATCH
    return rules.batch_norm == "frozen" or (rules.batch_norm == "auto" and pretrained and small)


def _number(name: str) -> int:
    match = STAGE.search(name)
    return int(match[1]) if match else -1


def _hold_norms(network: nn.Module, names: set[str]) -> None:
    for name, module in network.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train(name not in names)
