"""Every case of docs/bad_input.md: its outcome, and what holds for every bad input."""

from pathlib import Path

import pytest

from tests.bad_input.case import Case
from tests.bad_input.cases import CASES, LARGE
from tests.bad_input.invariants import check_invariants
from tests.bad_input.phantoms import CANARY
from tests.bad_input.table import PAGE, page


def inputs() -> list:
    rows = {}
    for case in CASES:
        rows.setdefault(case.name, []).extend((case, build) for build in range(len(case.builds)))
    return [
        pytest.param(*row, id=f"{name}-{n}", marks=pytest.mark.slow if name in LARGE else ())
        for name, all_rows in rows.items()
        for n, row in enumerate(all_rows, 1)
    ]


@pytest.mark.parametrize(("case", "build"), inputs())
def test_case(
    case: Case, build: int, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("DEBUG")
    check_invariants(case, build, tmp_path / "scans")
    printed = capfd.readouterr()
    assert CANARY not in caplog.text + printed.out + printed.err


def test_no_case_is_missing() -> None:
    """Classes A to G but C16, F4, F5, F7, F8 and F11, which need a model: test_with_a_model.py."""
    sizes = {"A": 14, "B": 20, "C": 20, "D": 10, "E": 32, "F": 12, "G": 30}
    every = {f"{letter}{n}" for letter, size in sizes.items() for n in range(1, size + 1)}
    assert {case.name for case in CASES} == every - {"C16", "F4", "F5", "F7", "F8", "F11"}


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `python -m tests.bad_input.table`"
