"""Scoring in the background: scans are read in a child process, the network runs here. No Streamlit."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from functools import partial

from app.background import Job, Report
from app.catalog import Score
from pipeline.domain import Prediction, Scan, ScanError
from pipeline.model.inference import BATCH
from pipeline.model.package import Model
from pipeline.model.preprocess import ModelInput, read_input
from pipeline.scans.isolated import Finished, run_isolated

HOLD_S = 2.0
"""A batch that is not full after this time goes through the network as it is."""


class Scorer:
    """Scores of one model that were made here, in memory: at most one job at a time, shared by all browser tabs.

    Attributes:
        scores: Scan id -> score; grows while a job runs.
    """

    def __init__(self, model: Model) -> None:
        self.scores: dict[str, Score] = {}
        self._model = model
        self._lock = threading.Lock()
        self._job: Job[None] | None = None

    @property
    def job(self) -> Job[None] | None:
        """The job that runs, None while there is none."""
        return self._job if self._job is not None and self._job.running else None

    @property
    def failed(self) -> bool:
        """Whether the last job ended before its time, by a fault or for want of a process."""
        return self._job is not None and self._job.failed

    def start(self, scans: Sequence[Scan]) -> None:
        """Score these scans, those before first; nothing happens while a job runs."""
        with self._lock:
            if self.job is None and scans:
                self._job = Job(lambda report: self._score(scans, report))

    def stop(self) -> None:
        """End the job after the scan that it is at; what is scored stays."""
        if (job := self.job) is not None:
            job.stop()

    def _score(self, scans: Sequence[Scan], report: Report) -> None:
        report(0, len(scans))
        read = partial(
            read_input, read=self._model.read_rules, rules=self._model.preprocess, channels=self._model.channels
        )
        with closing(run_isolated(scans, read, workers=1)) as reading:
            for done, batch in _batches(reading):
                self.scores.update(self._scored(batch))
                report(done, len(scans))

    def _scored(self, batch: Sequence[Finished[Scan, ModelInput]]) -> dict[str, Score]:
        """Scan id -> score; a batch with a scan that the network can't take is done again one by one."""
        inputs = [one.result for one in batch if not isinstance(one.result, ScanError)]
        ids = [one.item.scan_id for one in batch if not isinstance(one.result, ScanError)]
        outcomes: dict[str, Prediction | ScanError] = {
            one.item.scan_id: one.result for one in batch if isinstance(one.result, ScanError)
        }
        try:
            outcomes |= zip(ids, self._model.predict_inputs(inputs, ids), strict=True) if inputs else ()
        except ScanError:
            outcomes |= {scan_id: self._alone(item, scan_id) for item, scan_id in zip(inputs, ids, strict=True)}
        now = datetime.now(UTC)
        return {scan_id: Score(outcome, now) for scan_id, outcome in outcomes.items()}

    def _alone(self, item: ModelInput, scan_id: str) -> Prediction | ScanError:
        try:
            return self._model.predict_inputs([item], [scan_id])[0]
        except ScanError as error:
            return error


def _batches(
    reading: Iterator[Finished[Scan, ModelInput]],
) -> Iterator[tuple[int, list[Finished[Scan, ModelInput]]]]:
    """(scans done with it, batch): full, or as many as came in `HOLD_S`."""
    batch: list[Finished[Scan, ModelInput]] = []
    done, since = 0, time.monotonic()
    for one in reading:
        batch.append(one)
        if len(batch) == BATCH or time.monotonic() - since > HOLD_S:
            done += len(batch)
            yield done, batch
            batch, since = [], time.monotonic()
    if batch:
        yield done + len(batch), batch
