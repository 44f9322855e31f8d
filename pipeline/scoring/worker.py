"""What a reading process does: one scan -> one model input. No torch here, so that the processes stay light."""

import time
from dataclasses import dataclass

from pipeline.domain import ReadRules, Scan
from pipeline.model.preprocess import ModelInput, preprocess
from pipeline.scans.find import read_volume
from pipeline.sections import PreprocessSection


@dataclass(frozen=True, slots=True)
class Timed:
    """A model input, and the seconds that went into the volume that it was made of."""

    input: ModelInput
    read_s: float


def read_timed(scan: Scan, read: ReadRules, rules: PreprocessSection, channels: int = 1) -> Timed:
    """The model input of a scan on disk.

    Raises:
        ScanError: If the scan is refused by the reader or does not fit the model.
    """
    started = time.perf_counter()
    volume = read_volume(scan, read)
    read_s = time.perf_counter() - started
    return Timed(preprocess(volume, rules, channels), read_s)
