"""The whole model as one graph for other engines: input to calibrated probabilities, all members and mirror images."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from pipeline.evaluation.calibration import Calibration
from pipeline.model.backbone import Classifier
from pipeline.model.inference import mirrors
from pipeline.model.package import Model

INPUT = "scans"
"""Name of the graph's input: float32 [batch, channel, (z,) y, x], preprocessed as model.json says."""
OUTPUTS = ("probabilities", "logits", "features")
"""Names of the graph's outputs: calibrated probabilities [batch, finding], the mean of the members; each member's
logits [member, batch, finding] and pooled features [member, batch, feature], which the gate looks at."""
OPSET = 20
MAX_BATCH = 4096


class WholeModel(nn.Module):
    """What `Model.predict_inputs` computes with torch, as one module that can be exported."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.networks = nn.ModuleList(model.networks)
        self.mirrored = mirrors(model.settings.test_time_flips)[1:]
        own = model.settings.member_calibrations or (model.settings.calibration,) * len(model.networks)
        self.calibrations = nn.ModuleList(CalibrationLayer(calibration) for calibration in own)

    def forward(self, scans: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Probabilities [batch, finding], logits [member, batch, finding], features [member, batch, feature]."""
        logits, features, probabilities = [], [], []
        for member, calibration in zip(self.networks, self.calibrations, strict=True):
            network = cast(Classifier, member)
            embedded = network.embed(scans)
            answers = [network.head(embedded), *(network(scans.flip(dims)) for dims in self.mirrored)]
            own = torch.stack(answers).mean(0)
            features.append(embedded)
            logits.append(own)
            probabilities.append(calibration(own))
        return torch.stack(probabilities).mean(0), torch.stack(logits), torch.stack(features)


class CalibrationLayer(nn.Module):
    """`Calibration.apply` in single precision."""

    def __init__(self, calibration: Calibration) -> None:
        super().__init__()
        self.softmax = calibration.task == "multiclass" and calibration.method in ("temperature", "none")
        self.sum_to_one = calibration.task == "multiclass" and not self.softmax
        self.register_buffer("slope", 1 / torch.tensor(calibration.temperature, dtype=torch.float32))
        self.register_buffer("intercept", torch.tensor(calibration.intercept, dtype=torch.float32))
        self.steps = list(zip(calibration.knots, calibration.levels, strict=True))

    def forward(self, logits: Tensor) -> Tensor:
        """Calibrated probabilities [batch, finding] of logits [batch, finding]."""
        scaled = logits * cast(Tensor, self.slope) + cast(Tensor, self.intercept)
        if self.softmax:
            return scaled.softmax(dim=1)
        p = scaled.sigmoid()
        if self.steps:
            columns = [
                _interpolated(logits[:, k], knots, levels) if knots else p[:, k]
                for k, (knots, levels) in enumerate(self.steps)
            ]
            p = torch.stack(columns, dim=1)
        return p / p.sum(dim=1, keepdim=True) if self.sum_to_one else p


def _interpolated(x: Tensor, knots: tuple[float, ...], levels: tuple[float, ...]) -> Tensor:
    """`numpy.interp` from operators that every engine has: a sum of clamped ramps."""
    at = torch.tensor(knots, dtype=torch.float32)
    rise = torch.tensor(levels, dtype=torch.float32).diff()
    width = at.diff()
    along = ((x[:, None] - at[:-1]) / width).clamp(0, 1)
    return levels[0] + (along * rise).sum(dim=1)


def write_onnx(model: Model, path: Path) -> None:
    """Write the whole model as ONNX, its batch of any size up to 4096.

    Traced on the CPU in float32; the weights lie in the file itself.
    """
    whole = WholeModel(model).cpu().eval()
    rules = model.preprocess
    example = torch.zeros(2, model.channels, *reversed(rules.size))
    batch = torch.export.Dim("batch", min=1, max=MAX_BATCH)
    with _quiet():
        program = torch.onnx.export(
            whole, (example,), dynamo=True, verbose=False, opset_version=OPSET, external_data=False,
            input_names=[INPUT], output_names=list(OUTPUTS), dynamic_shapes={"scans": {0: batch}},
        )  # fmt: skip
    cast(torch.onnx.ONNXProgram, program).save(path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep from the terminal what the exporter says of its own parts: a user can do nothing about it."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
