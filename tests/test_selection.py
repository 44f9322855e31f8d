"""prepare, train, score, evaluate and the viewer choose the same scans by the same rules, with reasons for the rest."""

import json
from pathlib import Path

import pandas as pd
import pytest

from app.catalog import read_catalog
from pipeline import evaluate, prepare, score
from pipeline.cohort.manifest import read_cohort
from pipeline.config import Config
from pipeline.console import DONE, WITH_REJECTIONS
from pipeline.domain import ReadRules, ScanError
from pipeline.evaluation.table import check_predictions, read_table
from pipeline.model.dataset import Refusal
from pipeline.model.package import load_model
from pipeline.model.run import _inputs
from pipeline.scoring import local
from pipeline.sections import CohortSection, ModelSection, PreprocessSection, TrainSection
from tests.scans.phantoms import nifti, series
from tests.scoring.scenes import run_here, save_tiny_model

RULES = ReadRules(modalities=("CT",), min_slices=3, select="one")
WORDS = ["--read.modalities", "CT", "--read.min-slices", "3", "--read.select", "one"]
CHOSEN = {"p0/thin", "p1/thin", "p2/thin", "other.nii"}
UNSPLIT = ["--workers", "0", "--cohort.folds", "0", "--cohort.test-fraction", "0", "--cohort.tune-fraction", "0"]
REASONS = {"thick": "not_preferred", "mr": "modality", "scout": "too_few_slices"}


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three studies of thin and thick slices, a scout and an MR each, and a NIfTI file."""
    root = tmp_path_factory.mktemp("in")
    for patient in range(3):
        for name, slices, step in (("thick", 4, 5.0), ("thin", 8, 1.0), ("scout", 2, 9.0), ("mr", 5, 1.0)):

            def change(ds, k, name=name, patient=patient):
                ds.StudyInstanceUID, ds.PatientID = f"1.2.{patient}", f"P{patient}"
                ds.SeriesDescription = "CANARY DESCRIPTION"
                ds.Modality = "MR" if name == "mr" else "CT"

            series(root / f"p{patient}" / name, change, slices=slices, step=(0, 0, step))
    nifti(root / "other.nii")
    return root


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("model") / "m", read=RULES)


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    path = tmp_path / "labels.csv"
    path.write_text("path,nodule\np0,1\np1,0\np2,1\nother.nii,0\n")
    return path


def scored(model: Path, scans: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    monkeypatch.setattr(local, "run_isolated", run_here)
    assert score.main([str(model), str(scans), "--out", str(out)]) == DONE
    return pd.read_csv(out / "predictions.csv", dtype=str, keep_default_na=False).set_index("path")


def test_score_writes_a_row_for_each_with_its_reason(model, scans, tmp_path, monkeypatch, capsys):
    rows = scored(model, scans, tmp_path / "out", monkeypatch)
    assert set(rows.index[rows["status"] == "ok"]) == CHOSEN
    others = rows[rows["status"] == "not_selected"]
    assert {path.split("/")[1]: reason for path, reason in others["reason"].items()} == REASONS
    assert len(others) == 9
    assert (others["p_nodule"] == "").all()
    assert others["detail"].str.len().min() > 10
    said = " ".join(capsys.readouterr().out.split())
    assert "not selected: 3 modality, 3 not_preferred, 3 too_few_slices" in said
    assert "not_selected 9 modality 3, too_few_slices 3, not_preferred 3" in said
    assert "CANARY" not in said + (tmp_path / "out" / "predictions.csv").read_text()


def test_all_choose_alike(model, scans, labels, tmp_path, monkeypatch):
    rows = scored(model, scans, tmp_path / "out", monkeypatch)
    chosen = set(rows["scan_id"][rows["status"] == "ok"])
    shown = read_catalog(scans, load_model(model).read_rules, lambda *_: None).found
    assert {scan.scan_id for scan in shown.scans} == chosen
    unchosen = rows[rows["status"] == "not_selected"].set_index("scan_id")
    assert {one.scan.scan_id: one.reason.value for one in shown.not_selected} == dict(unchosen["reason"])
    assert shown.rejections == []

    words = [str(scans), "--labels", str(labels), "--label", "nodule", *UNSPLIT, *WORDS]
    assert prepare.main([*words, "--out", str(tmp_path / "cohort")]) == DONE
    assert set(read_table(tmp_path / "cohort" / "scans.csv")["scan_id"]) == chosen
    table = read_table(tmp_path / "cohort" / "not_selected.csv")
    assert list(table.columns) == ["path", "scan_id", "reason", "detail"]
    assert {Path(path).name: reason for path, reason in zip(table["path"], table["reason"], strict=True)} == REASONS
    assert "CANARY" not in "".join(path.read_text() for path in (tmp_path / "cohort").glob("*.csv"))


def test_train_leaves_out_what_the_models_rules_do(scans, labels, tmp_path):
    words = [str(scans), "--labels", str(labels), "--label", "nodule", *UNSPLIT]
    assert prepare.main([*words, "--out", str(tmp_path / "cohort")]) == DONE
    cohort = read_cohort(tmp_path / "cohort")
    assert len(cohort.table) == 13
    config = Config(
        read=RULES, cohort=CohortSection(folder=tmp_path / "cohort"), model=ModelSection(),
        preprocess=PreprocessSection(size=(8, 8, 8)), train=TrainSection(workers=0),
    )  # fmt: skip
    refused = _inputs(config, cohort, RULES).refused
    assert {path for row, path in enumerate(cohort.table["path"]) if row not in refused} == CHOSEN
    assert {one.status for one in refused.values()} == {"not_selected"}
    assert {Path(cohort.table["path"][row]).name: one.reason for row, one in refused.items()} == REASONS
    assert Refusal("blank", "").status == "rejected"


def test_explain_and_predict_take_the_scan_that_they_are_given(model, scans):
    loaded = load_model(model)
    assert loaded.predict(scans / "p0" / "thick").probabilities
    with pytest.raises(ScanError, match="modality"):
        loaded.predict(scans / "p0" / "mr")


def test_evaluation_counts_neither_score_nor_refusal(model, scans, labels, tmp_path, monkeypatch, capsys):
    rows = scored(model, scans, tmp_path / "out", monkeypatch).reset_index()
    assert len(check_predictions(rows.assign(y_nodule="1"), "the scores")) == 4
    words = ["--model", str(model), "--scans", str(scans), "--labels", str(labels), "--out", str(tmp_path / "e")]
    assert evaluate.main([*words, "--resamples", "50"]) == DONE
    assert "no label row" not in capsys.readouterr().out
    found = json.loads((tmp_path / "e" / "evaluation.json").read_text())
    assert sum(split["n_scans"] for split in found.values()) == 4
    assert sum(split["n_rejected"] for split in found.values()) == 0


def test_a_study_of_which_nothing_is_chosen_is_refused_aloud(model, tmp_path, monkeypatch):
    monkeypatch.setattr(local, "run_isolated", run_here)
    series(tmp_path / "in" / "scout", slices=2)
    assert score.main([str(model), str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == WITH_REJECTIONS
    rows = read_table(tmp_path / "out" / "predictions.csv")
    assert rows[["status", "reason"]].to_numpy().tolist() == [["rejected", "too_few_slices"]]
