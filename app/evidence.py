"""The evidence curve under the axial pane: how much each slice speaks for a finding."""

import numpy as np
from numpy.typing import NDArray

from app.memory import at_work
from app.session import OpenScan, heat_map
from pipeline.explanation.evidence import slice_evidence
from pipeline.model.package import Model


def evidence_curve(model: Model, scan: OpenScan, finding: str) -> list[float] | None:
    """A number for each axial slice, from the feet up; None for a scan of one slice.

    Of a model that looks at slices one by one: what each adds to the finding's logit. Of any other: the highest
    value of its heat map on the slice, 0 to 1.

    Raises:
        ScanError: If the scan does not fit the model.
    """
    if finding not in scan.curves:
        scan.curves[finding] = _curve(model, scan, finding)
    return scan.curves[finding]


def _curve(model: Model, scan: OpenScan, finding: str) -> list[float] | None:
    if scan.about.shape[2] == 1:
        return None
    if model.settings.model.architecture == "slices":
        with at_work:
            curve = slice_evidence(model, scan.volume, finding)
    else:
        curve = brightest(heat_map(model, scan, finding))
    return [round(float(value), 4) for value in curve]


def brightest(heat: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Highest value of each axial slice of a heat map [i, j, k], 0 to 1."""
    return np.asarray(heat.max(axis=(0, 1)) / np.float32(255), dtype=np.float32)
