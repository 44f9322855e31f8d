"""What runs a model's networks in place of torch in single precision, and is compared with that before it is used."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from pipeline.console import count
from pipeline.domain import UsageError
from pipeline.model.package import Model
from pipeline.model.precision import bf16_refusal

Array: TypeAlias = NDArray[np.float32]
Run: TypeAlias = Callable[[Array], tuple[Array, list[Array]]]
"""Inputs [scan, channel, (z,) y, x] -> raw outputs [member, scan, finding], each member's features [scan, feature]."""

BF16_TOLERANCE = 0.02
"""Largest difference from fp32, in probability. Most seen in 2,370 predictions of nine models: 0.0116 (decision 16)."""


class Compared:
    """A `Model.engine`: its first inputs go through torch in single precision, too.

    Attributes:
        difference: The largest one in probability, None before the first inputs.
    """

    def __init__(self, run: Run, model: Model, pair: str, tolerance: float, instead: str, calls: bool = False) -> None:
        """Of the model, `model.outputs` is what `run` is compared with.

        Args:
            pair: What is compared, for example "onnx and torch".
            tolerance: The largest difference that is allowed.
            instead: What to do where it is larger.
            calls: Whether every call, positive or not, must be the same, too.
        """
        self.difference: float | None = None
        self._run, self._reference = run, model
        self._pair, self._tolerance, self._instead, self._calls = pair, tolerance, instead, calls

    def __call__(self, arrays: Array) -> tuple[Array, list[Array]]:
        """The outputs.

        Raises:
            UsageError: If the first ones differ by too much.
        """
        found = self._run(arrays)
        if self.difference is None:
            self.difference = self._compared(arrays, found[0])
        return found

    def _compared(self, arrays: Array, logits: Array) -> float:
        model = self._reference
        ours, other = (model.calibrated(each).mean(axis=0) for each in (model.outputs(arrays)[0], logits))
        gap = float(np.abs(ours - other).max())
        if not gap <= self._tolerance:
            raise UsageError(
                f"{self._pair} differ by {gap:.2g} in probability on these scans, where {self._tolerance:g} is "
                f"allowed: {self._instead}"
            )
        turned = int((model.calls(ours) != model.calls(other)).any(axis=1).sum())
        if self._calls and turned:
            raise UsageError(
                f"{self._pair} call {turned} of the first {count(len(arrays), 'scan')} differently, positive or not: "
                f"{self._instead}"
            )
        return gap


def with_bf16(model: Model) -> Model:
    """The model with its forward pass in bf16, its heads and all that follows in single precision.

    Raises:
        UsageError: If the device is not made for it. The first batch raises it where fp32 says something else.
    """
    refusal = bf16_refusal(model.device, gradients=False)
    if refusal:
        raise UsageError(f"--precision bf16 {refusal}: score with --precision fp32")
    run = partial(model.passed, bf16=True)
    return replace(
        model, engine=Compared(run, model, "bf16 and fp32", BF16_TOLERANCE, "score with --precision fp32", calls=True)
    )
