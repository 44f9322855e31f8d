"""The checks themselves: a reader that misbehaves is caught, whatever comes of the scan."""

import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.domain import ReadRules, Reason, Scan, ScanError, Volume
from pipeline.scans.find import read_volume
from tests.bad_input import invariants, watch
from tests.bad_input.case import OK, case
from tests.bad_input.phantoms import CANARY, nii

PLAIN = case("X1", "a good file", OK, nii)


def writes(scan: Scan, volume: Volume) -> Volume:
    scan.path.with_name("index").write_text("read")
    return volume


def renames(scan: Scan, volume: Volume) -> Volume:
    scan.paths[0].rename(scan.paths[0])
    return volume


def connects(scan: Scan, volume: Volume) -> Volume:
    with suppress(OSError), socket.socket() as opened:
        opened.connect(("127.0.0.1", 9))
    return volume


def hoards(scan: Scan, volume: Volume) -> Volume:
    np.ones(80 * 2**20)
    return volume


def flips(scan: Scan, volume: Volume) -> Volume:
    return replace(volume, voxels=volume.voxels[::-1])


def shifts(scan: Scan, volume: Volume) -> Volume:
    return replace(volume, affine=volume.affine + 0.01)


def names_the_patient(scan: Scan, volume: Volume) -> Volume:
    return replace(volume, unit=CANARY)


def refuses(scan: Scan, volume: Volume) -> Volume:
    raise ScanError(Reason.BLANK, "nothing to see")


def raises(scan: Scan, volume: Volume) -> Volume:
    raise KeyError(CANARY)


ILLS = {
    writes: r"open \(.*index",
    renames: r"os\.rename",
    connects: r"socket\.connect",
    hoards: r"< 524288",
    flips: "Not equal to tolerance",
    shifts: "Not equal to tolerance",
    names_the_patient: f"'{CANARY}' not in",
    refuses: "nothing to see",
    raises: CANARY,
}
"""A reader, and what is said of it."""


@pytest.mark.parametrize(("ill", "match"), ILLS.items(), ids=[ill.__name__ for ill in ILLS])
def test_an_ill_reader_is_caught(
    ill: Callable[[Scan, Volume], Volume], match: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_ill(scan: Scan, rules: ReadRules) -> Volume:
        return ill(scan, read_volume(scan, rules))

    monkeypatch.setattr(invariants, "read_volume", read_ill)
    with pytest.raises((AssertionError, KeyError), match=match):
        invariants.check_invariants(PLAIN, 0, tmp_path / "scans")


def test_a_reader_that_takes_its_time_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "TIME_LIMIT_S", 1e-6)
    with pytest.raises(AssertionError, match="1e-06"):
        invariants.check_invariants(PLAIN, 0, tmp_path / "scans")


def test_a_good_reader_passes(tmp_path: Path) -> None:
    invariants.check_invariants(PLAIN, 0, tmp_path / "scans")
