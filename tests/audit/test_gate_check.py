import re
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.audit.gate_check import STRANGE, gate_check
from pipeline.audit.held_out import HeldOut, held_out_of
from pipeline.evaluate import main
from pipeline.evaluation.run_folder import read_run
from pipeline.files import read_json
from pipeline.sections import EvaluateSection
from tests.audit.runs import give_gate, run_with_scans
from tests.scoring.scenes import save_nifti

SECTION = EvaluateSection(resamples=50)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("gate")
    folder = run_with_scans(root)
    for n in range(40):
        save_nifti(root / "others" / f"{n}.nii", n + 100)
    give_gate(folder / "model", root / "others")
    return folder


@pytest.fixture(scope="module")
def held(run: Path) -> HeldOut:
    return held_out_of(read_run(run))


def test_what_is_nothing_like_a_scan_is_told_apart_and_the_test_scans_pass(held: HeldOut) -> None:
    found = gate_check(held, SECTION)
    assert list(found) == ["as it is", *STRANGE]
    assert found["as it is"]["flagged"]["value"] <= 0.25
    for kind in ("inverted", "all air"):
        assert found[kind]["auroc"]["value"] > 0.8
        assert found[kind]["flagged"]["value"] == 1
    for one in list(found.values())[1:]:
        assert one["auroc"]["n"] == 16
        assert one["auroc"]["low"] is None or 0 <= one["auroc"]["low"] <= one["auroc"]["high"] <= 1


def test_every_strange_version_keeps_the_scan_and_its_shape(held: HeldOut) -> None:
    _, volume = next(held.volumes("x"))
    before = volume.voxels.copy()
    for change in STRANGE.values():
        other = change(volume)
        assert other.voxels.shape == volume.voxels.shape
        assert not (other.voxels == before).all()
    assert (volume.voxels == before).all()


def test_the_report_says_what_the_gate_lets_pass(run: Path) -> None:
    assert main([str(run), "--robustness"]) == 0
    assert set(read_json(run / "robustness.json")["gate"]) == {"as it is", *STRANGE}  # type: ignore[call-overload]
    page = (run / "report.html").read_text()
    assert "The out-of-distribution gate flags" in page
    assert re.search(r"<th>all air</th><td>[^<]*\d\.\d\d[^<]*</td><td>100 %</td>", page)


def test_a_model_without_a_gate_says_nothing(held: HeldOut) -> None:
    bare = HeldOut(replace(held.model, gates=()), held.rows, held.scans)
    assert gate_check(bare, SECTION) == {}
