"""What the viewer holds in memory: the model, its scorer, the open scans of a browser tab. No Streamlit."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.catalog import Score, is_current
from app.display import Window, windows
from app.scorer import Scorer, model_in_use
from pipeline.domain import Identity, Prediction, Scan, ScanError, Volume
from pipeline.explanation.gradcam import saliency
from pipeline.explanation.similar import Neighbour, similar
from pipeline.model.package import Model, load_model
from pipeline.scans.find import read_identity, read_volume
from pipeline.scans.instances import SLICE_MODALITIES

OPEN_SCANS = 2
"""Scans that one browser tab keeps in memory: the one on show and the one before it."""
HEAT_MAPS = 4
"""Heat maps kept for each open scan."""


@dataclass
class OpenScan:
    """A scan that was read, and what the model says about it.

    Attributes:
        key: Opaque and unique in its browser tab.
        has_frame: Whether the file says how it lies in the patient; without, no orientation letters are drawn.
        result: The prediction, or why the model refused to make one.
        windows: The window presets that fit it, the best one first.
        heat: Finding -> heat map as uint8 [i, j, k] on the volume's voxels.
        near: The training scans that look most like it, once they were asked for.
    """

    key: str
    volume: Volume
    has_frame: bool
    identity: Identity = field(repr=False)
    result: Prediction | ScanError
    windows: list[Window] = field(default_factory=list)
    heat: OrderedDict[str, NDArray[np.uint8]] = field(default_factory=OrderedDict)
    near: list[Neighbour] = field(default_factory=list)


class OpenScans:
    """The scans that one browser tab has open: few, so that memory stays bounded, and seen by no other tab."""

    def __init__(self) -> None:
        self._scans: OrderedDict[str, OpenScan] = OrderedDict()

    def get(self, key: str, read: Callable[[], OpenScan]) -> OpenScan:
        """The open scan of this key; `read` opens it where it is not, and the oldest one is dropped."""
        if key not in self._scans:
            while len(self._scans) >= OPEN_SCANS:
                self._scans.popitem(last=False)
            self._scans[key] = read()
        self._scans.move_to_end(key)
        return self._scans[key]


@lru_cache(maxsize=1)
def the_model(folder: Path) -> Model:
    """The verified model, loaded once for all browser tabs.

    Raises:
        pipeline.model.package.ModelError: If the folder does not verify.
    """
    return load_model(folder)


@lru_cache(maxsize=1)
def the_scorer(folder: Path) -> Scorer:
    """The scorer of the model, one for all browser tabs."""
    return Scorer(the_model(folder))


def open_scan(model: Model, scan: Scan, known: Score | None = None, key: str = "") -> OpenScan:
    """The scan read by the model's own rules, with its prediction.

    Args:
        model: Whose rules and prediction.
        scan: What to read.
        known: What the same model said about it before; used as long as no file of the scan has changed since.
        key: Opaque and unique in the browser tab; by default the scan id.

    Raises:
        ScanError: If the scan is refused.
    """
    volume = read_volume(scan, model.read_rules)
    result = known.outcome if known is not None and is_current(known, scan) else _predicted(model, volume)
    return OpenScan(
        key or scan.scan_id, volume, has_frame(scan), read_identity(scan), result, windows(volume, model.preprocess)
    )


def has_frame(scan: Scan) -> bool:
    """Whether the file says how its picture lies in the patient: a PNG or a plain radiograph does not."""
    if scan.kind == "dicom":
        return scan.modality in SLICE_MODALITIES and "no_geometry" not in scan.warnings
    return scan.kind == "nifti"


def heat_map(model: Model, scan: OpenScan, finding: str) -> NDArray[np.uint8]:
    """The heat map of one finding as uint8 [i, j, k] on the scan's own voxels; computed once, then kept with the scan.

    Raises:
        ScanError: If the scan does not fit the model.
    """
    if finding not in scan.heat:
        with model_in_use:
            found = saliency(model, scan.volume, finding)
        while len(scan.heat) >= HEAT_MAPS:
            scan.heat.popitem(last=False)
        scan.heat[finding] = (found * 255 + 0.5).astype(np.uint8)
    return scan.heat[finding]


def neighbours(model: Model, scan: OpenScan, run: Path, count: int) -> list[Neighbour]:
    """The training scans that look most like the scan to the model, the nearest first; looked for once.

    Raises:
        ScanError: If the scan does not fit the model.
        UsageError: If the run's index can't be read or is another model's.
    """
    if not scan.near:
        with model_in_use:
            scan.near = similar(run, model, scan.volume, count)
    return scan.near


def _predicted(model: Model, volume: Volume) -> Prediction | ScanError:
    try:
        with model_in_use:
            return model.predict(volume)
    except ScanError as error:
        return error
