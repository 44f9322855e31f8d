"""Is a scan like those that the model learned from? A distance of its features to theirs, and where that is too far."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from torch import Tensor

QUANTILE = 0.99
"""Share of the held-out scans that pass; what lies farther than they do is out of distribution."""
COMPONENTS = 32
"""Directions in which the training features vary most; the rest is summed up as one residual."""
LOOK = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
"""Quantiles of the input's values that are judged beside the network's features: an empty or inverted picture may
leave the features unmoved."""
FEWEST = 12
"""With fewer scans to learn from or to hold out, there is no gate."""

Features = NDArray[np.float64]
"""[scan, feature]."""


@dataclass(frozen=True)
class Gate:
    """A Gaussian around the training features of one network, and the distance that few held-out scans exceed.

    Squared Mahalanobis distance under probabilistic PCA (Tipping and Bishop 1999): full along the components,
    isotropic beside them. It holds means and directions, no scan's own features.

    Attributes:
        mean, scale: [feature] by which features are standardised.
        components: [component, feature] orthonormal. variances: [component] along them.
        residual: Variance in each direction beside the components.
        limit: Distance beyond which a scan is out of distribution.
    """

    mean: Features
    scale: Features
    components: Features
    variances: Features
    residual: float
    limit: float

    @classmethod
    def fitted(cls, learned: Features, held_out: Features) -> Self | None:
        """The gate around `learned` with its limit from `held_out`; None where either has too few scans."""
        if min(len(learned), len(held_out)) < FEWEST:
            return None
        mean, scale = learned.mean(axis=0), learned.std(axis=0)
        scale = np.where(scale > 1e-6 * max(float(scale.max()), 1e-12), scale, max(float(scale.max()), 1e-12))
        standard = (learned - mean) / scale
        count = min(COMPONENTS, len(learned) // 2, standard.shape[1])
        pca = PCA(count, svd_solver="full").fit(standard)
        rest = standard.shape[1] - count
        residual = max(float(pca.noise_variance_) if rest else 1.0, 1e-6)
        variances = np.maximum(pca.explained_variance_, 1e-6)
        gate = cls(mean, scale, pca.components_, variances, residual, 1.0)
        limit = float(np.quantile(gate.distances(held_out), QUANTILE, method="higher"))
        return cls(mean, scale, pca.components_, variances, residual, limit)

    def distances(self, features: Features) -> Features:
        """[scan] mean squared distance a feature: about 1 for scans like those learned from."""
        standard = (features - self.mean) / self.scale
        along = standard @ self.components.T
        beside = np.maximum((standard**2).sum(axis=1) - (along**2).sum(axis=1), 0)
        total = (along**2 / self.variances).sum(axis=1) + beside / self.residual
        return np.asarray(total / standard.shape[1])

    def tensors(self) -> dict[str, Tensor]:
        """What a safetensors file keeps."""
        arrays = {"mean": self.mean, "scale": self.scale, "components": self.components, "variances": self.variances}
        numbers = {"residual": np.array([self.residual]), "limit": np.array([self.limit])}
        return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in (arrays | numbers).items()}

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        """What `tensors` gave.

        Raises:
            KeyError: If one is missing.
        """
        arrays = {name: tensor.numpy().astype(np.float64) for name, tensor in tensors.items()}
        return cls(
            arrays["mean"], arrays["scale"], arrays["components"], arrays["variances"], float(arrays["residual"][0]),
            float(arrays["limit"][0]),
        )  # fmt: skip


def excess(gates: Sequence[Gate], features: Sequence[Features]) -> Features:
    """[scan] distance as a multiple of the limit, the mean over members: above 1 is out of distribution.

    Args:
        gates: One a member. features: Of each member, [scan, feature].
    """
    return np.asarray(np.mean([g.distances(f) / g.limit for g, f in zip(gates, features, strict=True)], axis=0))


def look_of(arrays: Iterable[NDArray[np.float32]]) -> Features:
    """[scan, quantile] of the values of each input [scan, channel, (z,) y, x], one input at a time in memory."""
    return np.stack([np.quantile(np.asarray(one), LOOK) for one in arrays]).astype(np.float64)


def with_look(features: NDArray[np.floating], look: Features) -> Features:
    """Features [scan, feature] with what `look_of` gave beside them."""
    return np.concatenate([features, look], axis=1).astype(np.float64)
