"""What the viewer holds in memory: settings, the model, the list of scans, the open scans. No Streamlit."""

import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from numpy.typing import NDArray

from app.display import Window, windows
from pipeline.domain import (
    Identity,
    Prediction,
    ReadRules,
    Reason,
    Rejection,
    Scan,
    ScanError,
    UsageError,
    Volume,
)
from pipeline.explanation.gradcam import saliency
from pipeline.model.package import Model, load_model
from pipeline.scans.find import find_scans, read_identity, read_volume, survey
from pipeline.scans.instances import SLICE_MODALITIES
from pipeline.scans.select import Unchosen

OPEN_SCANS = 2
"""Scans that one browser tab keeps in memory: the one on show and the one before it."""
HEAT_MAPS = 4
"""Heat maps kept for each open scan."""
UPLOAD_TYPES = ("nii", "gz", "dcm", "png", "jpg", "jpeg", "tif", "tiff")
"""Endings that the browser offers; what counts is the content."""
_model_in_use = threading.Lock()
"""Grad-CAM hooks into the network, so one browser tab at a time may run it."""


@dataclass(frozen=True)
class Settings:
    """Look at scans, a model's calibrated probabilities for them, and where it looked. Research use only."""

    model: Path
    """MODEL folder that training wrote (RUN/model)."""
    scans: Path
    """Folder of scans to choose from (or one scan)."""
    port: Annotated[int, tyro.conf.arg(metavar="PORT")] = 8501
    """TCP port on 127.0.0.1; 0 takes any free one."""
    hide_identity: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Show no name, ID, date or file name, for reader studies."""


@dataclass
class OpenScan:
    """A scan that was read, and what the model says about it.

    Attributes:
        key: Opaque and unique in its browser tab.
        has_frame: Whether the file says how it lies in the patient; without, no orientation letters are drawn.
        result: The prediction, or why the model refused to make one.
        windows: The window presets that fit it, the best one first.
        heat: Finding -> Grad-CAM as uint8 [i, j, k] on the volume's voxels.
    """

    key: str
    volume: Volume
    has_frame: bool
    identity: Identity = field(repr=False)
    result: Prediction | ScanError
    windows: list[Window] = field(default_factory=list)
    heat: OrderedDict[str, NDArray[np.uint8]] = field(default_factory=OrderedDict)


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


@lru_cache(maxsize=4)
def parse_settings(arguments: tuple[str, ...]) -> Settings:
    """The settings on a command line. Leaves with exit code 2 where they can't be understood."""
    return tyro.cli(Settings, args=list(arguments), prog="python -m app")


def check_settings(settings: Settings) -> None:
    """Say at once, before anything slow, what can't work.

    Raises:
        UsageError: Listing every problem.
    """
    problems = []
    if not (settings.model / "model.json").is_file():
        problems.append(f"--model {settings.model}: holds no model.json; give the `model` folder that training wrote")
    if not settings.scans.exists():
        problems.append(f"--scans {settings.scans}: does not exist; give a folder of scans")
    if not 0 <= settings.port <= 65535:
        problems.append(f"--port {settings.port}: expected 0 to 65535")
    if problems:
        raise UsageError("the viewer can't start:\n  " + "\n  ".join(problems))


@lru_cache(maxsize=1)
def the_model(folder: Path) -> Model:
    """The verified model, loaded once for all browser tabs.

    Raises:
        pipeline.model.package.ModelError: If the folder does not verify.
    """
    return load_model(folder)


@lru_cache(maxsize=1)
def the_scans(folder: Path, rules: ReadRules = ReadRules()) -> tuple[list[Scan], list[Rejection], list[Unchosen]]:  # noqa: B008 - frozen
    """The scans that the rules choose in a folder, the refused, and the others; surveyed once.

    `the_scans.cache_clear()` looks again.

    Raises:
        UsageError: If the folder can't be listed.
    """
    found = survey(folder, rules=rules)
    return found.scans, found.rejections, found.not_selected


def open_scan(model: Model, scan: Scan) -> OpenScan:
    """The scan read by the model's own rules, with its prediction.

    Raises:
        ScanError: If the scan is refused.
    """
    return _opened(model, scan.scan_id, scan)


def open_upload(model: Model, key: str, content: bytes) -> OpenScan:
    """An uploaded file opened like a scan of the folder: what it is, its content tells; its name is never used.

    It lies on disk only while it is read, in a folder that no other user can enter.

    Raises:
        ScanError: If it is no scan, holds several, or is refused.
    """
    with tempfile.TemporaryDirectory(prefix="viewer-") as folder:
        path = Path(folder) / "upload"
        path.write_bytes(content)
        scans, rejections = find_scans(path)
        if not scans and not rejections:
            raise ScanError(Reason.NOT_AN_IMAGE, "by its content it is no NIfTI, DICOM, PNG, JPEG or TIFF image")
        if len(scans) != 1:
            read_volume(path)  # says why it is refused, or that it holds several
        return _opened(model, key, scans[0])


def has_frame(scan: Scan) -> bool:
    """Whether the file says how its picture lies in the patient: a PNG or a plain radiograph does not."""
    if scan.kind == "dicom":
        return scan.modality in SLICE_MODALITIES and "no_geometry" not in scan.warnings
    return scan.kind == "nifti"


def heat_map(model: Model, scan: OpenScan, finding: str) -> NDArray[np.uint8]:
    """Grad-CAM of one finding as uint8 [i, j, k] on the scan's own voxels; computed once, then kept with the scan.

    Raises:
        ScanError: If the scan does not fit the model.
    """
    if finding not in scan.heat:
        with _model_in_use:
            found = saliency(model, scan.volume, finding)
        while len(scan.heat) >= HEAT_MAPS:
            scan.heat.popitem(last=False)
        scan.heat[finding] = (found * 255 + 0.5).astype(np.uint8)
    return scan.heat[finding]


def _opened(model: Model, key: str, scan: Scan) -> OpenScan:
    volume = read_volume(scan, model.read_rules)
    result: Prediction | ScanError
    try:
        with _model_in_use:
            result = model.predict(volume)
    except ScanError as error:
        result = error
    return OpenScan(key, volume, has_frame(scan), read_identity(scan), result, windows(volume, model.preprocess))
