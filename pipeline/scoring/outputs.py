"""What is written for each scan beside its row: one entry a kind of file, which a command's flag asks for."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from pipeline.domain import Prediction, Scan
from pipeline.model.package import Model
from pipeline.scoring.dicom_results import write_dicom
from pipeline.scoring.maps import write_maps

Writer: TypeAlias = Callable[[Model, Scan, Prediction, Path], tuple[str, ...]]
"""Writes a scan's files into a folder of its own kind below OUT; returns warnings where it could not."""


def _maps(model: Model, scan: Scan, _: Prediction, folder: Path) -> tuple[str, ...]:
    return write_maps(model, scan, folder)


WRITERS: Mapping[str, Writer] = {"saliency": _maps, "dicom": write_dicom}
"""Kind, which is also the folder in OUT -> its writer."""


def write_outputs(kinds: Sequence[str], model: Model, scan: Scan, prediction: Prediction, out: Path) -> tuple[str, ...]:
    """Write every kind that was asked for; the warnings."""
    return tuple(code for kind in kinds for code in WRITERS[kind](model, scan, prediction, out / kind))
