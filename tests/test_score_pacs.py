import fcntl
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pydicom
import pytest

from pipeline import score
from pipeline.console import DONE, WITH_REJECTIONS, WRONG_USE
from tests.scans.fake_pacs import Server, instances, serving
from tests.scoring.scenes import save_tiny_model

QUERY = "Modality=CT&StudyDate=20260101-20260131"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("model") / "m")


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


def run(model: Path, scans: object, out: Path, *more: str) -> int:
    return score.main([str(model), str(scans), "--out", str(out), "--workers", "1", *more])


def test_from_the_pacs_and_back(
    model: Path, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(model, server.address, out, "--query", QUERY, "--store") == DONE
    (row,) = pd.read_csv(out / "predictions.csv").to_dict("records")
    assert row["status"] == "ok"
    assert sorted(str(ds.Modality) for ds in server.stored) == ["OT", "SR"]
    said = capsys.readouterr()
    assert "1 series found; not retrieved: none" in said.out
    assert "results in the PACS: of 1 scan now, of 0 before" in said.out
    assert "CANARY" not in said.out + said.err + (out / "retrieved.csv").read_text()
    first = {str(ds.SOPInstanceUID) for ds in server.stored}
    server.asked.clear()
    assert run(model, server.address, out, "--query", QUERY, "--store") == DONE
    assert "of 0 scans now, of 1 before" in capsys.readouterr().out
    assert {str(ds.SOPInstanceUID) for ds in server.stored} == first
    assert all("?" in path for path in server.asked), "nothing is retrieved twice"


def test_a_series_that_does_not_come_is_a_row_and_exit_code_3(
    model: Path, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.counted = 7
    assert run(model, server.address, tmp_path / "out", "--query", QUERY) == WITH_REJECTIONS
    (row,) = pd.read_csv(tmp_path / "out" / "retrieved.csv").to_dict("records")
    assert (row["status"], row["reason"]) == ("rejected", "pacs_incomplete")
    assert "not retrieved: pacs_incomplete 1" in capsys.readouterr().out


def test_results_that_are_not_taken_are_sent_by_the_next_run(
    model: Path, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.faults = [lambda handler: handler.command == "POST" and (handler.json({}) or True)]
    assert run(model, server.address, tmp_path / "out", "--query", QUERY, "--store") == WITH_REJECTIONS
    assert "not taken: 1, pacs_incomplete; run the same command again" in capsys.readouterr().out
    server.faults = []
    assert run(model, server.address, tmp_path / "out", "--query", QUERY, "--store") == DONE


def test_results_of_one_pacs_never_go_to_another(
    model: Path, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(model, server.address, tmp_path / "out", "--query", QUERY, "--store") == DONE
    with serving() as other:
        assert run(model, other.address, tmp_path / "out", "--query", QUERY, "--store") == WRONG_USE
        assert "scans folder: there" in capsys.readouterr().err
        assert (other.asked, other.stored) == ([], [])


def test_a_second_command_retrieves_nothing_into_the_same_out(
    model: Path, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with (out / "journal.jsonl").open("w") as journal:
        fcntl.flock(journal, fcntl.LOCK_EX)
        assert run(model, server.address, out, "--query", QUERY) == WRONG_USE
    assert "another run writes into it" in capsys.readouterr().err
    assert server.asked == []


def test_wrong_use(model: Path, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    for scans, more, words in (
        (tmp_path, ["--store"], "need a PACS"),
        (server.address, [], "--query: it is empty"),
        (server.address, ["--query", QUERY, "--watch"], "--watch needs a folder"),
        ("dicomweb://a:b@host/x", ["--query", QUERY], "put credentials into ~/.netrc"),
    ):
        assert run(model, scans, out, *more) == WRONG_USE
        assert words in capsys.readouterr().err
    (tmp_path / "file").write_text("x")
    assert run(model, server.address, tmp_path / "file" / "out", "--query", QUERY) == WRONG_USE
    assert "can't be made or written to (Not a directory); choose a place" in capsys.readouterr().err
    server.faults = [lambda handler: handler.reply(b"", "text/plain", 401) or True]
    assert run(model, server.address, out, "--query", QUERY) == WRONG_USE
    assert "pacs_denied: the PACS refuses access (HTTP 401)" in capsys.readouterr().err


def test_dicom_results_without_a_pacs(model: Path, tmp_path: Path) -> None:
    for k, ds in enumerate(instances(4)):
        (tmp_path / "in").mkdir(exist_ok=True)
        ds.save_as(tmp_path / "in" / f"{k}.dcm", enforce_file_format=True)
    assert run(model, tmp_path / "in", tmp_path / "out", "--dicom-sr") == DONE
    (folder,) = (tmp_path / "out" / "dicom").iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["sc.dcm", "sr.dcm"]
    assert pydicom.dcmread(folder / "sr.dcm").PatientID == "CANARY-ID"
