"""Scoring a folder on this machine: reading in child processes, the forward pass here, a journal, a table."""

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

from pipeline import __version__
from pipeline.console import progress
from pipeline.domain import Prediction, Scan, ScanError, UsageError
from pipeline.files import check_apart
from pipeline.model.inference import BATCH
from pipeline.model.package import Model, load_model
from pipeline.model.preprocess import ModelInput, read_input
from pipeline.scans.archives import stamped
from pipeline.scans.find import survey
from pipeline.scans.isolated import TIME_LIMIT_S, Finished, run_isolated
from pipeline.scans.summary import summary_of
from pipeline.scoring.journal import Journal, Row
from pipeline.scoring.maps import write_maps
from pipeline.scoring.table import prediction_table, write_predictions

Reading: TypeAlias = Finished[Scan, ModelInput]
"""A scan and its model input, or why there is none."""

HOLD_S = 2.0
"""A batch that is not full after this time goes through the network as it is: slow scans reach the journal, too."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run over a folder gave.

    Attributes:
        found: What the folder holds, in words.
        predictions: The table, predictions.csv.
        statuses: Status -> rows of the table.
        reasons: Status other than ok -> reason -> rows of the table.
        skipped: Files that are no scans.
        read_now: Scans that this run has read; the other rows were in the journal or refused by their headers.
        seconds: Time from the first scan read to the last row.
    """

    found: str
    predictions: Path
    statuses: Counter[str]
    reasons: dict[str, Counter[str]]
    skipped: int
    read_now: int
    seconds: float

    @property
    def complete(self) -> bool:
        """Whether something was found and nothing refused; scans that the model's rules leave out don't count."""
        return self.statuses["ok"] > 0 and self.statuses["rejected"] == 0


def score(
    model_folder: Path,
    scans: Path,
    out: Path,
    workers: int = 2,
    include_ids: bool = False,
    saliency: bool = False,
    time_limit_s: float = TIME_LIMIT_S,
) -> Summary:
    """Score every scan in a file or folder; a run that was interrupted goes on where it was.

    Args:
        model_folder: What `train` wrote (RUN/model).
        scans: A scan's file or a folder of scans; never written to.
        out: Folder for predictions.csv, predictions.parquet, journal.jsonl and saliency/.
        workers: Processes that read scans.
        include_ids: Add columns with the patient's id and the study's and series' numbers.
        saliency: Write a map (NIfTI, in the scan's own space) for each scan and finding.
        time_limit_s: A scan that takes longer to read is refused.

    Raises:
        UsageError: If a folder can't be used, or `out` holds results of another model, other scans or other settings.
    """
    if workers < 1:
        raise UsageError(f"--workers is {workers}, but needs at least 1 process that reads scans")
    check_apart(out, {"SCANS": scans, "MODEL": model_folder})
    model = load_model(model_folder)
    with progress("Finding scans") as report:
        found = survey(scans, report, model.read_rules)
    unique = {scan.scan_id: scan for scan in found.scans}
    stamps = {scan_id: stamp(scan) for scan_id, scan in unique.items()}
    with Journal(_made(out) / "journal.jsonl", _settings(model, scans, saliency)) as journal:
        left = [scan for scan in unique.values() if not _is_done(journal, scan, stamps)]
        started = time.monotonic()
        read = partial(read_input, read=model.read_rules, rules=model.preprocess, channels=model.channels)
        finish = partial(_finish, model, stamps, out / "saliency" if saliency else None)
        with progress("Scoring") as report, closing(run_isolated(left, read, workers, time_limit_s)) as reading:
            for done, row in enumerate(_rows(reading, finish, stamps), 1):
                journal.append(row)
                report(done, len(left), f"{done / (time.monotonic() - started):.1f} scans/s")
        seconds = time.monotonic() - started
        table = prediction_table(found, journal.rows, model.findings, model.model_id, include_ids)
        predictions = write_predictions(out, table)
    return Summary(
        found=summary_of(found),
        predictions=predictions,
        statuses=Counter(table["status"]),
        reasons={name: Counter(table["reason"][table["status"] == name]) for name in ("rejected", "not_selected")},
        skipped=len(found.skipped),
        read_now=len(left),
        seconds=seconds,
    )


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


def _is_done(journal: Journal, scan: Scan, stamps: Mapping[str, str]) -> bool:
    row = journal.rows.get(scan.scan_id)
    return row is not None and row.stamp == stamps[scan.scan_id]


def _rows(
    reading: Iterable[Reading], finish: Callable[[list[Reading]], list[Row]], stamps: Mapping[str, str]
) -> Iterator[Row]:
    """A row for each scan that was read. While a batch goes through the network, the next one is collected."""
    batch: list[Reading] = []
    running: Future[list[Row]] | None = None
    since = time.monotonic()
    with ThreadPoolExecutor(max_workers=1) as forward:
        for reading_done in reading:
            if isinstance(reading_done.result, ScanError):
                yield _refused(reading_done, reading_done.result, stamps)
            else:
                since = time.monotonic() if not batch else since
                batch.append(reading_done)
            full = len(batch) == BATCH or (bool(batch) and time.monotonic() - since > HOLD_S)
            if running is not None and (full or running.done()):
                yield from running.result()
                running = None
            if full:
                running, batch = forward.submit(finish, batch), []
        if running is not None:
            yield from running.result()
    if batch:
        yield from finish(batch)


def _finish(model: Model, stamps: Mapping[str, str], maps: Path | None, batch: list[Reading]) -> list[Row]:
    """The rows of a batch, after one forward pass; with `maps`, after their saliency was written there."""
    started = time.monotonic()
    outcomes = _predictions(model, batch)
    share = (time.monotonic() - started) / len(batch)
    rows = []
    for read, outcome in zip(batch, outcomes, strict=True):
        if isinstance(outcome, ScanError):
            rows.append(_refused(read, outcome, stamps))
            continue
        missing = write_maps(model, read.item, maps) if maps else ()
        rows.append(
            Row(
                scan_id=read.item.scan_id,
                stamp=stamps[read.item.scan_id],
                status="ok",
                warnings=(*outcome.warnings, *missing),
                probabilities=outcome.probabilities,
                positive=outcome.positive,
                uncertainty=outcome.uncertainty,
                spread=outcome.spread,
                in_distribution=outcome.in_distribution,
                seconds=read.seconds + share,
            )
        )
    return rows


def _predictions(model: Model, batch: list[Reading]) -> list[Prediction | ScanError]:
    """What the model says about each scan; a batch with a scan that it refuses is done again one by one."""
    inputs = [read.result for read in batch if not isinstance(read.result, ScanError)]
    try:
        return list(model.predict_inputs(inputs, [read.item.scan_id for read in batch]))
    except ScanError as error:
        if len(batch) == 1:
            return [error]
        return [outcome for read in batch for outcome in _predictions(model, [read])]


def _refused(read: Reading, error: ScanError, stamps: Mapping[str, str]) -> Row:
    scan_id = read.item.scan_id
    return Row(scan_id, stamps[scan_id], "rejected", error.reason.value, error.detail, seconds=read.seconds)


def _settings(model: Model, scans: Path, saliency: bool) -> dict[str, str]:
    """What all rows of one journal share; the folder as a hash, for its name may be a patient's."""
    root = hashlib.sha256(str(scans.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return {
        "model": model.model_id,
        "software": __version__,
        "scans folder": root,
        "saliency": "yes" if saliency else "no",
    }


def _made(out: Path) -> Path:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise UsageError(f"--out {out}: can't be made a folder ({type(error).__name__}); choose another") from None
    return out
