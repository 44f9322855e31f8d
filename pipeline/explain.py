"""Explain one scan's prediction, or check what a model's maps are worth: `python -m pipeline.explain`."""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from pipeline.console import DONE, WITH_REJECTIONS, WRONG_USE, count, guarded, progress, stderr, stdout
from pipeline.domain import ScanError, UsageError

if TYPE_CHECKING:
    from pipeline.explanation.gradcam import Way
    from pipeline.explanation.trust import MapTrust
    from pipeline.model.package import Model

USAGE = """explain needs a model folder, a scan and --out. For the demo:
  python -m pipeline.explain runs/demo/run/model data/demo/scans/P0084/study1/chest --out runs/demo/explained
What the model's maps are worth is measured once, and kept in its folder:
  python -m pipeline.explain runs/demo/run/model --check data/demo/scans --masks data/demo/masks"""
NEIGHBOURS = 5


@dataclass(frozen=True)
class Options:
    """Predict one scan and write where the model looked, as NIfTI in the scan's own space, with the prediction as JSON.

    Exit code 3: the scan was refused; the reason is printed. Research use only, not a medical device.
    """

    model: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """The model folder that training wrote (RUN/model)."""
    scan: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="SCAN")] = None
    """A file, or a folder, that holds exactly one scan. Never altered."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="OUT")] = None
    """Folder to write <scan_id>_<finding>.nii.gz (0 to 1) and <scan_id>.json to."""
    method: str = ""
    """hirescam, gradcam, gradcampp or occlusion (slow; small volumes). By default as checked, else hirescam."""
    layer: str = ""
    """The feature map to draw from, from layer1 (fine) to trunk (the last); a wrong name lists what there is."""
    run: Annotated[Path | None, tyro.conf.arg(metavar="RUN")] = None
    """The run folder: the training scans that look most like this one are named, with their labels."""
    check: Annotated[Path | None, tyro.conf.arg(metavar="SCANS")] = None
    """Measure on these scans what the model's maps are worth, and keep it in MODEL/explanation.json. With --method
    and --layer, maps are made that way from then on."""
    masks: Annotated[Path | None, tyro.conf.arg(metavar="MASKS")] = None
    """With --check: NIfTI masks of the lesions, each where its scan lies in SCANS (P1/chest.nii.gz for P1/chest); of
    several findings, in a sub-folder each."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command's exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words:
        stderr.print(USAGE, markup=False)
        return WRONG_USE
    options = tyro.cli(Options, args=words, prog="python -m pipeline.explain")
    return guarded(lambda: _check(options, options.check) if options.check else _explain(options))


def _check(options: Options, scans: Path) -> int:
    from pipeline.explanation.gradcam import way_of
    from pipeline.explanation.sanity import check_maps, masks_of
    from pipeline.explanation.trust import save_trust
    from pipeline.files import check_writable
    from pipeline.model.package import load_model
    from pipeline.scans.find import survey

    if options.scan or options.out or options.run:
        raise UsageError("--check SCANS goes with --masks, --method and --layer alone: leave out SCAN, --out and --run")
    model = load_model(options.model)
    check_writable(options.model, "MODEL")
    way = way_of(model, options.method, options.layer)
    found = survey(scans, rules=model.read_rules)
    chosen = masks_of(found.scans, scans, options.masks, model.findings)
    with progress("Checking maps") as report:
        trust = check_maps(model, chosen, way, report)
    save_trust(model.folder, trust)
    _tell(model, way, trust)
    for stage, alike in trust.randomised.items():
        stdout.print(f"  shuffled down to {stage}: rank correlation {alike:.2f}", markup=False)
    if trust.n_refused:
        stdout.print(f"left out, since scan or mask was refused: {count(trust.n_refused, 'scan')}", markup=False)
    stdout.print(f"written: {options.model / 'explanation.json'}", markup=False)
    return DONE


def _explain(options: Options) -> int:
    from pipeline.explanation.gradcam import way_of
    from pipeline.explanation.similar import similar
    from pipeline.explanation.trust import map_trust, verdict
    from pipeline.files import check_apart, check_writable, write_json
    from pipeline.model.package import load_model
    from pipeline.scans.find import read_volume, survey
    from pipeline.scoring.maps import write_maps

    if options.scan is None or options.out is None or options.masks:
        raise UsageError(f"expected SCAN and --out, or --check SCANS [--masks MASKS].\n{USAGE}")
    check_apart(options.out, {"SCAN": options.scan, "MODEL": options.model})
    check_writable(options.out)
    model = load_model(options.model)
    way = way_of(model, options.method, options.layer)
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
        near = similar(options.run, model, read_volume(scan, model.read_rules), NEIGHBOURS) if options.run else []
    except ScanError as error:
        stdout.print(f"the scan was refused, {error}", markup=False)
        return WITH_REJECTIONS
    write_maps(model, scan, options.out, way)
    trust = map_trust(model.folder)
    trusted, _ = verdict(trust, way.method, way.layer)
    beside = {"map": {**asdict(way), "trusted": trusted}, "similar": [asdict(one) for one in near]}
    write_json(options.out / f"{scan.scan_id}.json", asdict(prediction) | beside)
    for finding, p in prediction.probabilities.items():
        stdout.print(f"{finding}: probability {p:.3f}", markup=False)
    _tell(model, way, trust)
    for one in near:
        labels = ", ".join(f"{f} {'unknown' if value is None else value}" for f, value in one.labels.items())
        stdout.print(f"similar: {one.scan_id} at {one.distance:.2f}: {labels}", markup=False)
    stdout.print(f"written: {options.out} (maps as NIfTI, prediction as {scan.scan_id}.json)", markup=False)
    stdout.print("next: open the scan and its map together in any NIfTI viewer, or run python -m app", markup=False)
    return DONE


def _tell(model: "Model", way: "Way", trust: "MapTrust | None") -> None:
    """Say how the map was made and whether to trust it."""
    from pipeline.explanation.layers import grids
    from pipeline.explanation.trust import verdict

    cells = grids(model.settings.model, model.preprocess.size).get(way.layer, ())
    grid = f" {way.layer}, {' x '.join(map(str, cells))} cells" if cells else ""
    stdout.print(f"map: {way.method}{grid}", markup=False)
    stdout.print(verdict(trust, way.method, way.layer)[1], markup=False)


if __name__ == "__main__":
    sys.exit(main())
