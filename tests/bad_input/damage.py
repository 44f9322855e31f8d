"""Good files, damaged: the same damage for the same number. Child processes import this."""

import random
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.domain import ScanError
from pipeline.scans.find import read_volume, survey
from tests.bad_input.invariants import check_sound
from tests.bad_input.phantoms import CANARY
from tests.bad_input.watch import memory_kb

HEADER_BYTES = 2048
"""Half of all damage is done here, however long the file is."""

EXTREMES = (*(byte * n for byte in (b"\0", b"\xff") for n in (1, 2, 4)), b"\x80", b"\xff\x7f", b"\xff\xff\xff\x7f")
"""The smallest and largest whole numbers."""

Seeds = dict[str, tuple[str, bytes]]


@dataclass(frozen=True)
class Read:
    """What became of a mutant: "volume", "skipped" or a reason for each scan in it; the memory that it took."""

    outcomes: tuple[str, ...]
    memory_kb: int


def mutant(seeds: Seeds, number: int) -> tuple[str, bytes]:
    """File name and bytes of a mutant."""
    names = sorted(seeds)
    name, raw = seeds[names[number % len(names)]]
    rng, damaged = random.Random(number), bytearray(raw)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(max(1, len(damaged) if rng.random() < 0.5 else min(len(damaged), HEADER_BYTES)))
        _damage(damaged, at, rng)
    return f"{number}{''.join(Path(name).suffixes)}", bytes(damaged)


def _damage(raw: bytearray, at: int, rng: random.Random) -> None:
    """Damage the bytes at one place."""
    run = rng.choice((1, 2, 4, 8, 100))
    match rng.choice(("flip", "flip", "byte", "byte", "extreme", "extreme", "drop", "repeat", "cut")):
        case "flip":
            raw[at : at + 1] = bytes(byte ^ 1 << rng.randrange(8) for byte in raw[at : at + 1])
        case "byte":
            raw[at : at + 1] = bytes([rng.randrange(256)])
        case "extreme":
            extreme = rng.choice(EXTREMES)
            raw[at : at + len(extreme)] = extreme
        case "drop":
            del raw[at : at + run]
        case "repeat":
            raw[at:at] = raw[at : at + run]
        case "cut" if rng.random() < 0.3:
            del raw[at:]


def read_mutant(seeds: Seeds, number: int) -> Read:
    """Find and read a mutant as any file of a user's.

    Raises:
        Exception: Whatever the reader raises that is no refusal, and what a failed check does.
    """
    name, raw = mutant(seeds, number)
    with TemporaryDirectory() as folder:
        (Path(folder) / name).write_bytes(raw)
        base = memory_kb(reset=True)
        found = survey(Path(folder))
        outcomes = ["skipped" for _ in found.skipped] + [one.reason.value for one in found.rejections]
        said = [one.detail for one in found.rejections] + [note for _, note in found.skipped]
        for scan in found.scans:
            try:
                check_sound(read_volume(scan))
                outcomes.append("volume")
            except ScanError as error:
                outcomes.append(error.reason.value)
                said.append(error.detail)
        if not outcomes or CANARY in "".join(said) or folder in "".join(said):
            raise ValueError("a file without an outcome, or one whose refusal says too much")
        return Read(tuple(outcomes), max(memory_kb() - base, _children_kb()))


def _children_kb() -> int:
    """The most memory that one of this process's decoders has had (Linux; elsewhere nothing is measured)."""
    pids: list[str] = []
    for listing in Path("/proc/self/task").glob("*/children"):
        with suppress(FileNotFoundError):  # a thread that has ended meanwhile
            pids += listing.read_text().split()
    return max((memory_kb(process=pid) for pid in pids), default=0)
