import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from pipeline import publish
from pipeline.audit.local_check import NO_CARD, OTHER_UNIT, card_of, local_check, sentences
from pipeline.audit.recalibrate import refitted
from pipeline.domain import OperatingPoint, ReadRules, UsageError
from pipeline.evaluate import main
from pipeline.evaluation.assess import assess
from pipeline.evaluation.calibration import Calibration
from pipeline.evaluation.table import check_predictions
from pipeline.model.package import load_model
from pipeline.scoring import local
from pipeline.sections import EvaluateSection
from tests.evaluation.studies import table
from tests.scoring.scenes import run_here, save_nifti, save_tiny_model

SECTION = EvaluateSection(resamples=50)
POINTS = {"nodule": OperatingPoint("nodule", 0.5, "sensitivity >= 0.9")}


def here(gain: float, shift: float = 0.0, n: int = 400) -> pd.DataFrame:
    """Scans whose log odds are `gain` times what they should be, plus `shift`."""
    rng = np.random.default_rng(0)
    z = rng.normal(0, 1.5, n)
    y = (rng.random(n) < 1 / (1 + np.exp(-z))).astype(int)
    return check_predictions(table(list(y), list(1 / (1 + np.exp(-gain * z - shift)))), "P")


def checked(rows: pd.DataFrame, card: dict | None = None) -> dict:
    return local_check(assess(rows, SECTION, POINTS), rows, POINTS, {"nodule": card} if card else {})["nodule"]


def card(auroc: float) -> dict:
    kept = assess(here(1.0), SECTION, POINTS)["test"]["findings"]["nodule"]
    return kept | {"auroc": kept["auroc"] | {"value": auroc, "low": auroc - 0.02, "high": auroc + 0.02}}


@pytest.mark.parametrize(("auroc", "holds", "says"), [(0.84, True, "the intervals meet"), (0.98, False, "lower than")])
def test_the_auroc_is_held_against_the_cards(auroc: float, holds: bool, says: str) -> None:
    found = checked(here(1.0), card(auroc))
    assert found["holds"] is holds
    assert says in sentences({"nodule": found})[0]


def test_without_a_card_nothing_is_compared() -> None:
    found = checked(here(1.0))
    assert found["holds"] is None
    assert "the model folder holds no evaluation to compare with" in sentences({"nodule": found})[0]


@pytest.mark.parametrize(
    ("gain", "shift", "says"),
    [
        (1, 0, "no drift is seen"),
        (2.5, 0, "too extreme"),
        (0.4, 0, "too timid"),
        (1, 1.5, "too high"),
        (1, -1.5, "too low"),
    ],
)
def test_drift_of_the_calibration_is_said(gain: float, shift: float, says: str) -> None:
    assert says in sentences({"nodule": checked(here(gain, shift))})[1]


def test_the_threshold_that_meets_the_target_here_is_told_beside_the_frozen_one() -> None:
    rows = here(1.0, -1.0)
    found = checked(rows)
    assert found["at_frozen_threshold"]["sensitivity"]["value"] < 0.9
    cut = found["threshold"]["here"]
    assert (rows["p_nodule"][rows["y_nodule"] == 1] >= cut).mean() >= 0.9
    assert "would meet its target (sensitivity >= 0.9) on these scans" in sentences({"nodule": found})[2]


def one_class() -> pd.DataFrame:
    return check_predictions(table([1, 1], [0.4, 0.6]), "P")


def test_what_can_not_be_said_is_left_open() -> None:
    found = checked(one_class(), card(0.9))
    assert (found["holds"], found["threshold"]["here"]) == (None, None)
    assert len(sentences({"nodule": found})) == 1


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("site")
    lines = ["path,nodule"]
    for n in range(22):
        save_nifti(root / "scans" / f"{n}.nii", n)
        lines.append(f"{n}.nii,{n % 2}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    model = save_tiny_model(root / "model", read=ReadRules())
    (model / "evaluation.json").write_text(json.dumps({"test": {"findings": {"nodule": card(0.98)}}}))
    (model / "MODEL_CARD.md").write_text("---\nlicense: other\n---\n\n# tiny\n\nGood.\n")
    from pipeline.files import write_sums

    write_sums(model)
    return root


def words(site: Path, out: Path, labels: str = "labels.csv") -> list[str]:
    return ["--model", str(site / "model"), "--scans", str(site / "scans"), "--labels", str(site / labels),
            "--out", str(out), "--resamples", "50"]  # fmt: skip


def test_a_recalibrated_copy_fits_these_scans_and_says_so(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(local, "run_isolated", run_here)
    copy, before = tmp_path / "copy", {p.name: p.read_bytes() for p in (site / "model").iterdir()}
    assert main([*words(site, tmp_path / "out"), "--recalibrate", str(copy)]) == 0
    said = capsys.readouterr().out
    assert "on the card 0.98 (0.96 to 1.00)" in said
    assert "AUROC here" in (tmp_path / "out" / "report.html").read_text()
    assert set(json.loads((tmp_path / "out" / "local_check.json").read_text())) == {"nodule"}
    assert {p.name: p.read_bytes() for p in (site / "model").iterdir()} == before
    old, new = load_model(site / "model"), load_model(copy)  # every hash is right
    assert new.model_id != old.model_id
    assert new.settings.training["recalibrated_from"] == old.model_id
    assert new.settings.training["recalibrated_on_scans"] == 22
    assert new.operating_points["nodule"].chosen_on == "local"
    assert new.evaluation is None
    assert (copy / "evaluation_before_recalibration.json").read_bytes() == before["evaluation.json"]
    text = (copy / "MODEL_CARD.md").read_text()
    assert text.startswith("---\nlicense: other\n---\n\n# tiny\n\n> **Recalibrated** on 22 scans of 22 patients")
    weights = [load_file(folder / "weights.safetensors") for folder in (site / "model", copy)]
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])
    predicted = [new.predict(site / "scans" / f"{n}.nii").probabilities["nodule"] for n in range(22)]
    assert np.mean(predicted) == pytest.approx(0.5, abs=0.02)  # the share of positives; a fresh network says otherwise
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".copy")] == []


def test_patients_are_checked_too_but_not_against_a_card_of_scans(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(local, "run_isolated", run_here)
    calls = list[int]()
    monkeypatch.setattr(publish, "assess", lambda *given: calls.append(1) or assess(*given))
    assert main([*words(site, tmp_path / "out"), "--unit", "patient"]) == 0
    assert len(calls) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "the model's card judges another unit than each patient and can't be compared" in said
    assert "each row is a patient: the max of the probabilities of its scans" in said
    found = json.loads((tmp_path / "out" / "local_check.json").read_text())["nodule"]
    numbers = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert found["auroc"] == {"here": numbers["all"]["findings"]["nodule"]["auroc"], "card": None}
    assert "heat maps can be trusted was not measured" not in said
    assert "can be trusted was not measured" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    ("kept", "unit", "found", "why"),
    [
        (None, "scan", {}, NO_CARD),
        ({}, "scan", {}, NO_CARD),
        ({"test": {"findings": {"nodule": 1}}}, "scan", {"nodule": 1}, ""),
        ({"test": {"findings": {"nodule": 1}, "unit": "study"}}, "study", {"nodule": 1}, ""),
        ({"test": {"findings": {"nodule": 1}, "unit": "study"}}, "scan", {}, OTHER_UNIT.format("scan")),
    ],
)
def test_a_card_counts_where_it_judges_the_same_unit(
    tmp_path: Path, kept: dict | None, unit: str, found: dict, why: str
) -> None:
    if kept is not None:
        (tmp_path / "evaluation.json").write_text(json.dumps(kept))
    assert card_of(tmp_path, unit) == (found, why)


def test_too_few_patients_are_told_before_anything_is_scored(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (site / "few.csv").write_text("\n".join((site / "labels.csv").read_text().splitlines()[:12]) + "\n")
    assert main([*words(site, tmp_path / "out", "few.csv"), "--recalibrate", str(tmp_path / "copy")]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "nodule: expected at least 10 patients with and 10 without it, found 5 and 6" in said
    assert not list(tmp_path.iterdir())


def test_too_few_patients_whose_scans_can_be_read_are_not_recalibrated_on(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(local, "run_isolated", run_here)
    scans = tmp_path / "scans"
    shutil.copytree(site / "scans", scans)
    for n in (0, 2):
        save_nifti(scans / f"{n}.nii", n, (16, 16, 1))  # one slice, which only reading refuses
    given = words(site, tmp_path / "out")
    given[given.index("--scans") + 1] = str(scans)
    assert main([*given, "--recalibrate", str(tmp_path / "copy")]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "nodule: expected at least 10 patients with and 10 without it, found 11 and 9" in said
    assert (tmp_path / "out" / "evaluation.json").exists()
    assert not (tmp_path / "copy").exists()


def test_a_copy_is_never_written_over_or_into_what_is_there(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "copy").mkdir()
    assert main([*words(site, tmp_path / "out"), "--recalibrate", str(tmp_path / "copy")]) == 2
    assert "exists already; give a folder that does not" in capsys.readouterr().err
    assert main([*words(site, tmp_path / "out"), "--recalibrate", str(site / "model" / "copy")]) == 2
    assert "--recalibrate lies inside --scans or --model" in capsys.readouterr().err
    assert main([str(site), "--recalibrate", str(tmp_path / "c")]) == 2
    assert "--recalibrate does not go with RUN" in capsys.readouterr().err


def test_members_with_a_calibration_each_get_one_each(site: Path) -> None:
    model, rng = load_model(site / "model"), np.random.default_rng(0)
    y = rng.integers(0, 2, (60, 1)).astype(float)
    logits = np.stack([2 * y - 1 + rng.normal(size=y.shape), 5 * y + 7 + rng.normal(size=y.shape)])
    shared = refitted(model, logits, y, 60)
    assert shared.member_calibrations == ()
    each = Calibration("binary", (1.0,), (0.0,))
    own = model.settings.model_copy(update={"member_calibrations": (each, each)})
    found = refitted(type(model)(model.folder, model.model_id, own, model.networks, model.device), logits, y, 60)
    assert len(set(found.member_calibrations)) == 2
    assert found.member_calibrations[1].intercept[0] < found.member_calibrations[0].intercept[0]
    assert found.operating_points["nodule"].target == "youden"


def test_a_scan_that_is_gone_meanwhile_is_named(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.audit import recalibrate
    from pipeline.domain import Reason, ScanError
    from pipeline.scans.find import find_scans

    def gone(*_: object) -> None:
        raise ScanError(Reason.IO_ERROR, "it is gone")

    monkeypatch.setattr(recalibrate, "read_input", gone)
    with pytest.raises(UsageError, match="a scan that was scored can't be read again"):
        recalibrate.member_logits(load_model(site / "model"), find_scans(site / "scans")[0])
