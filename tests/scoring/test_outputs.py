"""Heat maps and DICOM results agree with the table, whatever becomes of their scans."""

from pathlib import Path

import pydicom
import pytest

from pipeline.model.package import load_model
from pipeline.scans.find import survey
from pipeline.scoring import local
from pipeline.scoring.folder import Request, checked_model, open_journal, score
from pipeline.scoring.outputs import WRITERS, has_outputs, remove_outputs
from tests.scoring.scenes import run_here, save_series, save_tiny_model


@pytest.fixture
def request_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Request:
    monkeypatch.setattr(local, "run_isolated", run_here)
    save_series(tmp_path / "in" / "series")
    model = save_tiny_model(tmp_path / "model")
    return Request(model, tmp_path / "in", tmp_path / "out", kinds=("saliency", "dicom"))


def written(request: Request) -> list[str]:
    """What lies in OUT for single scans."""
    files = [file for kind in WRITERS for file in (request.out / kind).rglob("*") if file.is_file()]
    return sorted(file.name.split("_")[-1] for file in files)


ALL = ["nodule.nii.gz", "sc.dcm", "sr.dcm"]


def test_a_scan_that_is_refused_now_keeps_no_result(request_for: Request) -> None:
    assert score(request_for).complete
    assert written(request_for) == ALL
    slices = sorted((request_for.scans / "series").iterdir())
    slices[1].rename(slices[1].with_name(".hidden"))  # the reader refuses it: a slice is missing
    assert score(request_for).reasons["rejected"] == {"missing_slices": 1}
    assert written(request_for) == []
    slices[1].with_name(".hidden").rename(slices[1])
    assert score(request_for).complete
    assert written(request_for) == ALL


def test_a_scan_that_the_survey_refuses_now_keeps_no_result(request_for: Request) -> None:
    assert score(request_for).complete
    path = request_for.scans / "series" / "2.dcm"
    one = pydicom.dcmread(path)
    one.PatientID = "another"
    one.save_as(path)
    assert score(request_for).reasons["rejected"] == {"mixed_patients": 1}
    assert written(request_for) == []


def test_scans_that_left_the_folder_leave_their_results(request_for: Request) -> None:
    score(request_for)
    for path in (request_for.scans / "series").iterdir():
        path.unlink()
    assert score(request_for).statuses.total() == 0
    assert written(request_for) == ALL


def test_what_was_deleted_is_written_again(request_for: Request) -> None:
    score(request_for)
    before = {path: path.read_bytes() for path in (request_for.out / "saliency").iterdir()}
    for path in before:
        path.unlink()
    assert score(request_for).read_now == 1
    assert {path: path.read_bytes() for path in before} == before
    assert score(request_for).read_now == 0


def test_halves_that_a_killed_run_has_left_are_removed(request_for: Request) -> None:
    score(request_for)
    halves = [request_for.out / ".predictions.csv.abc.part", request_for.out / "saliency" / ".x.nii.gz.abc.part"]
    for half in halves:
        half.write_bytes(b"half")
    open_journal(request_for, checked_model(request_for)).__exit__(None, None, None)
    assert not any(half.exists() for half in halves)
    assert written(request_for) == ALL


def test_every_kind_is_found_where_it_was_written(request_for: Request) -> None:
    score(request_for)
    (scan,) = survey(request_for.scans).scans
    findings = load_model(request_for.model).findings
    for kind in WRITERS:
        assert has_outputs((kind,), findings, scan.scan_id, (), request_for.out)
        remove_outputs((kind,), findings, scan.scan_id, request_for.out)
        assert not has_outputs((kind,), findings, scan.scan_id, (), request_for.out)
        assert has_outputs((kind,), findings, scan.scan_id, (f"no_{kind}",), request_for.out)
    assert written(request_for) == []
