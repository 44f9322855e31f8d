"""What the benchmarks share: contenders that take turns, memory seen from a process of its own, targets."""

import math
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

console = Console(highlight=False, width=100)


@dataclass(frozen=True)
class Times:
    """Seconds that a contender took, one of each a round; CPU time is that of this process and its children."""

    wall: list[float]
    cpu: list[float]

    def over(self, other: "Times") -> float:
        """How many times as long as the other: the median over the rounds, in wall time."""
        return median(a / b for a, b in zip(self.wall, other.wall, strict=True))

    def cpu_over(self, other: "Times") -> float:
        """The same in CPU time, which a busy machine blurs less."""
        return median(a / b for a, b in zip(self.cpu, other.cpu, strict=True))


@dataclass(frozen=True)
class Target:
    """A claim, what was measured, and the bounds within which it holds."""

    claim: str
    measured: float
    at_least: float = 0.0
    at_most: float = math.inf


def in_turns(contenders: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Times]:
    """Times of each contender; they take turns, so that a busy moment of the machine hits all alike."""
    times = {name: Times([], []) for name in contenders}
    for work in contenders.values():
        work()  # imports, caches, decoder processes
    for _ in range(rounds):
        for name, work in contenders.items():
            wall, cpu = time.perf_counter(), cpu_seconds()
            work()
            times[name].wall.append(time.perf_counter() - wall)
            times[name].cpu.append(cpu_seconds() - cpu)
    return times


def cpu_seconds() -> float:
    """CPU time of this process and of its children that still run (those only on Linux)."""
    spent = time.process_time()
    for children in Path("/proc/self/task").glob("*/children"):
        with suppress(FileNotFoundError):  # a thread that has just ended
            for child in children.read_text().split():
                spent += int(Path(f"/proc/{child}/schedstat").read_text().split()[0]) / 1e9
    return spent


def memory_growth(module: str, *words: str) -> int:
    """Bytes by which `python -m module words` raised its own peak memory, as it printed them."""
    done = subprocess.run([sys.executable, "-m", module, *words], capture_output=True, text=True, check=True)
    return int(done.stdout)


def peak_bytes() -> int:
    """The most memory that this process has had so far."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage tells the parent's peak if that was higher
        return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def is_there(package: str) -> bool:
    """Whether an optional peer can be imported."""
    return find_spec(package) is not None


def show(title: str, times: Mapping[str, Times], limit: str) -> None:
    """Print a line a contender: medians, and how many times the limit's."""
    table = Table("", title=title, title_justify="left")
    for heading in ("wall ms", "CPU ms", "wall / limit", "CPU / limit"):
        table.add_column(heading, justify="right")
    for name, took in times.items():
        bound = times[limit]
        medians = (f"{median(one) * 1e3:.0f}" for one in (took.wall, took.cpu))
        table.add_row(name, *medians, f"{took.over(bound):.2f}", f"{took.cpu_over(bound):.2f}")
    console.print(table)


def verdict(targets: Iterable[Target]) -> int:
    """Print each target and whether it holds; 1 if any is missed, else 0."""
    missed = 0
    for target in targets:
        holds = target.at_least <= target.measured <= target.at_most
        missed += not holds
        bound = f"at least {target.at_least:g}" if target.at_least else f"at most {target.at_most:g}"
        console.print(f"{'holds ' if holds else 'MISSED'} {target.claim}: {target.measured:.2f} ({bound})")
    return int(missed > 0)
