"""What holds for every bad input, whatever comes of it."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import pipeline.scans.dicom  # what the reader imports late is no part of a case's memory
import pipeline.scans.image
import pipeline.scans.nifti  # noqa: F401
from pipeline.domain import Rejection, ScanError, Volume
from pipeline.scans.find import Survey, read_volume, survey
from tests.bad_input.case import Case, Outcome, Truth
from tests.bad_input.phantoms import CANARY, ct, nii

TIME_LIMIT_S = 10.0
MEMORY_LIMIT_KB = 512 * 1024
"""More than any case may take over what the process had before (the reference's limit for bombs)."""

NEIGHBOURS = {"series": partial(ct, slices=3), "nifti": nii}
"""Good scans that lie beside every case."""


@dataclass
class Observed:
    """What became of a folder: `volumes` by group, then path; `said` is all text that the reader gave."""

    found: Survey
    volumes: list[Volume] = field(default_factory=list)
    refusals: list[Rejection] = field(default_factory=list)
    said: list[str] = field(default_factory=list)


def check_invariants(case: Case, build: int, folder: Path) -> Observed:
    """Write a case beside two good scans, find and read everything, and check what must hold for every input.

    No exception but ScanError; within time and memory; every file accounted for; the neighbours read right; nothing
    written, altered or connected to; no canary and no path in what is said; every Volume sound.

    Returns:
        What became of the case's own files.
    """
    neighbours = {name: write(made(folder / name)) for name, write in NEIGHBOURS.items()}
    truths = case.builds[build](made(folder / "case"))
    before = listing(folder)
    with case.around(folder / "case"):
        with _watched() as misdeeds:
            found = survey(folder)
        if case.between:
            case.between(folder / "case")
        left = listing(folder)
        with _watched() as more:
            seen = {name: _observed(case, found, folder / name) for name in ("case", *neighbours)}
            if case.outcome.kind == "REJECT" and not case.between and len(seen["case"].refusals) <= 1:
                seen["case"].said += _refused_alone(folder / "case", case)
    assert misdeeds + more == []
    assert listing(folder) == left
    _check_accounted(found, set(before))
    _check_outcome(seen["case"], case.outcome, [truths] if isinstance(truths, Truth) else list(truths or ()))
    for name, truth in neighbours.items():
        _check_outcome(seen[name], Outcome("OK"), [truth])
    for one in seen.values():
        text = "\n".join(one.said)
        assert CANARY not in text
        assert str(folder) not in text
        for volume in one.volumes:
            check_sound(volume)
    return seen["case"]


def made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _observed(case: Case, found: Survey, part: Path) -> Observed:
    """What became of the files below one folder."""
    seen = Observed(found, refusals=[one for one in found.rejections if one.path.is_relative_to(part)])
    seen.said = [repr(one.detail) for one in seen.refusals]
    seen.said += [note for path, note in found.skipped if path.is_relative_to(part)]
    scans = [scan for scan in found.scans if scan.path.is_relative_to(part)]
    for scan in sorted(scans, key=lambda scan: (scan.group, scan.paths)):
        seen.said.append(f"{scan.group} {scan.modality} {scan.warnings} {scan!r}".replace(str(part.parent), ""))
        try:
            volume = read_volume(scan, case.rules)
        except ScanError as error:
            seen.said.append(f"{error!r} {error} {error.detail}")
            seen.refusals.append(Rejection(scan.path, error.reason, error.detail, files=scan.paths))
        else:
            seen.said.append(f"{volume.unit} {volume.warnings}")
            seen.volumes.append(volume)
    return seen


def _refused_alone(part: Path, case: Case) -> list[str]:
    """What is said when a case that must be refused is named as the one scan to read."""
    with pytest.raises(ScanError) as caught:
        read_volume(part, case.rules)
    assert caught.value.reason.value in case.outcome.codes
    return [repr(caught.value), str(caught.value)]


def _check_outcome(seen: Observed, outcome: Outcome, truths: list[Truth]) -> None:
    """The outcome is the one expected, and the voxels are the true ones."""
    reasons = [one.reason.value for one in seen.refusals]
    if outcome.kind in ("OK", "WARN", "SPLIT"):
        assert reasons == [], seen.said
        assert [set(volume.warnings) for volume in seen.volumes] == [set(outcome.codes)] * len(truths)
        assert (len(truths) > 1) == (outcome.kind == "SPLIT")
        for volume, truth in zip(seen.volumes, truths, strict=True):
            truth.check(volume)
    elif outcome.kind == "REJECT":
        assert seen.volumes == []
        assert set(reasons) <= set(outcome.codes), seen.said
        assert reasons or outcome.codes == ("no_scans",)
    elif outcome.kind == "SKIP":
        assert (seen.volumes, reasons) == ([], [])
        assert all(outcome.codes[0] in note for note in seen.said)
        assert seen.said
    else:
        assert set(reasons) <= set(outcome.codes), seen.said
        assert seen.volumes or reasons
        for volume in seen.volumes:
            for truth in truths:
                truth.check(volume)


def _check_accounted(found: Survey, files: set[Path]) -> None:
    """Each file is part of a scan, a refusal, or set aside."""
    told = {path for scan in found.scans for path in (*scan.paths, *scan.aliases)}
    told |= {path for one in found.rejections for path in one.files} | {path for path, _ in found.skipped}
    assert told == files


def check_sound(volume: Volume) -> None:
    """A Volume is finite, float32, and its axes run to Right, Anterior, Superior."""
    assert volume.voxels.dtype == np.dtype("=f4")
    assert np.isfinite(volume.voxels).all()
    assert np.isfinite(volume.affine).all()
    assert (np.diag(volume.affine[:3, :3] / volume.spacing_mm) > 0).all()


def listing(folder: Path) -> dict[Path, tuple[int, int, int]]:
    """Every entry that is no folder, with what changes when it is written; nothing is opened."""
    entries = (Path(root, name) for root, folders, files in os.walk(folder) for name in (*folders, *files))
    states = {path: path.lstat() for path in entries if path.is_symlink() or not path.is_dir()}
    return {path: (state.st_size, state.st_mtime_ns, state.st_ino) for path, state in states.items()}


@contextmanager
def _watched() -> Iterator[list[str]]:
    """A list that fills with what a reader must not do; time and memory are checked at the end."""
    misdeeds: list[str] = []
    start, base = time.monotonic(), memory_kb(reset=True)
    with _auditing(misdeeds):
        yield misdeeds
    assert time.monotonic() - start < TIME_LIMIT_S
    assert memory_kb() - base < MEMORY_LIMIT_KB


def memory_kb(process: str = "self", reset: bool = False) -> int:
    """The most memory that a process has had since the last reset (Linux; elsewhere nothing is measured)."""
    status = Path("/proc", process, "status")
    if not status.exists():
        return 0
    if reset:
        Path("/proc", process, "clear_refs").write_text("5")
    sizes = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
    return int(sizes[0]) if sizes else 0


_LISTENERS: list[list[str]] = []
_CONNECTS = ("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.sendto")
_ALTERS = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.chmod", "os.link", "os.symlink", "os.truncate")


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    if not _LISTENERS or (arguments and isinstance(arguments[0], int)):  # a descriptor: opened before, or without name
        return
    if event in _CONNECTS + _ALTERS or (event == "open" and _writes(*arguments)):
        _LISTENERS[-1].append(f"{event} {arguments}")


def _writes(path: object, mode: object, flags: object) -> bool:
    """Whether a file is opened for writing; Python keeps its compiled modules."""
    if path == os.devnull or "__pycache__" in str(path):
        return False
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR))


sys.addaudithook(_audit)


@contextmanager
def _auditing(misdeeds: list[str]) -> Iterator[None]:
    _LISTENERS.append(misdeeds)
    try:
        yield
    finally:
        _LISTENERS.pop()
