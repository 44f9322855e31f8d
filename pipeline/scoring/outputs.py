"""What is written for each scan beside its row: one entry a kind of file, which a command's flag asks for."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from pipeline.domain import Prediction, Scan
from pipeline.model.package import Model
from pipeline.scoring.dicom_results import write_dicom
from pipeline.scoring.maps import map_name, write_maps

Writer: TypeAlias = Callable[[Model, Scan, Prediction, Path], tuple[str, ...]]
"""Writes a scan's files into a folder of its own kind below OUT; returns warnings where it could not."""


def _maps(model: Model, scan: Scan, _: Prediction, folder: Path) -> tuple[str, ...]:
    return write_maps(model, scan, folder)


WRITERS: Mapping[str, Writer] = {"saliency": _maps, "dicom": write_dicom}
"""Kind, which is also the folder in OUT -> its writer, whose warnings begin with no_<kind>."""

NAMES: Mapping[str, Callable[[Sequence[str], str], list[str]]] = {
    "saliency": lambda findings, scan_id: [map_name(scan_id, finding) for finding in findings],
    "dicom": lambda _, scan_id: [scan_id],
}
"""Kind -> what a scan has in its folder, for the model's findings."""


def write_outputs(kinds: Sequence[str], model: Model, scan: Scan, prediction: Prediction, out: Path) -> tuple[str, ...]:
    """Write every kind that was asked for; the warnings."""
    return tuple(code for kind in kinds for code in WRITERS[kind](model, scan, prediction, out / kind))


def has_outputs(
    kinds: Sequence[str], findings: Sequence[str], scan_id: str, warnings: Sequence[str], out: Path
) -> bool:
    """Whether a scan has all that was written for it; what a warning says could not be written is not looked for."""
    wanted = [kind for kind in kinds if not any(code.startswith(f"no_{kind}") for code in warnings)]
    return all(path.exists() for path in _places(wanted, findings, scan_id, out))


def remove_outputs(kinds: Sequence[str], findings: Sequence[str], scan_id: str, out: Path) -> None:
    """Remove what was written for a scan: it is to be scored anew, or has no result any more."""
    for path in _places(kinds, findings, scan_id, out):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _places(kinds: Sequence[str], findings: Sequence[str], scan_id: str, out: Path) -> list[Path]:
    return [out / kind / name for kind in kinds for name in NAMES[kind](findings, scan_id)]
