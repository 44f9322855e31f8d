"""How a feature map becomes one vector: over all its positions, or slice by slice with attention."""

from typing import cast

import torch
from torch import Tensor, nn

ATTENTION_WIDTH = 128
"""Hidden units of the attention: L in Ilse 2018, whose experiments use 128 for bags of features as wide as ours."""


class GlobalPool(nn.Module):
    """Mean or maximum over all positions: [batch, feature, ...] -> [batch, feature]."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, maps: Tensor) -> Tensor:
        """Pooled features [batch, feature]."""
        return _reduce(maps.flatten(2), self.kind)


class SliceAttention(nn.Module):
    """A mean over slices that weighs each by gated attention (Ilse, Tomczak and Welling 2018, equation 9)."""

    def __init__(self, features: int, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.value = nn.Linear(features, ATTENTION_WIDTH)
        self.gate = nn.Linear(features, ATTENTION_WIDTH)
        self.score = nn.Linear(ATTENTION_WIDTH, 1, bias=False)

    def slices(self, maps: Tensor) -> Tensor:
        """One vector a slice, [batch, z, feature], of feature maps [batch, feature, z, y, x]."""
        return _reduce(maps.flatten(3), self.kind).transpose(1, 2)

    def attention(self, slices: Tensor) -> Tensor:
        """Weights [batch, z] that sum to 1."""
        scores = self.score(torch.tanh(self.value(slices)) * torch.sigmoid(self.gate(slices)))
        return cast(Tensor, scores.squeeze(-1).softmax(dim=1))

    def forward(self, maps: Tensor) -> Tensor:
        """Pooled features [batch, feature]."""
        slices = self.slices(maps)
        return (self.attention(slices)[..., None] * slices).sum(dim=1)


def _reduce(positions: Tensor, kind: str) -> Tensor:
    return positions.amax(-1) if kind == "max" else positions.mean(-1)
