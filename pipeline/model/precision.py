"""Where bf16 may be used: one answer for training, for the trial of its batch, and for scoring."""

from collections.abc import Mapping

import torch

from pipeline.domain import UsageError


def bf16_refusal(device: torch.device, gradients: bool) -> str:
    """Why not to compute in bf16 on a device, "" if there is no reason.

    Torch does so anywhere, but by emulation, slower than fp32, on GPUs before Ampere and CPUs without instructions for
    it; and on a CPU the weight gradient of a 3x3x3 kernel on a 2x2x2 map is wrong, without an error. The forward pass
    there is right (measured in 2D and 3D: docs/decisions/0016-precision-of-scoring.md).

    Args:
        gradients: Whether they are wanted, too.
    """
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return "" if native else "is slower than fp32 on this GPU, which has no instructions for it"
    if gradients:
        return "is for GPUs; on a CPU it computes wrong 3D gradients"
    told: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # older versions don't tell
    return "" if told.get("avx512_bf16") else "is slower than fp32 on this CPU, which has no avx512_bf16"


def trains_in_bf16(wanted: str, device: torch.device) -> bool:
    """Whether training on a device takes bf16, as `train.precision` (auto, fp32, bf16) wants it.

    Raises:
        UsageError: If it wants bf16 where that can't be.
    """
    refusal = bf16_refusal(device, gradients=True)
    if wanted == "bf16" and refusal:
        raise UsageError(f"train.precision: bf16 {refusal}. Use auto or fp32")
    return wanted != "fp32" and not refusal
