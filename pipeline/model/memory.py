"""Memory: what a training step needs, what there is, and how freed memory is used again."""

import ctypes
import math
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from pipeline.config import Config
from pipeline.model.backbone import build_network
from pipeline.model.stages import recompute_stages

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Options of glibc's mallopt(3)."""
BYTES_A_PARAMETER = 16
"""float32: the weight, its gradient, AdamW's two moments."""
LIBRARIES = 100_000_000
"""Bytes that the first step's own code and scratch take; measured."""
INPUT_COPIES = 12
"""What loading and augmentation hold of a batch at their peak, in batches; measured."""


@dataclass(frozen=True)
class Need:
    """Bytes that a training step needs at its peak, about: some whatever the batch, and some for each scan."""

    fixed: int
    each: int

    def of(self, scans: int) -> int:
        """Bytes of a step of so many scans."""
        return self.fixed + self.each * scans

    def most(self, available: int) -> int:
        """How many scans so many bytes hold."""
        return max(0, (available - self.fixed) // self.each)


def step_need(config: Config, outputs: int) -> Need | None:
    """What a training step needs, or None where that can't be told.

    The network is run without numbers (torch's meta device) and what autograd would keep is counted; on a CPU six
    networks needed 0.75 to 1.04 times this, and up to a sixth more where freed memory is kept.
    """
    with torch.device("meta"):
        network = build_network(config.model, outputs).train()
    if config.train.recompute:
        recompute_stages(network)
    shape = (2, config.model.channels, *reversed(config.preprocess.size))  # two: a batch norm refuses a single value
    try:
        kept = kept_bytes(network, torch.empty(shape, device="meta"))
    except (RuntimeError, AssertionError):  # what the network can't do without numbers, or not with this size
        return None
    parameters = sum(p.numel() for p in network.parameters())
    of_two = sum(kept) + 2 * max(kept) + INPUT_COPIES * 4 * math.prod(shape)
    return Need(BYTES_A_PARAMETER * parameters + LIBRARIES, of_two // 2)


def kept_bytes(network: nn.Module, inputs: Tensor) -> list[int]:
    """Bytes of each tensor that autograd keeps for the backward pass, weights left out."""
    weights = {p.untyped_storage()._cdata for p in network.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}  # held, so that none takes another's address

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights:
            kept[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        network(inputs).sum()
    return [storage.nbytes() for storage in kept.values()]


def available_bytes(root: Path = Path("/")) -> int | None:
    """Bytes of main memory that this process can still get, by the system and by its control groups; None: unknown.

    Args:
        root: Where /proc and /sys are.
    """
    left = [limit - used for limit, used in _group_limits(root)]
    system = root / "proc/meminfo"
    if system.is_file():
        left.append(_field(system, "MemAvailable:") * 1024)
    return max(0, min(left)) if left else None


def _group_limits(root: Path) -> Iterator[tuple[int, int]]:
    """(limit, what can't be given back) of this process's control groups and those above it, versions 1 and 2."""
    known = root / "proc/self/cgroup"
    for line in known.read_text().splitlines() if known.is_file() else ():
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        home, limit, use, cached = (
            ("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file")
            if controllers == ""
            else ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        )
        top = root / home
        below = top / path.strip("/")  # inside a container the path may be the host's, which is not there
        for folder in (below, *below.parents):
            if folder.is_relative_to(top) and (folder / limit).is_file():
                said = (folder / limit).read_text().strip()
                if said.isdigit():
                    yield int(said), int((folder / use).read_text()) - _field(folder / "memory.stat", cached)


def _field(path: Path, name: str) -> int:
    """The number behind a name in a file of lines; 0 where it is not there."""
    for line in path.read_text().splitlines() if path.is_file() else ():
        words = line.split()
        if words[:1] == [name]:
            return int(words[1])
    return 0


def is_out_of_memory(error: BaseException) -> bool:
    """A GPU says so by its own type; torch's CPU allocator and that of pinned memory only in their text."""
    told = any(words in str(error) for words in ("can't allocate memory", "out of memory"))
    return told or isinstance(error, torch.OutOfMemoryError | MemoryError)


def keep_freed_memory() -> bool:
    """Let the C library keep what tensors give back, for the next step needs as much; whether it can.

    By default every large tensor is asked of the system anew and zeroed page by page: a tenth to a fifth of the CPU
    time of a 3D training step. What is kept is the memory of the largest step so far.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return all([libc.mallopt(M_MMAP_MAX, 0) == 1, libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1) == 1])
