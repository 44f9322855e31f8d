"""What a MONAI bundle made by `pipeline.export` refers to: our reading and network as MONAI's own kinds of parts."""

import os
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from monai.inferers import Inferer
from monai.transforms import MapTransform
from torch import Tensor, nn

from pipeline.domain import Scan, ScanError
from pipeline.files import write_table
from pipeline.model.exported import WholeModel
from pipeline.model.package import Model, load_model
from pipeline.model.preprocess import read_input
from pipeline.scans.find import relative_path, survey

IMAGE = "image"
"""Key of the scan, then of its input, in the bundle's items."""


class Probabilities(nn.Module):
    """The whole model, input to calibrated probabilities [batch, finding].

    Attributes:
        findings: What each column is the probability of.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.whole = WholeModel(model)
        self.findings = model.findings

    def forward(self, inputs: Tensor) -> Tensor:
        """Calibrated probabilities [batch, finding] of preprocessed inputs [batch, channel, (z,) y, x]."""
        probabilities: Tensor = self.whole(inputs)[0]
        return probabilities


class ReadScand(MapTransform):  # type: ignore[misc]
    """MONAI transform: a scan in each key becomes its model input, float32 [channel, (z,) y, x].

    A scan that is refused becomes NaN, with the reason under "reason", so that one scan does not end the others.
    """

    def __init__(self, keys: Hashable | Iterable[Hashable], model_folder: str) -> None:
        super().__init__(keys)
        self._model = load_model(model_folder, "cpu")

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """The item with its scans read and preprocessed as the model folder says."""
        model, item = self._model, {**data, "reason": ""}
        for key in self.key_iterator(item):
            try:
                if isinstance(item[key], ScanError):
                    raise item[key]
                found = read_input(item[key], model.read_rules, model.preprocess, model.channels)
                item[key] = torch.from_numpy(found.array)
            except ScanError as error:
                item["reason"] = error.reason.value
                item[key] = torch.full(input_shape(model), torch.nan)
        return item


def input_shape(model: Model) -> tuple[int, ...]:
    """Shape of one model input, [channel, (z,) y, x]."""
    return (model.channels, *reversed(model.preprocess.size))


def network(model_folder: str) -> Probabilities:
    """The network of a model folder, in evaluation mode."""
    return Probabilities(load_model(model_folder, "cpu")).eval()


def items(scans: str, model_folder: str) -> list[dict[str, object]]:
    """One item a scan in a file or folder, sorted by path: `scan_id`, `path`, and under "image" the scan.

    What is refused at its header, or left out by the model's rules, has the reason in place of the scan.
    """
    root = Path(scans)
    found = survey(root, rules=load_model(model_folder, "cpu").read_rules)
    rows: list[tuple[Path, str, Scan | ScanError]] = [(scan.path, scan.scan_id, scan) for scan in found.scans]
    rows += [(one.scan.path, one.scan.scan_id, ScanError(one.reason, one.detail)) for one in found.not_selected]
    taken = {scan_id for _, scan_id, _ in rows}
    for one in found.rejections:  # the scan id stands at the series, where one was read without the file
        rows.append((one.path, "" if one.scan_id in taken else one.scan_id, ScanError(one.reason, one.detail)))
    rows.sort(key=lambda row: os.fsencode(row[0]))
    return [{IMAGE: image, "scan_id": scan_id, "path": relative_path(path, root)} for path, scan_id, image in rows]


def write_predictions(
    output: str, batches: Iterable[Mapping[str, Any]], inferer: Inferer, network: Probabilities
) -> None:
    """Run the network over batches of items; a CSV with scan_id, path, reason (of a refusal) and p_<finding>."""
    rows = []
    with torch.inference_mode():
        for batch in batches:
            p = inferer(batch[IMAGE], network).tolist()
            rows += [
                list(row[:3]) + row[3] for row in zip(batch["scan_id"], batch["path"], batch["reason"], p, strict=True)
            ]
    columns = ["scan_id", "path", "reason", *(f"p_{finding}" for finding in network.findings)]
    write_table(Path(output), pd.DataFrame(rows, columns=columns), float_format="%.6f")
