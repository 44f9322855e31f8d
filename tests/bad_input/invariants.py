"""What holds for every bad input, whatever comes of it."""

import os
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
from tests.bad_input.watch import watched

NEIGHBOURS = {"series": partial(ct, slices=3), "nifti": nii}
"""Good scans that lie beside every case."""


@dataclass
class Observed:
    """What became of a folder: `volumes` by group, then path; `said` is all text that the reader gave."""

    volumes: list[Volume] = field(default_factory=list)
    refusals: list[Rejection] = field(default_factory=list)
    said: list[str] = field(default_factory=list)


def check_invariants(case: Case, build: int, folder: Path) -> None:
    """Write a case beside two good scans, find and read everything, and check what must hold for every input.

    No exception but ScanError; within time and memory; every file accounted for; the neighbours read right; nothing
    written, altered or connected to; no canary and no path in what is said; every Volume sound, and none but the true.
    """
    neighbours = {name: write(made(folder / name)) for name, write in NEIGHBOURS.items()}
    truths = case.builds[build](made(folder / "case"))
    before = listing(folder)
    with case.around(folder / "case"):
        with watched() as misdeeds:
            found = survey(folder)
        if case.between:
            case.between(folder / "case")
        left = listing(folder)
        with watched() as more:
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


def made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _observed(case: Case, found: Survey, part: Path) -> Observed:
    """What became of the files below one folder."""
    seen = Observed(refusals=[one for one in found.rejections if one.path.is_relative_to(part)])
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
