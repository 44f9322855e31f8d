import os
import subprocess
import sys
import time
from multiprocessing import spawn
from pathlib import Path
from types import ModuleType

import pytest

from pipeline.domain import Reason, ScanError, UsageError
from pipeline.scans import isolated
from pipeline.scans.isolated import Finished, run_isolated
from tests.scoring.ills import behave


def outcomes(items: list[str], workers: int = 2, time_limit_s: float = 30) -> dict[str, str | Reason]:
    done: list[Finished[str, str]] = list(run_isolated(items, behave, workers, time_limit_s))
    assert sorted(f.item for f in done) == sorted(items)
    assert all(f.seconds >= 0 for f in done)
    return {f.item: f.result.reason if isinstance(f.result, ScanError) else f.result for f in done}


def test_every_item_gives_one_result() -> None:
    items = [f"item {n}" for n in range(50)]
    assert outcomes(items) == {item: item.upper() for item in items}


def test_no_items_start_no_process() -> None:
    assert outcomes([]) == {}


def test_one_that_crashes_or_fails_costs_one_row() -> None:
    ill = {
        "segfault": Reason.DECODER_CRASH,
        "exit": Reason.DECODER_CRASH,
        "memory": Reason.TOO_LARGE,
        "refuse": Reason.BLANK,
        "fault": Reason.FAULT,
    }
    good = [f"item {n}" for n in range(6)]
    expected = {**ill, **{item: item.upper() for item in good}}
    assert outcomes([*good[:2], *ill, *good[2:]]) == expected


def test_one_that_hangs_costs_its_time_limit_and_one_row() -> None:
    started = time.monotonic()
    found = outcomes(["hang", "a", "hang in C", "b", "c"], time_limit_s=2)
    assert found == {"hang": Reason.TIMEOUT, "hang in C": Reason.TIMEOUT, "a": "A", "b": "B", "c": "C"}
    assert time.monotonic() - started < 40


def test_what_a_child_has_started_ends_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noted = tmp_path / "pid"
    # its time is up when it has started its own child, and not before
    monkeypatch.setattr(isolated, "_now", lambda: 100.0 if noted.exists() and noted.read_text() else 0.0)
    assert list(outcomes([f"leave a child and hang:{noted}"], time_limit_s=1).values()) == [Reason.TIMEOUT]
    _wait_for_the_end_of([int(noted.read_text())])


def test_details_say_what_happened_and_quote_nothing() -> None:
    found = {f.item: f.result for f in run_isolated(["segfault", "exit", "fault", "memory"], behave)}
    assert "signal 11" in str(found["segfault"])
    assert "exit code 3" in str(found["exit"])
    assert "KeyError" in str(found["fault"])
    assert "GiB" in str(found["memory"])
    assert "DOE" not in str(found)


def test_what_readers_print_is_dropped(capfd: pytest.CaptureFixture[str]) -> None:
    assert outcomes(["noise"], workers=1) == {"noise": "NOISE"}
    captured = capfd.readouterr()
    assert "DOE" not in captured.out + captured.err


def test_a_consumer_that_takes_its_time_refuses_nobody() -> None:
    results = []
    for finished in run_isolated(["big:1", "big:2", "a", "b"], behave, workers=2, time_limit_s=2):
        if not results:
            time.sleep(4)  # longer than the limit; the others' answers wait meanwhile
        results.append(finished.result)
    assert not [r for r in results if isinstance(r, ScanError)]


def test_children_load_no_torch() -> None:
    assert "torch" not in str(outcomes(["modules"])["modules"]).split()
    imports = "import sys, pipeline.score, pipeline.scans.isolated, pipeline.model.preprocess"
    code = f"{imports}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_child_that_cannot_start_blames_no_scan() -> None:
    with pytest.raises(UsageError, match="can't start"):
        list(run_isolated(["a"], Unloadable()))


class Unloadable:
    """Work that a child can't load."""

    def __reduce__(self) -> tuple[object, tuple[int]]:
        return os._exit, (9,)

    def __call__(self, item: str) -> str:
        return item


def test_children_never_import_the_callers_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = ModuleType("__main__")
    page.__file__ = str(tmp_path / "page.py")
    Path(page.__file__).write_text(f"open({str(tmp_path / 'imported')!r}, 'a').write('x')")
    prepared = spawn.get_preparation_data

    def exchanged(name: str) -> dict[str, object]:
        """Another thread exchanges `__main__` at the worst moment, as the viewer's pages do."""
        sys.modules["__main__"] = page
        return prepared(name)

    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    monkeypatch.setattr(spawn, "get_preparation_data", exchanged)
    assert outcomes(["a", "b"]) == {"a": "A", "b": "B"}
    assert sys.modules["__main__"] is page, "left as the other thread wants it"
    assert not (tmp_path / "imported").exists()


def test_children_end_with_the_parent() -> None:
    code = (
        "from tests.scoring.ills import behave\n"
        "from pipeline.scans.isolated import run_isolated\n"
        "if __name__ == '__main__':\n"
        "    for done in run_isolated(['a', 'b', 'hang', 'hang'], behave, 2, 600): print(done.item, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert {parent.stdout.readline().strip(), parent.stdout.readline().strip()} == {"a", "b"}
        children = _children(parent.pid)
        assert len(children) >= 2
        parent.kill()
    _wait_for_the_end_of(children)


def _wait_for_the_end_of(processes: list[int]) -> None:
    deadline = time.monotonic() + 60
    while any(_alive(pid) for pid in processes) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in processes if _alive(pid)]


def _children(pid: int) -> list[int]:
    listing = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=True)
    return [int(line) for line in listing.stdout.split()]


def _alive(pid: int) -> bool:
    """Whether a process runs; one that ended and that nobody has asked for its exit code does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
