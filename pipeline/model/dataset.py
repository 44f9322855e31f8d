"""Model inputs of a whole cohort, read once into a memory-mapped file, and the loaders that serve them."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from pipeline import __version__
from pipeline.cohort.cache import FINISHED
from pipeline.config import Config
from pipeline.console import Report
from pipeline.domain import ReadRules, Scan, ScanError
from pipeline.files import make_folder, read_json, write_json
from pipeline.model.preprocess import grid_shape, read_input
from pipeline.model.processes import rank, wait_for
from pipeline.scans.isolated import run_isolated

Batch = tuple[Tensor, Tensor, list[int]]
"""Inputs [n, channel, (z,) y, x], targets [n, finding] (0, 1, NaN for missing), rows of the cohort's table: numbers,
not a tensor, for they are wanted on the CPU at once."""


class Refusal(NamedTuple):
    """Why a scan could not be read or preprocessed, or was not selected."""

    reason: str
    detail: str
    status: str = "rejected"


@dataclass(frozen=True)
class Inputs:
    """Preprocessed scans.

    Attributes:
        arrays: float32 [scan, channel, (z,) y, x], memory-mapped; rows of refused scans are zero.
        refused: Row -> why it is not used.
        refused_by_header: Scans under the same folder that were refused before they could become rows.
    """

    arrays: NDArray[np.float32]
    refused: dict[int, Refusal]
    refused_by_header: int = 0


def cache_inputs(
    scans: Sequence[Scan], hashes: Sequence[str], config: Config, read: ReadRules, folder: Path, report: Report
) -> Inputs:
    """Read and preprocess the scans in `config.train.workers` processes; a finished cache of the same is reused.

    Args:
        scans: What to read, in row order.
        hashes: content_sha256 of each, part of the cache's key.
        folder: Where caches live; one sub-folder a combination of scans and rules.
    """
    rules = config.preprocess
    key = json.dumps([__version__, list(hashes), [s.scan_id for s in scans], asdict(read),
                      rules.model_dump(mode="json"), config.model.channels])  # fmt: skip
    home = folder / hashlib.sha256(key.encode()).hexdigest()[:16]
    arrays, finished = home / "inputs.npy", home / FINISHED
    if rank() > 0:
        wait_for(finished, "the inputs")
    if finished.is_file() and arrays.is_file():
        known = {int(k): Refusal(*v) for k, v in read_json(finished).items() if isinstance(v, list)}
        return Inputs(np.load(arrays, mmap_mode="r"), known)
    make_folder(home, "cohort.folder: the cache")
    shape = tuple(reversed(grid_shape(rules)))[-len(rules.size) :]
    out = open_memmap(arrays, mode="w+", dtype=np.float32, shape=(len(scans), config.model.channels, *shape))
    refused: dict[int, Refusal] = {}
    for done, (row, result) in enumerate(_read_all(scans, config, read), start=1):
        if isinstance(result, ScanError):
            refused[row] = Refusal(result.reason.value, result.detail)
        else:
            out[row] = result
        report(done, len(scans))
    out.flush()
    write_json(finished, {str(k): list(v) for k, v in refused.items()})
    return Inputs(np.load(arrays, mmap_mode="r"), refused)


def _read_all(
    scans: Sequence[Scan], config: Config, read: ReadRules
) -> Iterator[tuple[int, NDArray[np.float32] | ScanError]]:
    """(row, input or refusal) of each scan, in the order in which they are done."""
    work = partial(_read_one, config=config, read=read)
    if config.train.workers == 0:
        yield from ((row, work((row, scan))) for row, scan in enumerate(scans))
        return
    for finished in run_isolated(list(enumerate(scans)), work, config.train.workers):
        yield finished.item[0], finished.result


def _read_one(item: tuple[int, Scan], config: Config, read: ReadRules) -> NDArray[np.float32] | ScanError:
    try:
        return read_input(item[1], read, config.preprocess, config.model.channels).array
    except ScanError as error:
        return error


class ScanDataset(Dataset[Batch]):
    """Batches of the chosen rows, each copied out of the file once; row numbers the table and seeds the changes."""

    def __init__(self, inputs: NDArray[np.float32], targets: NDArray[np.float32], rows: Sequence[int]) -> None:
        self.inputs, self.targets, self.rows = inputs, targets, np.asarray(rows, dtype=np.intp)

    def __len__(self) -> int:
        """Number of scans."""
        return len(self.rows)

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """The scans at some positions of `rows`; a loader asks for a batch at a time."""
        rows = self.rows[indices]
        return torch.from_numpy(self.inputs[rows]), torch.from_numpy(self.targets[rows]), rows.tolist()


class EpochSampler(Sampler[int]):
    """A random order that depends on (seed, epoch) alone, so that a resumed run sees the same batches.

    Args:
        weights: How often each scan is drawn, with replacement; None: each once.
        share: (rank, world): the process's number, and how many deal the order out among them.
    """

    def __init__(
        self, length: int, seed: int, weights: NDArray[np.float64] | None = None, share: tuple[int, int] = (0, 1)
    ) -> None:
        self.length, self.seed, self.epoch, self.weights = length, seed, 0, weights
        self.rank, self.world = share

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Number of scans; the same in each process, a remainder sits an epoch out."""
        return self.length // self.world

    def __iter__(self) -> Iterator[int]:
        """Positions in this epoch's order."""
        generator = torch.Generator().manual_seed(self.seed * 100_003 + self.epoch)
        if self.weights is None:
            order = torch.randperm(self.length, generator=generator)
        else:
            weights = torch.from_numpy(self.weights)
            order = torch.multinomial(weights, self.length, replacement=True, generator=generator)
        yield from order[self.rank :: self.world][: len(self)].tolist()


def train_loader(
    dataset: ScanDataset,
    batch_size: int,
    seed: int,
    weights: NDArray[np.float64] | None = None,
    share: tuple[int, int] = (0, 1),
) -> DataLoader[Batch]:
    """Batches in random order; a last batch of one scan is dropped (batch norm can't learn from it)."""
    sampler = EpochSampler(len(dataset), seed, weights, share)
    size = min(batch_size, len(sampler))
    return _loader(dataset, size, sampler=sampler, drop_last=len(sampler) % size == 1 and size > 1)


def plain_loader(dataset: ScanDataset, batch_size: int) -> DataLoader[Batch]:
    """Batches in order, nothing dropped."""
    return _loader(dataset, batch_size)


def _loader(dataset: ScanDataset, size: int, **order: Any) -> DataLoader[Batch]:
    """Reads in this process: on a GPU the next batch is copied while the last one is still computed."""
    return DataLoader(dataset, size, collate_fn=_whole, pin_memory=torch.cuda.is_available(), **order)


def _whole(batch: Any) -> Batch:
    """What `__getitems__` gave: a batch already."""
    return cast(Batch, batch)
