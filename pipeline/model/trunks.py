"""Backbones up to their last feature map: timm's in 2D, MONAI's ResNets in 3D, and 2D ones slice by slice."""

from functools import partial
from typing import Any, cast

import timm
import torch
from monai.networks import nets
from monai.networks.nets.resnet import ResNetBlock, ResNetBottleneck
from torch import Tensor, nn
from torch.nn import functional

from pipeline.domain import UsageError
from pipeline.sections import ModelSection

RESNETS_3D = ("resnet10", "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnet200")
"""MONAI's 3D ResNets."""
STEM_POOLS = ("maxpool", "stem.pool", "pool0", "features.pool0")
"""Where timm's networks keep the pooling of their stem."""


class Trunk2D(nn.Module):
    """A timm network up to its last feature map.

    Attributes:
        network: timm's own module, so that its weights keep their names.
        features: Channels of the feature map.
    """

    def __init__(self, rules: ModelSection) -> None:
        super().__init__()
        self.network = timm_network(rules)
        self.features = cast(int, self.network.num_features)

    def forward(self, inputs: Tensor) -> Tensor:
        """Feature map [batch, feature, y, x]."""
        network = cast(Any, self.network)
        if hasattr(network, "num_prefix_tokens"):  # a transformer: the tokens of its patches, as a picture
            last: list[Tensor] = network.forward_intermediates(inputs, indices=1, norm=True, intermediates_only=True)
            return last[0]
        maps: Tensor = network.forward_features(inputs)
        return maps if maps.shape[1] == self.features else maps.movedim(-1, 1)


class SliceTrunk(Trunk2D):
    """A timm network that sees each slice of a volume alone."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Feature map [batch, feature, z, y, x] of inputs [batch, channel, z, y, x]: one map a slice."""
        batch, depth = inputs.shape[0], inputs.shape[2]
        maps = super().forward(inputs.transpose(1, 2).flatten(0, 1))
        return maps.reshape(batch, depth, *maps.shape[1:]).transpose(1, 2).contiguous()


class Trunk3D(nn.Module):
    """A MONAI ResNet up to its last feature map."""

    def __init__(self, rules: ModelSection) -> None:
        super().__init__()
        if rules.backbone not in RESNETS_3D:
            raise UsageError(
                f"model.backbone: 3D networks are {', '.join(RESNETS_3D)}; got {rules.backbone!r}. Networks of timm "
                "take volumes with model.architecture: inflated or slices"
            )
        self.network = getattr(nets, rules.backbone)(
            pretrained=False, spatial_dims=3, n_input_channels=rules.channels, conv1_t_size=rules.stem_size,
            conv1_t_stride=rules.stem_stride, no_max_pool=not rules.stem_pool, widen_factor=rules.width,
            shortcut_type=rules.shortcut, bias_downsample=False, feed_forward=False,
        )  # fmt: skip
        for block in self.network.modules():
            if isinstance(block, ResNetBlock | ResNetBottleneck) and isinstance(block.downsample, partial):
                rest = block.downsample.keywords
                block.downsample = ZeroPadShortcut(rest["planes"], rest["stride"])
        stem = ("conv1", "bn1", "act", "maxpool") if rules.stem_pool else ("conv1", "bn1", "act")
        self.path = (*stem, "layer1", "layer2", "layer3", "layer4")
        self.features = int(self.network.in_planes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Feature map [batch, feature, z, y, x]."""
        inputs = _stem(cast(nn.Conv3d, self.network.conv1), inputs)
        for name in self.path[1:]:
            inputs = self.network.get_submodule(name)(inputs)
        return inputs


def _stem(first: nn.Conv3d, inputs: Tensor) -> Tensor:
    """The first convolution; over few slices on a CPU, zeros are put around the volume instead of being implied.

    There oneDNN's weight gradient of a 7x7x7 kernel of stride 2 is wrong over 6 and 7 slices and writes past its
    memory over 5 (torch 2.14.1, fp32; tests/model/test_backbone.py).
    """
    if inputs.device.type != "cpu" or inputs.shape[2] > first.kernel_size[0]:
        return cast(Tensor, first(inputs))
    around = [n for axis in reversed(cast(tuple[int, ...], first.padding)) for n in (axis, axis)]
    return functional.conv3d(functional.pad(inputs, around), first.weight, first.bias, first.stride)


class ZeroPadShortcut(nn.Module):
    """Shortcut A of He 2016: every other voxel, further channels zero.

    MONAI's own gives the same, but lets no gradient through.
    """

    def __init__(self, planes: int, stride: int) -> None:
        super().__init__()
        self.planes, self.stride = planes, stride

    def forward(self, inputs: Tensor) -> Tensor:
        """[batch, planes, z, y, x], smaller by the stride."""
        kept = inputs[:, :, :: self.stride, :: self.stride, :: self.stride]
        return functional.pad(kept, (*(0, 0) * 3, 0, self.planes - kept.shape[1]))


def timm_network(rules: ModelSection) -> nn.Module:
    """Timm's network without its classifier, its stem changed as the rules say.

    Raises:
        UsageError: If there is no such network, or its stem can't be changed so.
    """
    if not timm.is_model(rules.backbone):
        close = ", ".join(timm.list_models(f"{rules.backbone[:6]}*")[:6]) or "resnet18, resnet50"
        raise UsageError(f"model.backbone: timm knows no network {rules.backbone!r}; it has for example {close}")
    create = partial(
        timm.create_model, rules.backbone, pretrained=False, in_chans=rules.channels, num_classes=0, global_pool=""
    )
    try:
        network = cast(nn.Module, create())
    except AssertionError:  # how timm says that a network can't be had without its pooling
        raise UsageError(f"model.backbone: {rules.backbone} gives no feature map; use another network") from None
    if hasattr(network, "dynamic_img_size"):
        network = create(dynamic_img_size=True)  # a vision transformer of any input size
    _change_first_convolution(network, rules)
    if not rules.stem_pool:
        names = [name for name, _ in network.named_modules() if name in STEM_POOLS]
        if not names or hasattr(network.get_submodule(names[0].rpartition(".")[0]), "pad"):
            raise UsageError(f"model.stem_pool: {rules.backbone} has no pooling in its stem to take out; use true")
        network.set_submodule(names[0], nn.Identity())
    return network


def first_convolution(network: nn.Module) -> tuple[str, nn.Module | None]:
    """Name and module of a timm network's first convolution; None where it has no single one."""
    name = cast(dict[str, object], network.pretrained_cfg).get("first_conv")
    return (name, network.get_submodule(name)) if isinstance(name, str) else ("", None)


def _change_first_convolution(network: nn.Module, rules: ModelSection) -> None:
    name, first = first_convolution(network)
    if rules.stem_size != 7:
        if type(first) is not nn.Conv2d or first.kernel_size != (7, 7):
            raise UsageError(f"model.stem_size: {rules.backbone} has no first convolution of 7 x 7; use 7")
        size = rules.stem_size
        small = nn.Conv2d(first.in_channels, first.out_channels, size, (2, 2), size // 2, bias=first.bias is not None)
        nn.init.kaiming_normal_(small.weight, mode="fan_out", nonlinearity="relu")
        network.set_submodule(name, small)
        first = small
    if rules.stem_stride == 1:
        if not isinstance(first, nn.Conv2d) or first.stride != (2, 2):
            raise UsageError(f"model.stem_stride: {rules.backbone} has no first convolution of stride 2; use 2")
        first.stride = (1, 1)


def inflate_kernel(kernel: Tensor, depth: int, how: str) -> Tensor:
    """A 2D kernel [out, in, y, x] as a 3D one [out, in, depth, y, x], repeated and divided, or centred between zeros.

    Both give on a volume that is the same in every slice what the 2D kernel gives on one slice (Carreira and
    Zisserman 2017, section 2.4).
    """
    if how == "mean":
        return kernel.unsqueeze(2).expand(-1, -1, depth, -1, -1) / depth
    inflated = torch.zeros(*kernel.shape[:2], depth, *kernel.shape[2:], dtype=kernel.dtype, device=kernel.device)
    inflated[:, :, depth // 2] = kernel
    return inflated
