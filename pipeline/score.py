"""Score a folder of scans with a trained model: `python -m pipeline.score MODEL SCANS --out OUT`."""

import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from pipeline.console import DONE, WITH_REJECTIONS, WRONG_USE, guarded, stderr, stdout
from pipeline.domain import UsageError

if TYPE_CHECKING:
    from pipeline.scoring.folder import Request
    from pipeline.scoring.summary import Summary

DEMO = "python -m pipeline.score runs/demo/run/model data/demo/scans --out runs/demo/scores"


@dataclass(frozen=True)
class Options:
    """Score every scan in a folder: one row a scan in OUT/predictions.csv, refused scans included, with the reason.

    A run that was interrupted goes on where it was when the same command is given again; new scans are picked up.
    Exit code 3: done, but some scans were refused or none was usable. Research use only, not a medical device.
    """

    model: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """The model folder that training wrote (RUN/model)."""
    scans: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SCANS")]
    """A folder of DICOM series, NIfTI files or radiographs, searched to its full depth, .zip archives
    included; or a file. Never altered."""
    out: Annotated[Path, tyro.conf.arg(metavar="OUT")]
    """Folder to write the tables, summary.json and journal.jsonl to; not inside SCANS."""
    workers: int = 2
    """Processes that read scans beside the one that runs the network."""
    include_ids: tyro.conf.FlagCreatePairsOff[bool] = False
    """Add patient_id, accession_number, study_uid and series_uid to the table."""
    saliency: tyro.conf.FlagCreatePairsOff[bool] = False
    """Write a Grad-CAM map for each scan and finding to OUT/saliency, as NIfTI in the scan's own space (slower)."""
    engine: Literal["local", "ray"] = "local"
    """local: on this machine; ray: on a Ray cluster whose machines all see the folders (docs/scoring.md)."""
    ray_address: str = ""
    """With --engine ray: the cluster, for example 10.0.0.1:6379 or auto; without it Ray is started here."""
    watch: tyro.conf.FlagCreatePairsOff[bool] = False
    """Go on when all is scored, and take the scans that come, until Ctrl-C or SIGTERM."""
    settle_seconds: float = 10.0
    """With --watch: a scan is taken when its files have not changed for so long."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command's exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments:
        stderr.print(f"score needs a model folder, scans and --out. For the demo:\n  {DEMO}", markup=False)
        return WRONG_USE
    options = tyro.cli(Options, args=arguments, prog="python -m pipeline.score")
    return guarded(lambda: _run(options))


def _run(options: Options) -> int:
    from pipeline.scoring.folder import Request, score  # torch is loaded here, not in the processes that read scans

    kinds = ("saliency",) if options.saliency else ()
    if options.ray_address and options.engine != "ray":
        raise UsageError("--ray-address is for --engine ray")
    request = Request(
        options.model, Path(options.scans), options.out, options.workers, options.include_ids, kinds,
        engine=options.engine, ray_address=options.ray_address,
    )  # fmt: skip
    summary = _watched(request, options) if options.watch else score(request)
    _tell(summary, options)
    return DONE if summary.complete else WITH_REJECTIONS


def _watched(request: "Request", options: Options) -> "Summary":
    """What there was when Ctrl-C or SIGTERM ended it; a second one ends it at once."""
    from pipeline.scoring.watch import watch

    stop = Event()

    def end(number: int, _: object) -> None:
        stop.set()
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.default_int_handler)

    def tell(summary: "Summary") -> None:
        stdout.print(f"{summary.read_now} scans read, {summary.statuses.total()} rows in the table", markup=False)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    stdout.print(f"watching {options.scans}; Ctrl-C or SIGTERM ends it with the tables written", markup=False)
    return watch(request, stop, tell, options.settle_seconds)


def _tell(summary: "Summary", options: Options) -> None:
    from pipeline.scoring.summary import in_words

    for line in in_words(summary):
        stdout.print(line, markup=False)
    stdout.print(f"written: {summary.predictions} (and .parquet), summary.json", markup=False)
    if summary.units:
        stdout.print(f"written: {summary.units}", markup=False)
    stdout.print(f"next: python -m app --model {options.model} --scans {options.scans}", markup=False)


if __name__ == "__main__":
    sys.exit(main())
