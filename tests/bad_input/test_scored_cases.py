"""Some of the cases side by side in one folder, through scoring: a row for each, and nothing leaks or is altered."""

from pathlib import Path

import pandas as pd
import pytest

from pipeline.scans.find import survey
from pipeline.scoring.folder import Request, score
from tests.bad_input.case import Case
from tests.bad_input.cases import CASES
from tests.bad_input.invariants import listing, made
from tests.bad_input.phantoms import CANARY
from tests.scoring.scenes import save_tiny_model

SCORED = ("A1", "A3", "A8", "A13", "D3", "D4", "E6", "E14", "E18", "E32", "F10", "G4", "G6", "G7", "G20", "G25", "G28")
"""Cases whose first input is a volume, or refused, or skipped, whatever lies beside it."""


def first_rows() -> dict[str, Case]:
    """The first row of each case in SCORED."""
    return {case.name: case for case in reversed(CASES) if case.name in SCORED}


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad") / "scans"
    for name, case in first_rows().items():
        case.builds[0](made(folder / name))
    return folder


def test_every_case_has_its_rows(scans: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before, found = listing(scans), survey(scans)
    score(Request(save_tiny_model(tmp_path / "model"), scans, tmp_path / "out"))
    assert listing(scans) == before
    table = pd.read_csv(tmp_path / "out" / "predictions.csv", keep_default_na=False)
    assert len(table) == len(found.scans) + len(found.rejections)
    assert ((table["p_nodule"] != "") == (table["status"] == "ok")).all()
    for name, case in first_rows().items():
        rows = table[table["path"].str.partition("/")[0] == name]
        kind, codes = case.outcome.kind, set(case.outcome.codes)
        assert (len(rows) == 0) == (kind == "SKIP")
        assert set(rows["status"]) <= ({"rejected"} if kind == "REJECT" else {"ok"})
        assert set(rows["reason"]) <= (codes if kind == "REJECT" else {""})
        if kind == "WARN":
            assert codes <= set(rows["warnings"].iloc[0].split(";"))
    said = capfd.readouterr()
    written = "".join((tmp_path / "out" / name).read_text() for name in ("predictions.csv", "journal.jsonl"))
    assert CANARY not in said.out + said.err + written
