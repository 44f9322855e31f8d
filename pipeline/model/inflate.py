"""2D ResNets turned into 3D: each layer gives, on a volume that is the same in every slice, what it gave in 2D."""

from typing import cast

import torch
from timm.layers import BatchNormAct2d, ClassifierHead, SelectAdaptivePool2d, SEModule, Sigmoid
from timm.models import resnet, resnetv2
from torch import Tensor, nn

from pipeline.domain import UsageError
from pipeline.model.trunks import Trunk2D, first_convolution, inflate_kernel
from pipeline.sections import ModelSection

DEPTH = 3
"""Slices that a convolution wider than one pixel sees; the first one too, as in I3ResNet (Merlin, Astra)."""

CONTAINERS = (
    nn.Sequential, resnet.ResNet, resnet.BasicBlock, resnet.Bottleneck, resnetv2.ResNetV2, resnetv2.ResNetStage,
    resnetv2.PreActBasic, resnetv2.PreActBottleneck, resnetv2.Bottleneck, resnetv2.DownsampleConv,
    resnetv2.DownsampleAvg,
)  # fmt: skip
"""Modules that only pass maps on from part to part, whatever their dimensions."""
POINTWISE = (nn.Identity, nn.ReLU, nn.SiLU, nn.GELU, nn.Sigmoid, Sigmoid, nn.Dropout)
"""Layers that treat each value alone."""
UNUSED = (ClassifierHead, SelectAdaptivePool2d)
"""Parts behind the last feature map."""


class InflatedTrunk(Trunk2D):
    """A timm ResNet up to its last feature map, its layers turned into 3D."""

    def __init__(self, rules: ModelSection) -> None:
        super().__init__(rules)
        name, _ = first_convolution(self.network)
        self.network = _inflate(self.network, rules)
        # The first convolution keeps every slice: slices lie further apart than pixels.
        first = cast(nn.Conv3d, self.network.get_submodule(name))
        first.stride = (1, *first.stride[1:])


class InflatedConv(nn.Conv3d):
    """A 2D convolution that reaches over neighbouring slices, and repeats the outermost ones where asked."""

    def __init__(self, flat: nn.Conv2d, rules: ModelSection) -> None:
        depth = DEPTH if flat.kernel_size[0] > 1 else 1
        repeat = depth // 2 if rules.depth_padding == "replicate" else 0
        y, x = cast(tuple[int, int], flat.padding)
        super().__init__(
            flat.in_channels, flat.out_channels, (depth, flat.kernel_size[0], flat.kernel_size[1]),
            stride=(flat.stride[0], flat.stride[0], flat.stride[1]), padding=(depth // 2 - repeat, y, x),
            dilation=(1, flat.dilation[0], flat.dilation[1]), groups=flat.groups, bias=flat.bias is not None,
        )  # fmt: skip
        self.repeat = repeat
        with torch.no_grad():
            self.weight.copy_(inflate_kernel(flat.weight, depth, rules.inflation))
            if self.bias is not None and flat.bias is not None:
                self.bias.copy_(flat.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """[batch, channel, z, y, x], smaller by the stride."""
        if self.repeat:
            inputs = torch.cat([inputs[:, :, :1], inputs, inputs[:, :, -1:]], dim=2)
        return super().forward(inputs)


class BlockMeans(nn.AvgPool3d):
    """A 2D mean over blocks, over as many slices too; a last block cut short repeats the last slice."""

    def forward(self, inputs: Tensor) -> Tensor:
        """[batch, channel, z, y, x], smaller by the stride: along z as by a convolution of that stride."""
        missing = -inputs.shape[2] % cast(int, self.stride)
        return super().forward(torch.cat([inputs, *[inputs[:, :, -1:]] * missing], dim=2) if missing else inputs)


class NormAct3d(BatchNormAct2d):  # type: ignore[misc]
    """timm's norm and activation in one; slices are further rows to it."""

    def forward(self, inputs: Tensor) -> Tensor:
        """The same shape."""
        return cast(Tensor, super().forward(inputs.flatten(2, 3)).reshape(inputs.shape))


class SqueezeExcite3d(SEModule):  # type: ignore[misc]
    """timm's squeeze and excitation, with the mean over the slices too."""

    def forward(self, inputs: Tensor) -> Tensor:
        """The same shape."""
        scale = self.fc1(inputs.mean((2, 3, 4), keepdim=True))
        return inputs * cast(Tensor, self.gate(self.fc2(self.act(self.bn(scale)))))


RECAST: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm2d: nn.BatchNorm3d, BatchNormAct2d: NormAct3d, SEModule: SqueezeExcite3d
}  # fmt: skip
"""Layers that keep their parameters' names, and what computes with them in 3D."""


def _inflate(module: nn.Module, rules: ModelSection) -> nn.Module:
    """The 3D counterpart of a layer, or of a container and all in it.

    Raises:
        UsageError: If a layer has no 3D counterpart here.
    """
    kind = type(module)
    if kind is nn.Conv2d:
        return InflatedConv(cast(nn.Conv2d, module), rules)
    if kind is nn.MaxPool2d:
        flat = cast(nn.MaxPool2d, module)
        return nn.MaxPool3d(flat.kernel_size, flat.stride, flat.padding, ceil_mode=flat.ceil_mode)
    if isinstance(module, nn.AvgPool2d) and _is_block_mean(module):
        size = cast(int, module.kernel_size)
        return BlockMeans(size, size, ceil_mode=module.ceil_mode, count_include_pad=module.count_include_pad)
    if kind in CONTAINERS or kind in RECAST:
        for name, child in module.named_children():
            module.add_module(name, _inflate(child, rules))
        module.__class__ = RECAST.get(kind, kind)
    elif kind not in (*POINTWISE, *UNUSED):
        raise UsageError(
            f"model.architecture: inflated turns plain, wide, D, pre-activation and SE-ResNets and ResNeXts into 3D; "
            f"{rules.backbone} has a part of another kind ({kind.__name__}). Use a ResNet, or architecture: slices"
        )
    return module


def _is_block_mean(pool: nn.AvgPool2d) -> bool:
    """Whether the windows of a mean lie side by side, without padding."""
    return type(pool) is nn.AvgPool2d and pool.stride == pool.kernel_size and pool.padding == 0
