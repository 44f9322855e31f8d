"""Random damage ends as a Volume, a refusal or skipped; `make fuzz` does it ten thousand times."""

import pytest

from pipeline.scans.isolated import run_isolated
from tests.bad_input import damage, fuzz
from tests.bad_input.seeds import seed_files


def test_mutants_end_as_they_may() -> None:
    found = fuzz.run(range(500))
    assert found.failures == []
    assert found.outcomes.total() >= 500
    assert len(found.outcomes) > 8  # the damage is not all of one kind
    assert found.outcomes["volume"] > 50


def test_the_seeds_are_good() -> None:
    seeds = seed_files()
    assert len(seeds) == 20
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(damage, "_damage", lambda raw, at, rng: None)
        for number in range(len(seeds)):
            assert set(damage.read_mutant(seeds, number).outcomes) == {"volume"}


def test_mutants_are_always_the_same() -> None:
    seeds = seed_files()
    assert seeds == seed_files()
    assert damage.mutant(seeds, 21) == damage.mutant(seeds, 21)
    assert damage.mutant(seeds, 21)[1] != damage.mutant(seeds, 41)[1]


def test_a_fault_is_a_failure_that_names_its_mutant(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """A reader that raises what is no refusal, and one that takes too much."""
    monkeypatch.setattr(fuzz, "run_isolated", lambda numbers, work, *_: run_isolated(numbers, ill, 1, 10))
    assert fuzz.main(["3"]) == 1
    said = capsys.readouterr()
    assert "mutant 1: fault: a fault of this software (KeyError)" in said.err
    assert "mutant 2: 2048 MiB" in said.err
    assert "2 failed" in said.out


def ill(number: int) -> damage.Read:
    if number == 1:
        raise KeyError(number)
    return damage.Read(("volume",), 2**20 * number)
