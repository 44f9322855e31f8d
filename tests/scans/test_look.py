"""Many files are looked at in processes, and a bad one costs only itself."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.domain import ScanError
from pipeline.scans import look
from pipeline.scans.find import survey
from pipeline.scans.look import look_at_all
from pipeline.scans.shared import Pool
from tests.scans.ill_looks import look_or_fall_ill
from tests.scans.phantoms import nifti, series


@pytest.fixture
def at_once(monkeypatch):
    """Start processes for the second file already."""
    monkeypatch.setattr(look, "ALONE_S", 0.0)
    monkeypatch.setattr(look, "WORTH_S", 0.0)


def started(monkeypatch) -> list[int]:
    given = []
    run = look.run_isolated

    def counted(items, *rest):
        given.append(len(items))
        return run(items, *rest)

    monkeypatch.setattr(look, "run_isolated", counted)
    return given


def test_a_file_that_crashes_or_hangs_costs_only_itself(tmp_path, monkeypatch, at_once):
    monkeypatch.setattr(look, "TIME_LIMIT_S", 2.0)
    names = [*(f"{n:03d}" for n in range(100)), "crash", "fault", "hang", *(f"x{n:03d}" for n in range(100))]
    paths = [tmp_path / f"{name}.dcm" for name in names]
    seen = dict(look_at_all(paths, tmp_path, 2, look_or_fall_ill))
    assert set(seen) == set(paths)
    bad = {path.stem: str(one) for path, one in seen.items() if isinstance(one, ScanError)}
    assert set(bad) == {"crash", "fault", "hang"}
    assert bad["crash"] == "decoder_crash: the reading process died (signal 11)"
    assert bad["hang"].startswith("timeout: reading took longer than 2 s")
    assert bad["fault"].startswith("fault: a fault of this software (KeyError)")
    assert all(one == path.name for path, one in seen.items() if path.stem not in bad)


def test_the_result_does_not_depend_on_the_number_of_processes(tmp_path, monkeypatch):
    for number in range(4):
        series(tmp_path / f"s{number}", slices=40)
    nifti(tmp_path / "a.nii")
    (tmp_path / "bad.dcm").write_text("no")
    (tmp_path / "note.txt").write_text("no")
    alone = survey(tmp_path, workers=0)
    monkeypatch.setattr(look, "ALONE_S", 0.0)
    monkeypatch.setattr(look, "WORTH_S", 0.0)
    for workers in (1, 3):
        assert survey(tmp_path, workers=workers) == alone
    assert len(alone.scans) == 5


def test_few_files_start_no_process(tmp_path, monkeypatch):
    given = started(monkeypatch)
    survey(series(tmp_path, slices=30))
    assert given == [0, 0]


def test_a_script_needs_no_guard(tmp_path):
    series(tmp_path / "in", slices=6)
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nfrom pathlib import Path\nprint('once')\nfrom pipeline import find_scans\n"
        "from pipeline.scans import look\nlook.ALONE_S = look.WORTH_S = 0.0\n"
        "print(len(find_scans(sys.argv[1])[0][0].paths))\n"
    )
    done = subprocess.run([sys.executable, script, tmp_path / "in"], capture_output=True, text=True, check=False)
    assert (done.stdout.split(), done.stderr) == (["once", "6"], "")


def test_processes_load_no_torch(tmp_path, at_once):
    seen = dict(look_at_all([tmp_path / "a", tmp_path / "b"], tmp_path, 1, modules))
    assert "torch" not in seen[tmp_path / "b"].split()
    assert "pydicom" in seen[tmp_path / "b"].split()


def modules(path: Path, root: Path) -> str:
    return " ".join(sys.modules)


def test_progress_counts_files_of_processes_too(tmp_path, at_once):
    calls = []
    survey(series(tmp_path, slices=150), lambda done, total: calls.append((done, total)), workers=2)
    assert calls == [(n, 150) for n in range(1, 151)]


def test_processes_are_started_for_long_work_only():
    assert not look._is_worth_it(0.2, 0.2, 1000)
    assert not look._is_worth_it(0.4, 0.4, 4)
    assert look._is_worth_it(0.4, 0.4, 10)
    assert not look._is_worth_it(1.0, 0.4, 4)  # a busy machine
    assert look._is_worth_it(1.0, 0.1, 9)  # a slow disk


def test_what_files_have_in_common_is_kept_once(tmp_path):
    paths = sorted(series(tmp_path).iterdir())
    read = [look.look_at(path, tmp_path) for path in paths]
    pool = Pool()
    kept = [pool.share(one) for one in read]
    assert kept == read
    for name in ("series_uid", "study_uid", "patient_id", "image_type", "description"):
        assert len({id(getattr(one, name)) for one in kept}) == 1
    assert len({id(one.plane.orientation) for one in kept}) == 1
    assert [type(value) for value in kept[0].plane.size] == [int, int]
    assert [type(value) for value in kept[0].plane.spacing] == [float, float]
