"""Scoring is killed at 50 random moments; run alone: python -m pytest tests/slow/test_score_kill.py -m slow."""

import json
import random
import shutil
import signal
import time
from pathlib import Path

import nibabel
import pydicom
import pytest

from pipeline.console import WITH_REJECTIONS
from pipeline.scans.find import survey
from tests.scoring.scenes import save_folder, save_tiny_model
from tests.test_score import start, timeless

pytestmark = pytest.mark.slow

KILLS = 50


@pytest.mark.timeout(1800)
def test_killed_at_50_random_moments_no_row_is_lost_or_doubled(tmp_path: Path) -> None:
    model, scans, out = save_tiny_model(tmp_path / "model"), save_folder(tmp_path / "in", good=60), tmp_path / "out"
    began = time.monotonic()
    assert finish(model, scans, tmp_path / "whole") == WITH_REJECTIONS
    whole_s = min(time.monotonic() - began, 12.0)  # on a busy machine fifty whole runs would take too long
    moment, ended_by_itself, most_rows = random.Random(0), 0, 0
    for _ in range(KILLS):
        run = start(model, scans, out)
        time.sleep(moment.uniform(0.3, 1.0) * whole_s)
        run.send_signal(signal.SIGKILL)
        run.communicate()
        rows = rows_of(out)
        assert len(rows) >= most_rows, "a kill has lost rows"
        most_rows = len(rows)
        if (out / "predictions.csv").exists():
            assert timeless(out) == timeless(tmp_path / "whole")
            ended_by_itself, most_rows = ended_by_itself + 1, 0
            shutil.rmtree(out)
    assert ended_by_itself < KILLS
    assert finish(model, scans, out) == WITH_REJECTIONS
    assert timeless(out) == timeless(tmp_path / "whole")
    ids = [json.loads(line)["scan_id"] for line in (out / "journal.jsonl").read_text().splitlines()[1:]]
    assert len(ids) == len(set(ids)) == len(survey(scans).scans)


def test_a_folder_of_other_projects_test_files_gives_a_row_or_a_reason_for_each(tmp_path: Path) -> None:
    leave = shutil.ignore_patterns("*.py", "*.pyc", "__pycache__")
    shutil.copytree(Path(pydicom.__file__).parent / "data", tmp_path / "in" / "pydicom", ignore=leave)
    shutil.copytree(Path(nibabel.__file__).parent / "tests" / "data", tmp_path / "in" / "nibabel", ignore=leave)
    run = start(save_tiny_model(tmp_path / "model"), tmp_path / "in", tmp_path / "out")
    said, _ = run.communicate(timeout=240)
    assert run.returncode == WITH_REJECTIONS, said
    assert "Traceback" not in said
    assert "Warning" not in said
    found = survey(tmp_path / "in")
    listed = (tmp_path / "out" / "predictions.csv").read_text()
    assert listed.count(",ok,") + listed.count(",rejected,") == len(found.scans) + len(found.rejections)
    assert listed.count(",ok,") > 10
    assert ",fault," not in listed
    accounted = {path for scan in found.scans for path in (*scan.paths, *scan.aliases)}
    accounted |= {path for refused in found.rejections for path in (refused.path, *refused.files)}
    accounted |= {path for path, _ in found.skipped}
    assert {path for path in (tmp_path / "in").rglob("*") if path.is_file()} <= accounted


def finish(model: Path, scans: Path, out: Path) -> int:
    run = start(model, scans, out)
    run.communicate()
    return run.returncode


def rows_of(out: Path) -> list[bytes]:
    journal = out / "journal.jsonl"
    return journal.read_bytes().splitlines()[1:] if journal.exists() else []
