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
from pipeline.scans.folders import UnlistedError
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
    with pytest.raises(UnlistedError, match="in: can't be read"):
        files.look()
    (tmp_path / "away").rename(tmp_path / "in")
    assert not files.look()
    with pytest.raises(UsageError, match="can't be read"):
        watch.watch(Request(model, tmp_path / "nowhere", tmp_path / "out"), Event(), lambda _: None)
    assert not (tmp_path / "out").exists()


class Share:
    """A folder that goes just before it is searched for the `goes`-th time, and is back some looks later."""

    def __init__(self, patch: pytest.MonkeyPatch, scans: Path, goes: int) -> None:
        self.scans, self.away, self.goes, self.looks = scans, scans.with_name("away"), goes, 0
        self.find, self.look = watch.find, watch.Files.look
        patch.setattr(watch, "find", self.found)

        def look(files: watch.Files) -> bool:
            return self.looked(files)

        patch.setattr(watch.Files, "look", look)

    def found(self, *given: object) -> object:
        self.goes -= 1
        if self.goes == 0:
            self.scans.rename(self.away)
        return self.find(*given)

    def looked(self, files: watch.Files) -> bool:
        if self.away.exists():
            self.looks += 1
            if self.looks == 4:
                save_nifti(self.away / "late.nii", 5)
                self.away.rename(self.scans)
        return self.look(files)


@pytest.mark.parametrize("goes", [1, 2])
def test_a_folder_that_goes_between_listing_and_search_is_said_once_and_comes_back(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, goes: int
) -> None:
    scans, out, said, stop = tmp_path / "in", tmp_path / "out", list[str](), Event()
    save_nifti(scans / "0.nii", 0)
    old(scans)
    share = Share(monkeypatch, scans, goes)

    def tell(summary: Summary) -> None:
        if goes == 2 and not share.looks:
            save_nifti(scans / "1.nii", 1)
        if "late.nii" in rows(out):
            stop.set()

    watch.watch(Request(model, scans, out), stop, tell, SETTLE_S, 0.05, said.append)
    assert said == [f"{scans}: can't be read (FileNotFoundError); expected a scan or a folder of scans"]
    assert share.looks == 4
    assert set(rows(out).items()) >= {("0.nii", "ok"), ("late.nii", "ok")}
    assert ("1.nii" in rows(out)) is (goes == 2)


def test_a_folder_that_was_never_there_to_be_searched_is_an_error_at_the_end(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_nifti(tmp_path / "in" / "0.nii", 0)
    Share(monkeypatch, tmp_path / "in", 1)
    stop, said = Event(), list[str]()
    stop.set()
    with pytest.raises(UsageError, match="in: can't be read"):
        watch.watch(
            Request(model, tmp_path / "in", tmp_path / "out"), stop, lambda _: None, SETTLE_S, 0.05, said.append
        )
    assert said == []


def test_what_went_while_it_was_read_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scans, whole = tmp_path / "in", look.look_at_all
    save_nifti(scans / "0.nii", 0)

    def gone(paths: list[Path], root: Path, workers: int | None = None) -> object:
        scans.rename(tmp_path / "away")
        yield from whole(paths, root, workers)

    headers = watch.Headers()
    with monkeypatch.context() as patch:
        patch.setattr(watch, "look_at_all", gone)
        assert [one.reason.value for one in survey(scans, look=headers).rejections] == ["io_error"]
    (tmp_path / "away").rename(scans)
    assert survey(scans, look=headers) == survey(scans)
    assert len(survey(scans).scans) == 1
