"""Scoring on this machine: reading in child processes, the forward pass in a thread here, both at once."""

import time
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import partial

from pipeline.domain import Scan, ScanError
from pipeline.model.inference import BATCH
from pipeline.scans.isolated import run_isolated
from pipeline.scoring.journal import Row
from pipeline.scoring.predict import Predictor, Reading
from pipeline.scoring.worker import read_timed

HOLD_S = 2.0
"""A batch that is not full after this time goes through the network as it is: slow scans reach the journal, too."""


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
        yield from _in_batches(reading, predictor.rows)


def _in_batches(
    reading: Iterable[Reading], rows: Callable[[Sequence[Reading]], list[Row]]
) -> Generator[Row, None, None]:
    """A row for each scan that was read. While a batch goes through the network, the next one is collected."""
    batch: list[Reading] = []
    running: Future[list[Row]] | None = None
    since = time.monotonic()
    with ThreadPoolExecutor(max_workers=1) as forward:
        for one in reading:
            if isinstance(one.result, ScanError):
                yield from rows([one])
            else:
                since = time.monotonic() if not batch else since
                batch.append(one)
            full = len(batch) == BATCH or (bool(batch) and time.monotonic() - since > HOLD_S)
            if running is not None and (full or running.done()):
                done, running = running, None
                finished = done.result()
                if full:
                    running, batch = forward.submit(rows, batch), []
                yield from finished
            elif full:
                running, batch = forward.submit(rows, batch), []
        if running is not None:
            yield from running.result()
    if batch:
        yield from rows(batch)
