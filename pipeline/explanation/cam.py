"""Class activation maps of a batch: MONAI's methods on the features of one layer, and HiResCAM, which MONAI lacks."""

from collections.abc import Callable, Mapping

import torch
from monai.visualize import GradCAM, GradCAMpp
from monai.visualize.class_activation_maps import ModelWithHooks, default_upsampler
from torch import Tensor, nn

from pipeline.explanation.layers import module_name
from pipeline.model.backbone import Classifier
from pipeline.model.pooling import SliceAttention


class Watched(ModelWithHooks):  # type: ignore[misc]
    """A network with the features of one layer and the gradients of a score there, for MONAI's methods.

    MONAI's own hooks stay on the network for ever and let gradients run down to every weight and the input. Here the
    backward pass ends at the layer, and nothing is left behind.
    """

    def __init__(self, network: Classifier, layer: str) -> None:
        super().__init__(network, module_name(layer))
        self.score = torch.zeros(1)
        """What Grad-CAM++ takes the exponential of, the same for all of a map: left out, it is a factor of 1."""

    def __call__(
        self, x: Tensor, class_idx: int | None = None, **_: object
    ) -> tuple[Tensor, tuple[Tensor], tuple[Tensor]]:
        """Logits, features [n, feature, ...] and gradients of the score there.

        Where a network looks at slices one by one, n counts slices: each is weighed by gradients of its own, which
        hold the slice's attention, so that a slice that the network passed over stays dark.
        """
        leaves: list[Tensor] = []

        def start_here(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
            leaves.append(output.detach().requires_grad_())
            return leaves[-1].clone()  # what follows may change it in place

        layer = self.get_layer(self.target_layers[0])
        hook = layer.register_forward_hook(start_here)
        try:
            with torch.enable_grad():
                logits = self.model(x)
                (gradients,) = torch.autograd.grad(logits[:, class_idx].sum(), leaves[-1])
        finally:
            hook.remove()
        features = leaves[-1].detach()
        if isinstance(self.model.pool, SliceAttention) and features.ndim == 5:
            features, gradients = (t.transpose(1, 2).flatten(0, 1) for t in (features, gradients))
        return logits.detach(), (features,), (gradients,)


class HiResCAM(GradCAM):  # type: ignore[misc]
    """HiResCAM (Draelos 2020, equation 4): features times their own gradients, not times a mean of them.

    Grad-CAM's mean over a map mixes what the network read at different places; in the last layer before a mean over
    all positions both are the same.
    """

    def compute_map(
        self, x: Tensor, class_idx: int | None = None, retain_graph: bool = False, layer_idx: int = -1, **_: object
    ) -> Tensor:
        """Map [n, 1, ...] on the grid of the features."""
        _, maps, gradients = self.nn_module(x, class_idx=class_idx, retain_graph=retain_graph)
        return torch.relu((gradients[layer_idx] * maps[layer_idx]).sum(1, keepdim=True))


KINDS: Mapping[str, Callable[..., GradCAM]] = {"hirescam": HiResCAM, "gradcam": GradCAM, "gradcampp": GradCAMpp}


def activation_maps(network: Classifier, inputs: Tensor, output: int, method: str, layer: str) -> Tensor:
    """Maps [scan, (z,) y, x] of one output on the grid of the inputs [scan, channel, (z,) y, x], not negative.

    Args:
        network: In evaluation mode.
        inputs: The scans.
        output: Which of the network's outputs.
        method: One of `KINDS`.
        layer: One of `layers.grids`.
    """
    cam = KINDS[method](nn_module=Watched(network, layer), target_layers=layer)
    coarse = cam.compute_map(inputs, class_idx=output)
    if coarse.ndim < inputs.ndim:  # a map a slice
        coarse = coarse.reshape(len(inputs), -1, *coarse.shape[1:]).transpose(1, 2)
    upsampled: Tensor = default_upsampler(inputs.shape[2:])(coarse)
    return upsampled[:, 0]
