"""Model inputs -> rows: the forward pass of a batch, and what is written for each scan. The same for every engine."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.domain import Prediction, Scan, ScanError
from pipeline.model.package import Model
from pipeline.model.preprocess import ModelInput
from pipeline.scoring.journal import Row
from pipeline.scoring.outputs import write_outputs


@dataclass(frozen=True, slots=True)
class Read:
    """A scan that was read, as the network takes it.

    Attributes:
        seconds: Step -> seconds that it took so far.
    """

    scan: Scan
    input: ModelInput
    seconds: dict[str, float]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a scan, before anything is written: no voxels.

    Attributes:
        seconds: Step -> seconds that it took so far.
    """

    scan: Scan
    result: Prediction | ScanError
    seconds: dict[str, float]


@dataclass(frozen=True)
class Predictor:
    """A model at work. `outcomes` of one batch and `row` of another may run at the same time.

    Attributes:
        kinds: What is written for each scan beside its row (`pipeline.scoring.outputs`).
        out: OUT.
    """

    model: Model
    kinds: Sequence[str]
    out: Path

    def outcomes(self, batch: Sequence[Read]) -> list[Outcome]:
        """The outcomes of a batch, after one forward pass, in order."""
        with self.model.in_use:  # taken before the clock starts
            started = time.perf_counter()
            results = self._results(batch)
            share = {"forward": (time.perf_counter() - started) / len(batch)}
        return [Outcome(one.scan, result, one.seconds | share) for one, result in zip(batch, results, strict=True)]

    def _results(self, batch: Sequence[Read]) -> list[Prediction | ScanError]:
        """What the model says about each scan; a batch with a scan that it refuses is done again one by one."""
        try:
            return list(self.model.predict_inputs([one.input for one in batch], [one.scan.scan_id for one in batch]))
        except ScanError as error:
            if len(batch) == 1:
                return [error]
            return [result for one in batch for result in self._results([one])]

    def row(self, outcome: Outcome) -> Row:
        """The row of a scan, once its files are written."""
        scan, result = outcome.scan, outcome.result
        if isinstance(result, ScanError):
            return Row(scan.scan_id, "rejected", result.reason.value, result.detail, seconds=_rounded(outcome.seconds))
        started = time.perf_counter()
        missing = write_outputs(self.kinds, self.model, scan, result, self.out)
        write = {"write": time.perf_counter() - started} if self.kinds else {}
        return Row(
            scan_id=scan.scan_id,
            status="ok",
            warnings=(*result.warnings, *missing),
            probabilities=result.probabilities,
            positive=result.positive,
            uncertainty=result.uncertainty,
            spread=result.spread,
            in_distribution=result.in_distribution,
            seconds=_rounded(outcome.seconds | write),
        )


def _rounded(seconds: dict[str, float]) -> dict[str, float]:
    return {step: round(value, 6) for step, value in seconds.items()}
