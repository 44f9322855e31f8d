"""Score a folder of scans with a trained model: `python -m pipeline.score MODEL SCANS --out OUT`."""

import math
import shlex
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from pipeline.console import DONE, WITH_REJECTIONS, WRONG_USE, count, guarded, progress, stderr, stdout
from pipeline.domain import ScanError, UsageError

if TYPE_CHECKING:
    from pipeline.scans.pacs import Pacs, Query
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
    included; or a file. Never altered. Or a PACS, dicomweb://host:port/path (http) or dicomwebs:// (https), with
    --query: its series are retrieved to OUT/scans first (docs/pacs.md)."""
    out: Annotated[Path, tyro.conf.arg(metavar="OUT")]
    """Folder to write the tables, summary.json and journal.jsonl to; not inside SCANS."""
    workers: int = 2
    """Processes that read scans beside the one that runs the network."""
    include_ids: tyro.conf.FlagCreatePairsOff[bool] = False
    """Add patient_id, accession_number, study_uid and series_uid to the table."""
    saliency: tyro.conf.FlagCreatePairsOff[bool] = False
    """Write a heat map for each scan and finding to OUT/saliency, as NIfTI in the scan's own space (slower)."""
    dicom_sr: tyro.conf.FlagCreatePairsOff[bool] = False
    """Write a DICOM structured report and a Secondary Capture of the key slice for each DICOM scan to OUT/dicom."""
    query: str = ""
    """With a PACS: which series, for example "Modality=CT&StudyDate=20260101-20260131"."""
    store: tyro.conf.FlagCreatePairsOff[bool] = False
    """With a PACS: send the DICOM results there (as --dicom-sr, then STOW)."""
    engine: Literal["local", "ray"] = "local"
    """local: on this machine; ray: on a Ray cluster whose machines all see the folders (docs/scoring.md)."""
    ray_address: str = ""
    """With --engine ray: the cluster, for example 10.0.0.1:6379 or auto; without it Ray is started here."""
    backend: Literal["torch", "onnx", "openvino"] = "torch"
    """What runs the network: onnx and openvino on the CPU, compared with torch on the first scans (docs/export.md)."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """fp32: as the operating points were chosen; bf16: faster on GPUs and CPUs made for it, probabilities differ by up
    to 0.02; compared with fp32 on the first scans (docs/scoring.md)."""
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
    from pipeline.scans.pacs_query import is_address

    if is_address(options.scans):
        return _by_pacs(options)
    if options.query or options.store:
        raise UsageError("--query and --store need a PACS: give dicomweb://host:port/path in place of SCANS")
    return _scored(options)


def _by_pacs(options: Options) -> int:
    """Retrieve what the query finds, score it, and send the results back if that is asked for.

    Raises:
        UsageError: If the options don't go together, or the PACS can't be asked at all.
    """
    from pipeline.scans.pacs import Pacs, Query
    from pipeline.scoring.folder import checked_model, find, open_journal, score_found
    from pipeline.scoring.pacs_batch import SCANS

    if options.watch:
        raise UsageError("--watch needs a folder; a site that pushes scans sends them to python -m pipeline.receive")
    query, here = Query.parsed(options.query), replace(options, scans=str(options.out / SCANS))
    with Pacs.at(options.scans) as pacs:
        request = replace(_request(here), source=pacs.url)
        model = checked_model(request)  # before hours of retrieving
        if pacs.is_open:
            stderr.print("note: the connection is plain http; whoever is on the way can read it", markup=False)
        with open_journal(request, model) as journal:  # before anything of this PACS comes beside another's
            lost = _retrieved(pacs, query, options)
            summary = score_found(request, model, journal, find(request, model))
            _tell(summary, here)
            unsent = _sent(pacs, options) if options.store else 0
    return DONE if summary.complete and not lost and not unsent else WITH_REJECTIONS


def _retrieved(pacs: "Pacs", query: "Query", options: Options) -> int:
    """Series that could not be retrieved.

    Raises:
        UsageError: If the PACS can't be queried at all, or refuses access.
    """
    from pipeline.scoring.pacs_batch import RETRIEVED, retrieve_all

    try:
        with progress("Retrieving series") as report:
            found = retrieve_all(pacs, query, options.out, report)
    except ScanError as error:
        raise UsageError(f"{error}. Nothing was scored.") from None
    counts = Counter(one.reason.value for one in found.refused)
    lost = ", ".join(f"{reason} {n}" for reason, n in counts.most_common())
    stdout.print(f"{found.n_series} series found; not retrieved: {lost or 'none'}", markup=False)
    stdout.print(f"written: {options.out / RETRIEVED}", markup=False)
    return len(found.refused)


def _scored(options: Options) -> int:
    from pipeline.scoring.folder import score  # torch is loaded here, not in the processes that read scans

    request = _request(options)
    summary = _watched(request, options) if options.watch else score(request)
    _tell(summary, options)
    return DONE if summary.complete else WITH_REJECTIONS


def _request(options: Options) -> "Request":
    from pipeline.scoring.folder import Request

    if options.ray_address and options.engine != "ray":
        raise UsageError("--ray-address is for --engine ray")
    if not 0 <= options.settle_seconds < math.inf:
        raise UsageError(f"--settle-seconds is {options.settle_seconds:g}, but needs 0 or more")
    wanted = {"saliency": options.saliency, "dicom": options.dicom_sr or options.store}
    kinds = tuple(kind for kind, asked_for in wanted.items() if asked_for)
    return Request(
        options.model, Path(options.scans), options.out, options.workers, options.include_ids, kinds,
        engine=options.engine, ray_address=options.ray_address, backend=options.backend,
        precision=options.precision,
    )  # fmt: skip


def _sent(pacs: "Pacs", options: Options) -> int:
    """Results that the PACS has not taken."""
    from pipeline.scoring.pacs_batch import store_all

    with progress("Storing results") as report:
        counts = store_all(pacs, options.out, report)
    stdout.print(
        f"results in the PACS: of {count(counts['stored'], 'scan')} now, of {counts['before']} before", markup=False
    )
    lost = {reason: count for reason, count in counts.items() if reason not in ("stored", "before")}
    for reason, n in lost.items():
        stdout.print(f"  not taken: {n}, {reason}; run the same command again", markup=False)
    return sum(lost.values())


def _watched(request: "Request", options: Options) -> "Summary":
    """What there was when Ctrl-C or SIGTERM ended it; a second one ends it at once."""
    from pipeline.scoring.watch import watch

    stop = Event()

    def end(number: int, _: object) -> None:
        stop.set()
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.default_int_handler)

    def tell(summary: "Summary") -> None:
        read, rows = count(summary.read_now, "scan"), count(summary.statuses.total(), "row")
        stdout.print(f"{read} read, {rows} in the table", markup=False)

    def gone(why: str) -> None:
        stderr.print(f"note: {why}. It has nothing for now; scoring goes on when it is back", markup=False)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    stdout.print(f"watching {options.scans}; Ctrl-C or SIGTERM ends it with the tables written", markup=False)
    return watch(request, stop, tell, options.settle_seconds, gone=gone)


def _tell(summary: "Summary", options: Options) -> None:
    from pipeline.scoring.summary import in_words

    for line in in_words(summary):
        stdout.print(line, markup=False)
    stdout.print(f"written: {summary.predictions} (and .parquet), summary.json", markup=False)
    if summary.units:
        stdout.print(f"written: {summary.units}", markup=False)
    if options.saliency:
        stdout.print(f"written: {options.out / 'saliency'} (heat maps)", markup=False)
    if options.dicom_sr or options.store:
        stdout.print(f"written: {options.out / 'dicom'} (holds the patients' names)", markup=False)
    viewer = ["--model", str(options.model), "--scans", str(options.scans), "--scores", str(options.out)]
    stdout.print(f"next: python -m app {shlex.join(viewer)}", markup=False)


if __name__ == "__main__":
    sys.exit(main())
