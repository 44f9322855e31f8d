"""What the viewer holds in memory: the model, its scorer, the open scans of a browser tab. No Streamlit."""

import itertools
import weakref
import zlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.catalog import Score, is_current
from app.display import Window, sample, windows
from app.memory import at_work, decoded
from app.scorer import Scorer
from pipeline.domain import Identity, Prediction, Reason, Scan, ScanError, Volume, Voxels
from pipeline.explanation.gradcam import saliency
from pipeline.explanation.similar import Neighbour, similar
from pipeline.model.package import Model, load_model
from pipeline.scans.find import read_identity, read_volume
from pipeline.scans.instances import SLICE_MODALITIES

OPEN_SCANS = 2
"""Scans that one browser tab keeps in memory: the one on show and the one before it."""
HEAT_MAPS = 4
"""Heat maps that one browser tab may fetch."""
VOXELS = "voxels"
"""Name of a scan's voxels in memory."""
_numbers = itertools.count()


class OpenScan:
    """A scan that was read, and what the model says about it. Its voxels are read again when memory ran short.

    Args:
        key: Opaque and unique in its browser tab.
        volume: As it was read.
        has_frame: Whether the file says how it lies in the patient; without, no orientation letters are drawn.
        identity: Whom it shows.
        result: The prediction, or why the model refused to make one.
        windows: The window presets that fit it, the best one first.
        view: Which view of the patient a radiograph is, as the file codes it ("PA"); empty where it names none.
        side: "L", "R", "B" or empty, likewise.
        again: Reads the volume again; by default it is never let go.

    Attributes:
        number: Unique in this process.
        about: The volume without its voxels: shape, affine, unit, warnings.
        near: The training scans that look most like it, once they were asked for.
        curves: Finding -> evidence curve, once it was asked for.
    """

    def __init__(
        self, key: str, volume: Volume, has_frame: bool, identity: Identity, result: Prediction | ScanError,
        windows: Sequence[Window] = (), again: Callable[[], Volume] | None = None, view: str = "", side: str = "",
    ) -> None:  # fmt: skip
        self.view, self.side = view, side
        self.key, self.has_frame, self.identity, self.result = key, has_frame, identity, result
        self.windows, self.number = list(windows), next(_numbers)
        self.about = replace(volume, voxels=np.broadcast_to(np.float32(0), volume.voxels.shape))
        self.near: list[Neighbour] = []
        self.curves: dict[str, list[float] | None] = {}
        self._again, self._look = again or (lambda: volume), _look(volume)
        decoded.keep((self.number, VOXELS), volume.voxels)
        weakref.finalize(self, decoded.forget, self.number)

    @property
    def volume(self) -> Volume:
        """The volume with its voxels.

        Raises:
            ScanError: If it has to be read again and can't be, or is not what it was.
        """
        return replace(self.about, voxels=decoded.get((self.number, VOXELS), self._voxels))

    def heat(self, finding: str, make: Callable[[], NDArray[np.uint8]]) -> NDArray[np.uint8]:
        """The heat map of a finding as uint8 [i, j, k] on the volume's voxels; `make` makes it where it is not kept."""
        return decoded.get((self.number, f"heat {finding}"), make)

    def release(self) -> None:
        """Let the voxels and maps go; they come back if somebody still asks for them."""
        decoded.forget(self.number)

    def _voxels(self) -> Voxels:
        with at_work:
            volume = self._again()
        if _look(volume) != self._look:
            raise ScanError(Reason.IO_ERROR, "its files were changed after it was opened; open it again")
        return volume.voxels


def _look(volume: Volume) -> tuple[object, ...]:
    """What tells whether a volume that was read again is still the same: its form, and a sample of its voxels."""
    return volume.voxels.shape, volume.affine.tobytes(), zlib.crc32(sample(volume.voxels).tobytes())


class OpenScans:
    """The scans that one browser tab has open: few, so that memory stays bounded, and seen by no other tab."""

    def __init__(self) -> None:
        self._scans: OrderedDict[str, OpenScan] = OrderedDict()

    def get(self, key: str, read: Callable[[], OpenScan]) -> OpenScan:
        """The open scan of this key; `read` opens it where it is not, and the oldest one is dropped."""
        if key not in self._scans:
            while len(self._scans) >= OPEN_SCANS:
                self._scans.popitem(last=False)[1].release()
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


def open_scan(
    model: Model, scan: Scan, known: Score | None = None, key: str = "", again: Callable[[], Volume] | None = None
) -> OpenScan:
    """The scan read by the model's own rules, with its prediction.

    Args:
        model: Whose rules and prediction.
        scan: What to read.
        known: What the same model said about it before; used as long as no file of the scan has changed since.
        key: Opaque and unique in the browser tab; by default the scan id.
        again: Reads the volume once more; by default from the scan's own files.

    Raises:
        ScanError: If the scan is refused.
    """
    read = partial(read_volume, scan, model.read_rules)
    with at_work:
        volume = read()
        result = known.outcome if known is not None and is_current(known, scan) else _predicted(model, volume)
        presets = windows(volume, model.preprocess)
        return OpenScan(
            key or scan.scan_id, volume, has_frame(scan), read_identity(scan), result, presets, again or read,
            view=scan.view, side=scan.side,
        )  # fmt: skip


def has_frame(scan: Scan) -> bool:
    """Whether the file says how its picture lies in the patient: a PNG or a plain radiograph does not."""
    if scan.kind == "dicom":
        return scan.modality in SLICE_MODALITIES and "no_geometry" not in scan.warnings
    return scan.kind == "nifti"


def heat_map(model: Model, scan: OpenScan, finding: str) -> NDArray[np.uint8]:
    """The heat map of one finding as uint8 [i, j, k] on the scan's own voxels; computed once, then kept.

    Raises:
        ScanError: If the scan does not fit the model.
    """

    def made() -> NDArray[np.uint8]:
        with at_work:
            return (saliency(model, scan.volume, finding) * 255 + 0.5).astype(np.uint8)

    return scan.heat(finding, made)


def neighbours(model: Model, scan: OpenScan, run: Path, count: int) -> list[Neighbour]:
    """The training scans that look most like the scan to the model, the nearest first; looked for once.

    Raises:
        ScanError: If the scan does not fit the model.
        UsageError: If the run's index can't be read or is another model's.
    """
    if not scan.near:
        with at_work:
            scan.near = similar(run, model, scan.volume, count)
    return scan.near


def _predicted(model: Model, volume: Volume) -> Prediction | ScanError:
    try:
        return model.predict(volume)
    except ScanError as error:
        return error
