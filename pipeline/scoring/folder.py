"""Scoring a folder: find the scans, score those that the journal lacks, write the tables. Engines do the work."""

import hashlib
import math
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import pandas as pd

from pipeline import __version__
from pipeline.console import count, progress
from pipeline.domain import Reason, Scan, UsageError
from pipeline.explanation.gradcam import way_of
from pipeline.files import check_apart, check_writable, make_folder
from pipeline.model.compared import with_bf16
from pipeline.model.package import Model, load_model
from pipeline.model.reference import read_reference
from pipeline.scans.archives import stamped
from pipeline.scans.find import Survey, survey
from pipeline.scans.isolated import TIME_LIMIT_S
from pipeline.scans.look import LookAtAll, look_at_all
from pipeline.scans.summary import summary_of
from pipeline.scoring.drift import drift
from pipeline.scoring.journal import Journal, Row
from pipeline.scoring.local import rows_here
from pipeline.scoring.outputs import WRITERS, has_outputs, remove_outputs
from pipeline.scoring.predict import Predictor
from pipeline.scoring.summary import STEPS, Summary, write_summary
from pipeline.scoring.table import prediction_table, write_predictions
from pipeline.scoring.units import write_units

Stopped = Callable[[], bool]
"""Whether to end early, with what is done by then."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be scored, and how.

    Attributes:
        model: What `train` wrote (RUN/model).
        scans: A scan's file or a folder of scans; never written to.
        out: Folder for the tables, journal.jsonl, summary.json and a folder for each of `kinds`.
        workers: Processes that read scans; with ray: beside each network.
        include_ids: Add columns with the patient's id and the study's and series' numbers.
        kinds: What is written for each scan beside its row, for example "saliency".
        time_limit_s: A scan that takes longer to read is refused.
        engine: "local" for this machine, "ray" for a Ray cluster.
        ray_address: Of the cluster; "" starts Ray on this machine.
        backend: What runs the network.
        precision: What it computes in; bf16 with torch alone.
        source: Address of the PACS that `scans` is retrieved from; empty for a folder of the user's own.
    """

    model: Path
    scans: Path
    out: Path
    workers: int = 2
    include_ids: bool = False
    kinds: tuple[str, ...] = ()
    time_limit_s: float = TIME_LIMIT_S
    engine: Literal["local", "ray"] = "local"
    ray_address: str = ""
    backend: Literal["torch", "onnx", "openvino"] = "torch"
    precision: Literal["fp32", "bf16"] = "fp32"
    source: str = ""


def score(request: Request) -> Summary:
    """Score every scan in a file or folder; a run that was interrupted goes on where it was.

    Raises:
        UsageError: If a folder can't be used, or `out` holds results of another model, other scans or other settings.
    """
    model = checked_model(request)
    found = find(request, model)
    with open_journal(request, model) as journal:
        return score_found(request, model, journal, found)


def checked_model(request: Request) -> Model:
    """The model, after what was asked for was checked; nothing is written yet.

    Raises:
        UsageError: If something can't be done.
    """
    if request.workers < 1:
        raise UsageError(f"--workers is {request.workers}, but needs at least 1 process that reads scans")
    if request.backend != "torch" and request.engine == "ray":
        raise UsageError(f"--backend {request.backend} works with --engine local alone")
    if request.precision != "fp32" and (request.backend, request.engine) != ("torch", "local"):
        raise UsageError(f"--precision {request.precision} works with --backend torch and --engine local alone")
    check_apart(request.out, {"SCANS": request.scans, "MODEL": request.model})
    check_writable(request.out)
    if request.backend == "torch":
        model = load_model(request.model)
        return with_bf16(model) if request.precision == "bf16" else model
    from pipeline.model.engines import with_engine  # needs the extra [export]

    return with_engine(load_model(request.model, "cpu"), request.backend)


def find(request: Request, model: Model, look: LookAtAll = look_at_all) -> Survey:
    """What lies in the folder now."""
    with progress("Finding scans") as report:
        return survey(request.scans, report, model.read_rules, look=look)


def open_journal(request: Request, model: Model) -> Journal:
    """The journal of OUT, which is made a folder; halves of files that a killed run has left there are removed."""
    make_folder(request.out)
    journal = Journal(request.out / "journal.jsonl", _settings(request, model))
    for folder in (request.out, *(request.out / kind for kind in request.kinds)):
        for half in folder.glob(".*.part"):  # nobody else writes here now
            half.unlink(missing_ok=True)
    return journal


def score_found(
    request: Request,
    model: Model,
    journal: Journal,
    found: Survey,
    stopped: Stopped = lambda: False,
    refresh_s: float = math.inf,
) -> Summary:
    """Score what was found and is not in the journal yet, and write the tables.

    Args:
        stopped: Asked after each row: whether to leave the rest, for the next start.
        refresh_s: The tables are also written each time that this many seconds have passed.
    """
    stamps = {scan.scan_id: stamp(scan) for scan in found.scans}
    unique = {scan.scan_id: scan for scan in found.scans}
    left = [scan for scan_id, scan in unique.items() if not _is_done(request, model, journal.rows.get(scan_id), stamps)]
    _remove_stale(request, model, found, left)
    steps = dict.fromkeys(STEPS, 0.0)
    started = refreshed = time.monotonic()
    read_now, ended = 0, False
    with progress("Scoring") as report, closing(_rows(request, model, left)) as rows:
        for read_now, row in enumerate(rows, 1):
            for step, spent in row.seconds.items():
                steps[step] += spent
            with _clocked(steps):
                journal.append(replace(row, stamp=stamps[row.scan_id]))
            report(read_now, len(left), f"{read_now / (time.monotonic() - started):.1f} scans/s")
            if ended := stopped():
                break
            if time.monotonic() - refreshed > refresh_s:
                write_tables(request, model, journal, found)
                refreshed = time.monotonic()
    if read_now < len(left) and not ended:
        raise RuntimeError(f"{count(len(left) - read_now, 'scan')} got no row")
    seconds = time.monotonic() - started
    with _clocked(steps):
        tables = write_tables(request, model, journal, found)
    summary = Summary(
        found=summary_of(found),
        predictions=tables.predictions,
        units=tables.units,
        model=model.model_id,
        backend=request.backend,
        precision=request.precision,
        difference=model.engine.difference if model.engine else None,
        statuses=Counter(tables.rows["status"]),
        reasons={s: Counter(tables.rows["reason"][tables.rows["status"] == s]) for s in ("rejected", "not_selected")},
        warnings=Counter(code for cell in tables.rows["warnings"] for code in cell.split(";") if code),
        skipped=Counter(why for _, why in found.skipped),
        read_now=read_now,
        waiting=len(left) - read_now,
        seconds=seconds,
        steps=steps,
        drift=drift(tables.rows, read_reference(request.model), model.findings),
    )
    write_summary(request.out / "summary.json", summary)
    return summary


class Tables(NamedTuple):
    """What was written: the rows, the path of predictions.csv, that of studies.csv or patients.csv."""

    rows: pd.DataFrame
    predictions: Path
    units: Path | None


def write_tables(request: Request, model: Model, journal: Journal, found: Survey) -> Tables:
    """Write the tables, without scans that have no row yet."""
    done = replace(found, scans=[scan for scan in found.scans if scan.scan_id in journal.rows])
    rows = prediction_table(done, journal.rows, model.findings, model.model_id, request.include_ids)
    units = write_units(request.out, rows, done, model, request.include_ids)
    return Tables(rows, write_predictions(request.out, rows), units)


def stamp(scan: Scan) -> str:
    """16 hex digits that change when a file of the scan is added, removed, or written again."""
    digest = hashlib.sha256()
    for path in scan.paths:
        try:
            status = stamped(path).stat()
        except OSError:
            continue
        digest.update(f"{path.name}\0{status.st_size}\0{status.st_mtime_ns}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def _is_done(request: Request, model: Model, row: Row | None, stamps: Mapping[str, str]) -> bool:
    """Whether a scan has a row of these files, and its own files where they were asked for.

    Where the system could not read it, as when a share drops, it is not done yet.
    """
    if row is None or row.stamp != stamps[row.scan_id] or row.reason == Reason.IO_ERROR:
        return False
    return row.status != "ok" or has_outputs(request.kinds, model.findings, row.scan_id, row.warnings, request.out)


def _remove_stale(request: Request, model: Model, found: Survey, left: Sequence[Scan]) -> None:
    """Remove the heat maps and DICOM results of scans that are scored anew, refused now, or left out now."""
    without = {one.scan_id for one in found.rejections} | {one.scan.scan_id for one in found.not_selected}
    kept = {"", *(scan.scan_id for scan in found.scans)}
    for scan_id in (*sorted(without - kept), *(scan.scan_id for scan in left)):
        remove_outputs(request.kinds, model.findings, scan_id, request.out)


def _rows(request: Request, model: Model, scans: Sequence[Scan]) -> Generator[Row, None, None]:
    """A row for each scan, from the engine that was asked for."""
    if request.engine == "ray":
        from pipeline.scoring.ray import rows_on_cluster  # needs the extra [cluster]

        return rows_on_cluster(
            scans, request.model.resolve(), request.kinds, request.out.resolve(), request.workers,
            request.time_limit_s, request.ray_address,
        )  # fmt: skip
    predictor = Predictor(model, request.kinds, request.out)
    return rows_here(scans, predictor, request.workers, request.time_limit_s)


@contextmanager
def _clocked(steps: dict[str, float]) -> Iterator[None]:
    started = time.perf_counter()
    yield
    steps["write"] += time.perf_counter() - started


def _settings(request: Request, model: Model) -> dict[str, str]:
    """What all rows of one journal share; folder or PACS as a hash, for its name may be a patient's."""
    place = request.source or str(request.scans.resolve())
    root = hashlib.sha256(place.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    kinds = {kind: "yes" if kind in request.kinds else "no" for kind in WRITERS}
    way = way_of(model) if request.kinds else None  # another `explain --check` may have changed it
    return {
        "model": model.model_id, "software": __version__, "scans folder": root, "backend": request.backend,
        "precision": request.precision, **kinds,
        "maps": f"{way.method} {way.layer}".strip() if way else "no",
    }  # fmt: skip
