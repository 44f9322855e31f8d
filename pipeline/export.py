"""Export a model for other engines: `python -m pipeline.export MODEL --format onnx --out OUT`."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from pipeline.console import DONE, WRONG_USE, guarded, stderr, stdout

if TYPE_CHECKING:
    from pipeline.model.compared import Array
    from pipeline.model.package import Model

DEMO = "python -m pipeline.export runs/demo/run/model --format onnx --out runs/demo/onnx --scans data/demo/scans"


@dataclass(frozen=True)
class Options:
    """Write a model for ONNX Runtime or OpenVINO, or as a MONAI bundle, and compare it with torch.

    The graph takes preprocessed inputs and gives calibrated probabilities; export.json says how an input is made from
    a scan. Research use only, not a medical device.
    """

    model: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """The model folder that training wrote (RUN/model)."""
    format: Literal["onnx", "openvino", "monai-bundle"]
    """onnx: one file, any batch size. openvino: model.xml and model.bin. monai-bundle: for MONAI's own command."""
    out: Annotated[Path, tyro.conf.arg(metavar="OUT")]
    """Folder to write to; not inside MODEL or SCANS."""
    scans: Annotated[Path | None, tyro.conf.arg(metavar="SCANS")] = None
    """Scans to compare on; without, noise is used."""
    count: int = 16
    """How many of the scans are compared, at most."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command's exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments:
        stderr.print(f"export needs a model folder, --format and --out. For the demo:\n  {DEMO}", markup=False)
        return WRONG_USE
    options = tyro.cli(Options, args=arguments, prog="python -m pipeline.export")
    return guarded(lambda: _run(options))


def _run(options: Options) -> int:
    from pipeline.files import check_apart, check_writable
    from pipeline.model.exporting import FILES, export, noise
    from pipeline.model.package import load_model

    check_apart(options.out, {"MODEL": options.model} | ({"SCANS": options.scans} if options.scans else {}))
    check_writable(options.out)
    model = load_model(options.model, "cpu")
    inputs = noise(model) if options.scans is None else _inputs(model, options.scans, options.count)
    gap = export(model, options.format, options.out, inputs, 0 if options.scans is None else len(inputs))
    kind = "inputs of noise (give --scans to compare on real ones)" if options.scans is None else "scans"
    stdout.print(f"compared with torch on {len(inputs)} {kind}: largest difference {gap:.1g}", markup=False)
    stdout.print(f"written: {options.out / FILES[options.format]}, export.json, README.md", markup=False)
    stdout.print(f"next: {options.out / 'README.md'} shows how to run it", markup=False)
    return DONE


def _inputs(model: "Model", scans: Path, count: int) -> "list[Array]":
    """The inputs of the first scans that can be read.

    Raises:
        UsageError: If none can.
    """
    from pipeline.domain import ScanError, UsageError
    from pipeline.model.preprocess import read_input
    from pipeline.scans.find import survey

    inputs: list[Array] = []
    reasons = []
    for scan in survey(scans, rules=model.read_rules).scans:
        try:
            inputs.append(read_input(scan, model.read_rules, model.preprocess, model.channels).array)
        except ScanError as error:
            reasons.append(error.reason.value)
        if len(inputs) == count:
            break
    if not inputs:
        why = f"all were refused: {', '.join(sorted(set(reasons)))}" if reasons else "none was found"
        raise UsageError(f"--scans {scans}: no scan to compare on; {why}")
    return inputs


if __name__ == "__main__":
    sys.exit(main())
