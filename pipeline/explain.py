"""Explain one scan's prediction: `python -m pipeline.explain MODEL SCAN --out OUT`."""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro

from pipeline.console import DONE, WITH_REJECTIONS, WRONG_USE, guarded, stderr, stdout
from pipeline.domain import ScanError, UsageError

DEMO = "python -m pipeline.explain runs/demo/run/model data/demo/scans/P0084/study1/chest --out runs/demo/explained"


@dataclass(frozen=True)
class Options:
    """Predict one scan and write where the model looked, as NIfTI in the scan's own space, with the prediction as JSON.

    Exit code 3: the scan was refused; the reason is printed. Research use only, not a medical device.
    """

    model: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """The model folder that training wrote (RUN/model)."""
    scan: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SCAN")]
    """A file, or a folder, that holds exactly one scan. Never altered."""
    out: Annotated[Path, tyro.conf.arg(metavar="OUT")]
    """Folder to write <scan_id>_<finding>.nii.gz (0 to 1) and <scan_id>.json to."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command's exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words:
        stderr.print(f"explain needs a model folder, a scan and --out. For the demo:\n  {DEMO}", markup=False)
        return WRONG_USE
    options = tyro.cli(Options, args=words, prog="python -m pipeline.explain")
    return guarded(lambda: _run(options))


def _run(options: Options) -> int:
    from pipeline.files import check_apart, write_json
    from pipeline.model.package import load_model
    from pipeline.scans.find import survey
    from pipeline.scoring.maps import write_maps

    check_apart(options.out, {"SCAN": options.scan, "MODEL": options.model})
    model = load_model(options.model)
    found = survey(options.scan, rules=model.read_rules)
    if not found.scans and found.rejections:
        first = found.rejections[0]
        stdout.print(f"the scan was refused, {first.reason.value}: {first.detail}", markup=False)
        return WITH_REJECTIONS
    if len(found.scans) != 1:
        raise UsageError(f"SCAN must hold exactly one scan, found {len(found.scans)}; name its folder or file")
    scan = found.scans[0]
    try:
        prediction = model.predict(scan)
    except ScanError as error:
        stdout.print(f"the scan was refused, {error}", markup=False)
        return WITH_REJECTIONS
    write_maps(model, scan, options.out)
    write_json(options.out / f"{scan.scan_id}.json", asdict(prediction))
    for finding, p in prediction.probabilities.items():
        stdout.print(f"{finding}: probability {p:.3f}", markup=False)
    stdout.print(f"written: {options.out} (maps as NIfTI, prediction as {scan.scan_id}.json)", markup=False)
    stdout.print("next: open the scan and its map together in any NIfTI viewer, or run python -m app", markup=False)
    return DONE


if __name__ == "__main__":
    sys.exit(main())
