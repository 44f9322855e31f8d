"""How the stages of a network learn: rates that fall with depth, stages that join one after another, frozen norms."""

import math
import re
from collections.abc import Callable
from functools import partial
from typing import cast

from timm.models import group_parameters
from timm.models._manipulate import MATCH_PREV_GROUP
from torch import nn
from torch.utils.checkpoint import checkpoint

from pipeline.domain import UsageError
from pipeline.sections import TrainSection

NETWORK = "trunk.network."
"""Where a `Classifier` keeps its backbone."""
STAGE = re.compile(NETWORK.replace(".", r"\.") + r"layer(\d+)")
"""What numbers the stages of MONAI's ResNets; timm's networks tell theirs."""
WHOLE_STAGE = re.compile(
    NETWORK.replace(".", r"\.") + r"(?:(?:layer|s|features\.denseblock)\d+|(?:stages|blocks|layers)\.\d+)"
)
"""The modules of a network that are stages, in the names of timm and MONAI."""
SMALL_BATCH = 8
"""Below this many scans, a batch's own mean and variance are too noisy to replace pretrained ones."""


def heights(network: nn.Module) -> dict[str, int]:
    """Parameter name -> stage: 0 for the stem, 1, 2 ... for the stages of the trunk, the largest for the head.

    What follows the last stage of a trunk (a norm, a convolution) counts to it.
    """
    names = [name for name, _ in network.named_parameters()]
    found = _numbers(network, [name for name in names if name.startswith("trunk.")])
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

    Raises:
        UsageError: If the network has no stages that are known.
    """
    stages = [module for name, module in network.named_modules() if WHOLE_STAGE.fullmatch(name)]
    if not stages:
        raise UsageError("train.recompute: model.backbone has no stages that could be computed again; use false")
    for module in stages:
        module.forward = partial(checkpoint, module.forward, use_reentrant=False)
        for norm in module.modules():
            if isinstance(norm, nn.modules.batchnorm._BatchNorm) and norm.momentum is not None:
                norm.momentum = 1 - math.sqrt(1 - norm.momentum)


def norms_are_held(rules: TrainSection, pretrained: bool) -> bool:
    """Whether batch norms keep their statistics from the start."""
    small = rules.scans_at_once < SMALL_BATCH
    return rules.batch_norm == "frozen" or (rules.batch_norm == "auto" and pretrained and small)


def _numbers(network: nn.Module, names: list[str]) -> dict[str, int]:
    """Name of a parameter of the trunk -> the number of its stage, -1 for a stem."""
    backbone = network.get_submodule(NETWORK.rstrip("."))
    told = getattr(backbone, "group_matcher", None)
    if told is None:
        return {name: int(match[1]) if (match := STAGE.match(name)) else -1 for name in names}
    groups = cast(Callable[..., dict[str, object]], told)(coarse=True) | {"rest": [(".", MATCH_PREV_GROUP)]}
    number = group_parameters(backbone, groups, reverse=True)
    return {name: number[name.removeprefix(NETWORK)] - 1 for name in names}


def _hold_norms(network: nn.Module, names: set[str]) -> None:
    for name, module in network.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train(name not in names)
