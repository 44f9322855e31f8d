"""Random damage: `python -m tests.bad_input.fuzz N` finds and reads N mutants of good files, always the same ones.

Each ends as a Volume, a refusal or skipped. Anything else fails, and the number of the mutant says how to see it again:
`python -m tests.bad_input.fuzz --only NUMBER` reads it in this process and keeps the file.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pipeline.domain import ScanError
from pipeline.scans.isolated import run_isolated
from tests.bad_input.damage import mutant, read_mutant
from tests.bad_input.seeds import seed_files

TIME_LIMIT_S = 10.0
MEMORY_LIMIT_KB = 2**20


@dataclass(frozen=True)
class Summary:
    """Outcome -> how often; what failed, in words; the slowest and the largest mutant."""

    outcomes: Counter[str]
    failures: list[str]
    slowest: str
    largest: str


def run(numbers: Iterable[int], workers: int = 2) -> Summary:
    """Read mutants in child processes, as `score` reads scans."""
    outcomes, failures, seconds, memory = Counter[str](), [], {0: 0.0}, {0: 0}
    for done in run_isolated(list(numbers), partial(read_mutant, seed_files()), workers, TIME_LIMIT_S):
        seconds[done.item] = done.seconds
        if isinstance(done.result, ScanError):  # the reading process died, hung or raised what is no refusal
            failures.append(f"mutant {done.item}: {done.result}")
            continue
        memory[done.item] = done.result.memory_kb
        outcomes.update(done.result.outcomes)
        if done.result.memory_kb > MEMORY_LIMIT_KB:
            failures.append(f"mutant {done.item}: {done.result.memory_kb // 1024} MiB")
    slow, large = max(seconds, key=seconds.__getitem__), max(memory, key=memory.__getitem__)
    slowest, largest = f"{seconds[slow]:.2f} s (mutant {slow})", f"{memory[large] // 1024} MiB (mutant {large})"
    return Summary(outcomes, sorted(failures), slowest, largest)


def main(words: list[str] | None = None) -> int:
    """0 if every mutant ended as it may, else 1."""
    parser = argparse.ArgumentParser(description="find and read mutants of good files")
    parser.add_argument("count", type=int, nargs="?", default=500, help="mutants 0 to COUNT - 1")
    parser.add_argument("--only", type=int, help="read this mutant alone, in this process, and keep its file")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args(words)
    if options.only is not None:
        name, raw = mutant(seed_files(), options.only)
        Path(name).write_bytes(raw)
        print(f"wrote {name}: {', '.join(read_mutant(seed_files(), options.only).outcomes)}")
        return 0
    found = run(range(options.count), options.workers)
    for outcome, count in found.outcomes.most_common():
        print(f"{count:8} {outcome}")
    print(f"{options.count} mutants: the slowest took {found.slowest}, the largest {found.largest}")
    for failure in found.failures:
        print(failure, file=sys.stderr)
    print(f"{len(found.failures)} failed" if found.failures else "none failed")
    return 1 if found.failures else 0


if __name__ == "__main__":
    sys.exit(main())
