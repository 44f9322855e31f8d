"""Model inputs -> rows: the forward pass of a batch and what is written beside it. The same for every engine."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from pipeline.domain import Prediction, Scan, ScanError
from pipeline.model.package import Model
from pipeline.scans.isolated import Finished
from pipeline.scoring.journal import Row
from pipeline.scoring.outputs import write_outputs
from pipeline.scoring.worker import Timed

Reading: TypeAlias = Finished[Scan, Timed]
"""A scan and its model input, or why there is none."""


@dataclass(frozen=True)
class Predictor:
    """A model at work.

    Attributes:
        kinds: What is written for each scan beside its row (`pipeline.scoring.outputs`).
        out: OUT.
    """

    model: Model
    kinds: Sequence[str]
    out: Path

    def rows(self, batch: Sequence[Reading]) -> list[Row]:
        """The rows of a batch, after one forward pass, in order; refused scans have no part in it."""
        read = [one for one in batch if not isinstance(one.result, ScanError)]
        started = time.perf_counter()
        predicted = dict(zip((one.item.scan_id for one in read), self._outcomes(read), strict=True))
        share = (time.perf_counter() - started) / max(len(read), 1)
        outcomes = (one.result if isinstance(one.result, ScanError) else predicted[one.item.scan_id] for one in batch)
        return [self._row(one, outcome, share) for one, outcome in zip(batch, outcomes, strict=True)]

    def _outcomes(self, read: Sequence[Reading]) -> list[Prediction | ScanError]:
        """What the model says about each scan; a batch with a scan that it refuses is done again one by one."""
        if not read:
            return []
        inputs = [one.result.input for one in read if not isinstance(one.result, ScanError)]
        try:
            return list(self.model.predict_inputs(inputs, [one.item.scan_id for one in read]))
        except ScanError as error:
            if len(read) == 1:
                return [error]
            return [outcome for one in read for outcome in self._outcomes([one])]

    def _row(self, read: Reading, outcome: Prediction | ScanError, forward_s: float) -> Row:
        seconds = _reading_seconds(read)
        if not isinstance(read.result, ScanError):
            seconds["forward"] = forward_s
        if isinstance(outcome, ScanError):
            return _refused(read.item, outcome, seconds)
        started = time.perf_counter()
        missing = write_outputs(self.kinds, self.model, read.item, outcome, self.out)
        if self.kinds:
            seconds["write"] = time.perf_counter() - started
        return Row(
            scan_id=read.item.scan_id,
            status="ok",
            warnings=(*outcome.warnings, *missing),
            probabilities=outcome.probabilities,
            positive=outcome.positive,
            uncertainty=outcome.uncertainty,
            spread=outcome.spread,
            in_distribution=outcome.in_distribution,
            seconds=_rounded(seconds),
        )


def _refused(scan: Scan, error: ScanError, seconds: dict[str, float]) -> Row:
    return Row(scan.scan_id, "rejected", error.reason.value, error.detail, seconds=_rounded(seconds))


def _reading_seconds(read: Reading) -> dict[str, float]:
    if isinstance(read.result, ScanError):
        return {"read": read.seconds}
    return {"read": read.result.read_s, "preprocess": max(0.0, read.seconds - read.result.read_s)}


def _rounded(seconds: dict[str, float]) -> dict[str, float]:
    return {step: round(value, 6) for step, value in seconds.items()}
