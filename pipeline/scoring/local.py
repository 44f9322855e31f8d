"""Scoring on this machine: reading in child processes, forward passes and writing in two threads, all at once."""

import time
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import partial

from pipeline.domain import Scan, ScanError
from pipeline.model.inference import BATCH
from pipeline.scans.isolated import Finished, run_isolated
from pipeline.scoring.journal import Row
from pipeline.scoring.predict import Outcome, Predictor, Read
from pipeline.scoring.worker import Timed, read_timed

HOLD_S = 2.0
"""A batch that is not full after this time goes through the network as it is: slow scans reach the journal, too."""
AHEAD = 2
"""Batches that may be under way while the next is collected: one in the network, one whose files are written."""


def rows_here(
    scans: Sequence[Scan], predictor: Predictor, workers: int, time_limit_s: float
) -> Generator[Row, None, None]:
    """A row for each scan, as they come; closing the generator ends the reading processes.

    Args:
        scans: What to score.
        predictor: The model at work.
        workers: Processes that read scans.
        time_limit_s: A scan that takes longer to read is refused.
    """
    model = predictor.model
    read = partial(read_timed, read=model.read_rules, rules=model.preprocess, channels=model.channels)
    with closing(run_isolated(scans, read, workers, time_limit_s)) as reading:
        yield from _in_batches(reading, predictor)


def _in_batches(reading: Iterable[Finished[Scan, Timed]], predictor: Predictor) -> Generator[Row, None, None]:
    """A row for each scan that was read.

    While one batch is collected, another goes through the network, and the files of a third are written.
    """
    batch: list[Read] = []
    running: deque[Future[list[Row]]] = deque()
    since = time.monotonic()
    with ThreadPoolExecutor(max_workers=1) as network, ThreadPoolExecutor(max_workers=1) as writing:

        def begin(batch: Sequence[Read]) -> None:
            passed = network.submit(predictor.outcomes, batch)
            running.append(writing.submit(lambda: [predictor.row(outcome) for outcome in passed.result()]))

        try:
            for one in reading:
                if isinstance(one.result, ScanError):
                    yield predictor.row(Outcome(one.item, one.result, {"read": one.seconds}))
                else:
                    since = time.monotonic() if not batch else since
                    batch.append(_read(one.item, one.result, one.seconds))
                if len(batch) == BATCH or (batch and time.monotonic() - since > HOLD_S):
                    begin(batch)
                    batch = []
                while running and (len(running) > AHEAD or running[0].done()):
                    yield from running.popleft().result()
            if batch:
                begin(batch)
            while running:
                yield from running.popleft().result()
        finally:
            for left in running:
                left.cancel()


def _read(scan: Scan, timed: Timed, seconds: float) -> Read:
    """A scan for the network; what did not go into its volume went into preprocessing."""
    return Read(scan, timed.input, {"read": timed.read_s, "preprocess": max(0.0, seconds - timed.read_s)})
