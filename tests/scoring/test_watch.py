import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event

import pandas as pd
import pytest

from pipeline.domain import UsageError
from pipeline.scans import look
from pipeline.scans.find import survey
from pipeline.scoring import local, watch
from pipeline.scoring.folder import Request, score
from pipeline.scoring.summary import Summary
from tests.scoring.scenes import run_here, save_folder, save_nifti, save_series, save_tiny_model

SETTLE_S = 0.2


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("model") / "m")


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "run_isolated", run_here)


def old(root: Path) -> None:
    """Let the files below seem to have been there long; their time of change can't be set."""
    deadline = time.time() - SETTLE_S
    while any(path.stat().st_ctime > deadline for path in root.rglob("*")):
        time.sleep(0.02)
        deadline = time.time() - SETTLE_S


def rows(out: Path) -> dict[str, str]:
    table = pd.read_csv(out / "predictions.csv", keep_default_na=False)
    return dict(zip(table["path"], table["status"], strict=True))


def watched(request: Request, steps: list[Callable[[], object]], stop: Event | None = None) -> list[Summary]:
    """The summaries of a watch that does the next step after each round and ends after the last one."""
    stop, told = stop or Event(), []

    def tell(summary: Summary) -> None:
        told.append(summary)
        if len(told) > len(steps):
            stop.set()
        else:
            steps[len(told) - 1]()

    assert watch.watch(request, stop, tell, SETTLE_S, 0.05) is told[-1]
    return told


def test_what_comes_is_taken_what_goes_leaves_and_what_changes_is_done_again(model: Path, tmp_path: Path) -> None:
    scans, out = tmp_path / "in", tmp_path / "out"
    for n in range(2):
        save_nifti(scans / f"{n}.nii", n)
    old(scans)
    first: dict[str, str] = {}

    def more() -> None:
        first.update(rows(out))
        save_nifti(scans / "2.nii", 2)
        (scans / "letter.dcm").write_text("Dear colleague")
        (scans / "0.nii").unlink()

    def other() -> None:
        (scans / "1.nii").write_bytes((scans / "2.nii").read_bytes())

    told = watched(Request(model, scans, out), [more, other, other, other])
    assert first == {"0.nii": "ok", "1.nii": "ok"}
    assert rows(out) == {"1.nii": "ok", "2.nii": "ok", "letter.dcm": "rejected"}
    table = pd.read_csv(out / "predictions.csv").set_index("path")["p_nodule"]
    assert table["1.nii"] == table["2.nii"]
    assert sum(one.read_now for one in told) >= 4
    again = score(Request(model, scans, out))
    assert (again.read_now, again.statuses) == (0, {"ok": 2, "rejected": 1})


def test_a_scan_that_is_still_written_has_no_row(model: Path, tmp_path: Path) -> None:
    scans = tmp_path / "in"
    save_series(scans / "whole")
    torn = save_nifti(scans / "torn.nii", 0)
    whole = torn.read_bytes()
    torn.write_bytes(whole[:9000])
    old(scans)
    files = watch.Files(scans, SETTLE_S)
    assert files.look()
    assert not files.look()
    assert [one.reason.value for one in files.settled(survey(scans)).rejections]
    torn.write_bytes(whole[:12_000])
    shutil.copy(scans / "whole" / "1.dcm", scans / "whole" / "copy.dcm")
    assert not files.look()
    found = files.settled(survey(scans))
    assert (found.scans, found.rejections) == ([], [])
    torn.write_bytes(whole)
    files.look()
    time.sleep(1.5 * SETTLE_S)
    assert files.look()
    assert len(files.settled(survey(scans)).scans) == 2
    torn.unlink()
    assert files.look()
    assert not files.look()


def test_headers_are_read_once(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scans, headers, asked = save_folder(tmp_path / "in", 3), watch.Headers(), []
    whole = look.look_at_all

    def counted(paths: list[Path], root: Path, workers: int | None = None) -> object:
        asked.extend(paths)
        return whole(paths, root, workers)

    monkeypatch.setattr(watch, "look_at_all", counted)
    assert survey(scans, look=headers) == survey(scans)
    first = len(asked)
    assert survey(scans, look=headers) == survey(scans)
    assert len(asked) == first > 8
    save_nifti(scans / "v01.nii.gz", 7)
    (scans / "flat.nii").unlink()
    assert survey(scans, look=headers) == survey(scans)
    assert len(asked) == first + 1


def test_a_stop_leaves_the_rest_for_the_next_start(model: Path, tmp_path: Path) -> None:
    for n in range(20):
        save_nifti(tmp_path / "in" / f"{n:02d}.nii", n)
    old(tmp_path / "in")
    stop = Event()
    stop.set()
    request = Request(model, tmp_path / "in", tmp_path / "out")
    (summary,) = watched(request, [], stop)
    assert (summary.read_now, summary.waiting, summary.statuses.total()) == (1, 19, 1)
    assert score(request).read_now == 19
    assert len(rows(tmp_path / "out")) == 20


def test_the_tables_are_written_while_many_are_scored(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(20):
        save_nifti(tmp_path / "in" / f"{n:02d}.nii", n)
    old(tmp_path / "in")
    monkeypatch.setattr(watch, "REFRESH_S", 0.0)
    lengths: list[int] = []
    replace = os.replace

    def replaced(self: Path, target: Path) -> Path:
        replace(self, target)
        if Path(target).name == "predictions.csv":
            lengths.append(Path(target).read_text().count("\n") - 1)
        return Path(target)

    monkeypatch.setattr(Path, "replace", replaced)
    watched(Request(model, tmp_path / "in", tmp_path / "out"), [])
    assert lengths == [*range(1, 21), 20]


def test_a_folder_that_is_gone_for_a_while_changes_nothing(model: Path, tmp_path: Path) -> None:
    save_nifti(tmp_path / "in" / "a.nii", 1)
    files = watch.Files(tmp_path / "in", 0.0)
    assert files.look()
    (tmp_path / "in").rename(tmp_path / "away")
    assert not files.look()
    (tmp_path / "away").rename(tmp_path / "in")
    assert not files.look()
    with pytest.raises(UsageError, match="can't be read"):
        watch.watch(Request(model, tmp_path / "nowhere", tmp_path / "out"), Event(), lambda _: None)
    assert not (tmp_path / "out").exists()
