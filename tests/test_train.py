"""The train command on a cohort of tiny volumes whose label is their brightness."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file
from sklearn.metrics import roc_auc_score

from pipeline import load_model, read_volume
from pipeline.config import Config
from pipeline.model.plan import Job
from pipeline.prepare import main as prepare
from pipeline.train import main, parse

TINY = {
    "name": "tiny",
    "preprocess": {"size": [16, 16, 16], "intensity": "window", "window": [0, 3]},
    "model": {"backbone": "resnet10", "width": 0.125, "stem_size": 3, "stem_pool": False},
    "augment": {"flip_axes": ["x"], "noise": 0.01},
    "train": {"epochs": 3, "batch_size": 8, "learning_rate": 0.003, "workers": 0, "accelerator": "cpu"},
}
LABELS = {
    "bright": ("bright",),
    "grade": ("grade",),
    "two": ("bright", "left"),
}


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    """48 volumes: bright or not, brighter on the left or not, three grades; some second labels are missing."""
    root = tmp_path_factory.mktemp("train")
    (root / "scans").mkdir()
    rows = []
    for n in range(48):
        rng = np.random.default_rng(n)
        bright, left, grade = n % 2, (n // 2) % 2, n % 3
        voxels = rng.normal(0.5 + bright + 0.5 * grade, 0.1, (16, 16, 16)).astype(np.float32)
        voxels[8:] += 0.5 * left
        image = nib.Nifti1Image(voxels, np.eye(4))
        image.set_sform(np.eye(4), 1)
        nib.save(image, root / "scans" / f"s{n:02d}.nii")
        rows.append((f"s{n:02d}.nii", f"P{n // 2 if n < 8 else n}", bright, left if n % 5 else "", grade, "FM"[n % 2]))
    columns = ["path", "patient_id", "bright", "left", "grade", "sex"]
    pd.DataFrame(rows, columns=columns).to_csv(root / "labels.csv", index=False)
    return root


def cohort_of(scans: Path, out: Path, *labels: str, folds: int = 3) -> Path:
    words = [scans / "scans", "--labels", scans / "labels.csv", "--label", *labels, "--out", out, "--workers", "0"]
    assert prepare([str(w) for w in words] + ["--cohort.folds", str(folds)]) == 0
    return out


@pytest.fixture(scope="module")
def cohort(scans) -> Path:
    return cohort_of(scans, scans / "cohort", "bright")


def config_file(folder: Path, **sections) -> Path:
    content = {k: v | sections.pop(k, {}) if isinstance(v, dict) else v for k, v in TINY.items()} | sections
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def train(folder: Path, cohort: Path, *words: str, **sections) -> int:
    path = config_file(folder, **sections)
    return main([str(path), "--cohort.folder", str(cohort), "--out", str(folder / "run"), *words])


def test_a_run_folder_holds_what_was_promised(cohort, tmp_path, capsys) -> None:
    assert train(tmp_path, cohort) == 0
    assert "next: python -m pipeline.evaluate" in capsys.readouterr().out
    run = tmp_path / "run"
    for name in (
        "config.yaml",
        "history.csv",
        "predictions.csv",
        "environment.json",
        "weights.json",
        "similar.npz",
        "model/model.json",
    ):
        assert (run / name).is_file(), name
    probes = json.loads((run / "shortcuts.json").read_text())["bright"]
    assert probes["thumbnail"]["value"] > 0.8  # brightness is the label here
    assert probes["header"]["value"] > 0.8  # and so is the patient's sex
    assert list((run / "tensorboard").rglob("events.out*"))
    assert len(pd.read_csv(run / "history.csv")) == 3

    table = pd.read_csv(run / "predictions.csv", dtype={"scan_id": str})
    assert list(table.columns[:11]) == [
        "scan_id", "patient", "split", "fold", "status", "reason", "detail", "y_bright", "p_bright", "study", "image",
    ]  # fmt: skip
    assert table["study"].nunique() == 48  # of files that name no study, each is one of its own
    assert len(table) == 48
    assert set(table["split"]) == {"train", "tune", "test"}
    assert "sex" in table.columns
    patients = table.groupby("patient")["split"].nunique()
    assert patients.max() == 1
    assert not table["patient"].str.contains("P").any()
    test = table[table["split"] == "test"]
    assert roc_auc_score(test["y_bright"], test["p_bright"]) > 0.8

    settings = json.loads((run / "model" / "model.json").read_text())
    assert settings["operating_points"]["bright"]["chosen_on"] == "tune"
    assert settings["calibration"]["method"] == "temperature"
    assert (settings["unit"], settings["aggregate"]) == ("scan", "max")
    held_out = table[table["split"] == "tune"]["p_bright"]
    reference = json.loads((run / "model" / "reference.json").read_text())
    assert (reference["held_out"], reference["n_scans"], reference["n_found"]) == ("tune", len(held_out), 48)
    assert reference["scores"]["bright"] == pytest.approx(sorted(held_out))


def test_the_model_folder_repeats_the_runs_own_probabilities(cohort, scans, tmp_path) -> None:
    assert train(tmp_path, cohort) == 0
    table = pd.read_csv(tmp_path / "run" / "predictions.csv", dtype=str).set_index("scan_id")
    paths = pd.read_csv(cohort / "scans.csv", dtype=str).set_index("scan_id")["path"]
    model = load_model(tmp_path / "run" / "model")
    for scan_id in list(table.index[:6]):
        p = model.predict(scans / "scans" / paths[scan_id]).probabilities["bright"]
        assert p == pytest.approx(float(table.loc[scan_id, "p_bright"]), abs=2e-6)


def test_the_same_seed_gives_the_same_weights(cohort, tmp_path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        assert train(tmp_path / name, cohort, "--train.epochs", "1") == 0
    a, b = (load_file(tmp_path / name / "run" / "model" / "weights.safetensors") for name in "ab")
    assert all(np.array_equal(a[k], b[k]) for k in a)


def test_resume_goes_on_and_ends_with_the_same_weights(cohort, tmp_path) -> None:
    """Stopped after an epoch (by a fault raised there) and resumed equals uninterrupted, bit for bit."""
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    assert train(tmp_path / "whole", cohort) == 0

    from pipeline.model.learner import EpochReport

    with pytest.MonkeyPatch.context() as patch:
        write = EpochReport.on_train_epoch_start

        def stop(self, trainer, module):
            if trainer.current_epoch == 2:
                raise KeyboardInterrupt
            write(self, trainer, module)

        patch.setattr(EpochReport, "on_train_epoch_start", stop)
        assert train(tmp_path / "cut", cohort) == 130
    assert not (tmp_path / "cut" / "run" / "model").exists()
    assert train(tmp_path / "cut", cohort, "--resume") == 0
    a, b = (load_file(tmp_path / name / "run" / "model" / "weights.safetensors") for name in ("whole", "cut"))
    assert all(np.array_equal(a[k], b[k]) for k in a)
    assert pd.read_csv(tmp_path / "cut" / "run" / "history.csv")["epoch"].tolist() == [1, 2, 3]


def test_folds_give_out_of_fold_predictions_and_an_ensemble(cohort, tmp_path) -> None:
    assert train(tmp_path, cohort, "--train.folds", "3", "--train.epochs", "2") == 0
    table = pd.read_csv(tmp_path / "run" / "predictions.csv")
    assert set(table["split"]) == {"oof", "test"}
    assert table.loc[table["split"] == "oof", "fold"].nunique() == 3
    model = load_model(tmp_path / "run" / "model")
    assert len(model.networks) == 3
    assert model.operating_points["bright"].chosen_on == "oof"
    assert len(model.settings.member_calibrations) == 3


def test_networks_of_folds_at_different_heights_are_calibrated_each_for_itself() -> None:
    from pipeline.model.outputs import calibrate, fair_probabilities
    from pipeline.model.plan import Job

    rng = np.random.default_rng(0)
    y = (np.arange(300) % 2).astype(np.float32)[:, None]
    seen = rng.normal(2 * y, 1).astype(np.float32)
    heights = np.array([-4, 0, 3], dtype=np.float32)
    rows = np.arange(300)
    jobs = [Job(f"fold{k}", rows[rows % 3 != k], rows[rows % 3 == k], False) for k in range(3)]
    logits = seen[None] + heights[:, None, None]
    p = fair_probabilities(jobs, logits, calibrate(jobs, logits, y, "binary"))
    assert roc_auc_score(y[:, 0], p[:, 0]) == pytest.approx(roc_auc_score(y[:, 0], seen[:, 0]), abs=0.01)


def test_a_held_out_fold_never_chooses_the_checkpoint(cohort, tmp_path) -> None:
    """What is kept of a fold's network is its last epoch, however much better an earlier one was."""
    from pipeline.model.learner import Learner

    def worse_each_epoch(self):
        self.outputs.clear()
        self.log_dict({"tune_loss": 1.0, "tune_auroc": 0.5, "tune_score": -float(self.current_epoch)})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Learner, "on_validation_epoch_end", worse_each_epoch)
        assert train(tmp_path, cohort, "--train.folds", "3") == 0
    home = tmp_path / "run" / "checkpoints" / "fold0"
    assert sorted(p.name for p in home.iterdir()) == ["before_last.ckpt", "finished", "last.ckpt"]
    last = torch.load(home / "last.ckpt", weights_only=True)
    assert last["epoch"] == 2
    kept = load_file(tmp_path / "run" / "model" / "members" / "0" / "weights.safetensors")
    assert all(torch.equal(last["state_dict"][f"network.{k}"], v) for k, v in kept.items())


def test_several_seeds_are_one_ensemble_and_their_spread_is_said(cohort, tmp_path, capsys) -> None:
    assert train(tmp_path, cohort, "--train.repeats", "2", "--train.epochs", "2") == 0
    assert "2 networks: AUROC where held out" in capsys.readouterr().out
    run = tmp_path / "run"
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == ["single", "single_seed1"]
    a, b = (load_file(run / "model" / "members" / k / "weights.safetensors") for k in "01")
    assert any(not np.array_equal(a[k], b[k]) for k in a)
    assert 0 <= json.loads((run / "model" / "model.json").read_text())["training"]["held_out_auroc_mean"] <= 1


def test_what_serves_training_serves_scoring_too(cohort, scans, tmp_path) -> None:
    """Averaged mirror images, averaged weights, drawn classes, mixed pairs, parts of a step: same probabilities."""
    sections = {
        "augment": {"flip_axes": ["x", "z"], "test_time": True, "mixup": 0.3, "cutout": 0.2},
        "train": {
            "ema": 0.9,
            "imbalance": "sampler",
            "loss": "focal",
            "accumulate": 2,
            "layer_decay": 0.8,
            "recompute": True,
        },
    }
    assert train(tmp_path, cohort, **sections) == 0
    table = pd.read_csv(tmp_path / "run" / "predictions.csv", dtype=str).set_index("scan_id")
    paths = pd.read_csv(cohort / "scans.csv", dtype=str).set_index("scan_id")["path"]
    model = load_model(tmp_path / "run" / "model")
    assert model.settings.test_time_flips == ("x", "z")
    volume = read_volume(scans / "scans" / paths.iloc[0])
    p = model.predict(volume).probabilities["bright"]
    assert p == pytest.approx(float(table.loc[table.index[0], "p_bright"]), abs=2e-6)
    mirrored = replace(volume, voxels=np.ascontiguousarray(volume.voxels[::-1]))
    assert model.predict(mirrored).probabilities["bright"] == pytest.approx(p, abs=1e-5)


@pytest.mark.parametrize("sections", [{"train": {"ema": 0.8}}, {"model": {"dropout": 0.5}}])
def test_averages_and_dropout_go_on_after_a_stop_bit_for_bit(cohort, tmp_path, sections) -> None:
    from pipeline.model.learner import EpochReport

    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    assert train(tmp_path / "whole", cohort, **sections) == 0
    with pytest.MonkeyPatch.context() as patch:

        def stop(self, trainer, module):
            if trainer.current_epoch == 1:
                raise KeyboardInterrupt

        patch.setattr(EpochReport, "on_train_epoch_start", stop)
        assert train(tmp_path / "cut", cohort, **sections) == 130
    assert train(tmp_path / "cut", cohort, "--resume", **sections) == 0
    a, b = (load_file(tmp_path / name / "run" / "model" / "weights.safetensors") for name in ("whole", "cut"))
    assert all(np.array_equal(a[k], b[k]) for k in a)


def test_a_loss_that_is_no_number_names_its_scans(cohort, tmp_path, capsys) -> None:
    from pipeline.model import learner

    def spoilt(logits, targets, *rest):
        spoilt.calls += 1
        return logits.sum() * (float("nan") if spoilt.calls == 9 else 0.0)

    spoilt.calls = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learner, "classification_loss", spoilt)
        assert train(tmp_path, cohort) == 2
    said = capsys.readouterr().err
    assert "the loss is not a finite number in epoch 2" in said
    ids = set(pd.read_csv(cohort / "scans.csv", dtype=str)["scan_id"])
    named = set(re.findall(r"[0-9a-f]{16}", said))
    assert named
    assert named <= ids
    assert torch.load(tmp_path / "run" / "checkpoints" / "single" / "last.ckpt", weights_only=True)["epoch"] == 0


def test_where_memory_ends_the_step_passes_in_parts(cohort, tmp_path, capsys) -> None:
    from pipeline.model.backbone import Classifier

    forward = Classifier.forward

    def small_memory(self, inputs):
        if len(inputs) > 2 and self.training:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, inputs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Classifier, "forward", small_memory)
        assert train(tmp_path, cohort) == 0
        said = capsys.readouterr().out
        assert "out of memory with 8 scans at once: going on with 4, 2 times a step" in said
        assert "out of memory with 4 scans at once: going on with 2, 4 times a step" in said
        patch.setattr(Classifier, "forward", lambda self, inputs: small_memory(self, inputs.repeat(3, 1, 1, 1, 1)))
        shutil.rmtree(tmp_path / "run")
        assert train(tmp_path, cohort) == 2
        assert "one scan is too large for the memory" in capsys.readouterr().err


def test_a_batch_that_no_memory_holds_is_refused_before_anything_is_read(cohort, tmp_path, capsys) -> None:
    big = {"preprocess": {"size": [512, 512, 512], "intensity": "window", "window": [0, 3]}}
    assert train(tmp_path, cohort, "--train.batch_size", "1024", **big) == 2
    said = capsys.readouterr().err
    assert "train.batch_size: 1,024 scans of 512 x 512 x 512 voxels at once with" in said
    assert "GB are available;" in said
    assert not (tmp_path / "run").exists()


def test_a_batch_size_that_is_chosen_is_said_kept_and_taken_up_again(cohort, tmp_path, capsys, monkeypatch) -> None:
    assert train(tmp_path, cohort, "--train.batch_size", "auto", "--train.epochs", "1") == 0
    said = re.search(r"train\.batch_size: auto is (\d+) here, for (\d+) scans on a CPU", capsys.readouterr().out)
    assert (said[1], said[2]) == ("2", "28")
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["train"]["batch_size"] == 2
    monkeypatch.setattr("pipeline.model.batch.MOST", 1)
    assert train(tmp_path, cohort, "--train.batch_size", "auto", "--train.epochs", "1", "--resume") == 0


def test_mlflow_by_one_key_learns_numbers_and_no_folders(cohort, tmp_path, monkeypatch) -> None:
    pytest.importorskip("mlflow")
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_ALLOW_FILE_STORE"):
        monkeypatch.delenv(name, raising=False)
    assert train(tmp_path, cohort, "--train.tracking", "mlflow", "--train.epochs", "2") == 0
    store = tmp_path / "run" / "mlruns"
    (auroc,) = store.glob("*/*/metrics/tune_auroc")
    history = pd.read_csv(tmp_path / "run" / "history.csv")
    assert [float(line.split()[1]) for line in auroc.read_text().splitlines()] == pytest.approx(history["tune_auroc"])
    params = auroc.parents[1] / "params"
    assert (params / "train" / "epochs").read_text() == "2"
    assert not (params / "cohort").exists()
    told = [path.read_text() for path in store.rglob("*") if path.is_file() and path.parent.name != "metrics"]
    assert not any(str(cohort) in text for text in told)


def test_mlflow_that_is_not_there(cohort, tmp_path, capsys, monkeypatch) -> None:
    from pipeline.model import tracking

    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://someone:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert train(tmp_path, cohort, "--train.tracking", "mlflow") == 2
    said = capsys.readouterr().err
    assert "train.tracking: MLflow can't be used (INTERNAL_ERROR); set MLFLOW_TRACKING_URI" in said
    assert "secret" not in said
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    assert train(tmp_path, cohort, "--train.tracking", "mlflow") == 2
    assert "mlflow is not installed; pip install 'scanline[tracking]'" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_folds_that_the_cohort_does_not_have(cohort, tmp_path, capsys) -> None:
    assert train(tmp_path, cohort, "--train.folds", "7") == 2
    assert "7 asked for, the cohort has 3" in capsys.readouterr().err


def test_multiclass_probabilities_sum_to_one(scans, tmp_path) -> None:
    cohort = cohort_of(scans, tmp_path / "cohort", "grade", folds=0)
    assert train(tmp_path, cohort, "--train.epochs", "2") == 0
    table = pd.read_csv(tmp_path / "run" / "predictions.csv")
    names = [c for c in table.columns if c.startswith("p_")]
    assert names == ["p_grade=0", "p_grade=1", "p_grade=2"]
    np.testing.assert_allclose(table[names].sum(axis=1), 1, atol=3e-6)


def test_multilabel_with_missing_labels(scans, tmp_path) -> None:
    cohort = cohort_of(scans, tmp_path / "cohort", "bright", "left", folds=0)
    assert train(tmp_path, cohort, "--train.epochs", "2") == 0
    table = pd.read_csv(tmp_path / "run" / "predictions.csv")
    assert table["y_left"].isna().sum() == 10
    assert table[["p_bright", "p_left"]].notna().all().all()


def test_a_run_is_never_overwritten(cohort, tmp_path, capsys) -> None:
    assert train(tmp_path, cohort, "--train.epochs", "1") == 0
    assert train(tmp_path, cohort, "--train.epochs", "1") == 2
    assert "holds a run already; go on with --resume" in capsys.readouterr().err
    assert train(tmp_path, cohort, "--train.epochs", "2", "--resume") == 2
    assert "  train.epochs: 2 now, 1 before" in capsys.readouterr().err


def test_three_mistakes_are_reported_at_once(tmp_path, capsys) -> None:
    path = config_file(tmp_path, train={"epochs": 0, "lr": 1}, model={"backbone": 5})
    assert main([str(path)]) == 2
    said = capsys.readouterr().err
    assert "train.epochs: Input should be greater than 0, got '0'" in said
    assert "train.lr: Extra inputs are not permitted" in said
    assert "model.backbone: Input should be a valid string" in said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("!!python/object/apply:os.system ['true']", "no tags or objects"),
        ("a: &x [1]\nb: *x", "aliases"),
        ("- 1", "expected keys and values, found list"),
        ("train: {learning_rate: .nan}", "train.learning_rate"),
        ("train: {batch_size: 2.5}", "train.batch_size: give a whole number from 1 to 65536, or auto; got '2.5'"),
        ("train: {batch_size: 1000000000}", "train.batch_size: give a whole number from 1 to 65536, or auto"),
        ("train: {batch_size: true}", "train.batch_size: true and false"),
        ("train: {batch_size: auto, accumulate: 2}", "batch_size: auto is for one device and whole batches"),
        ("train: {batch_size: auto, devices: 2}", "batch_size: auto is for one device and whole batches"),
        ("train: {batch_size: 8, accumulate: 3}", "accumulate must divide batch_size (8) without rest"),
        ("train: {seed: 1, seed: 2}\nname: a\nname: b", "given twice, and only one can count: name, train.seed"),
        ("[" * 500, "is not plain YAML"),
        ("train: {epochs: true}", "train.epochs: true and false (in YAML also on, off, yes, no) mean nothing here"),
        ("train: {learning_rate: on}", "train.learning_rate: true and false"),
        ("preprocess: {size: [true, 64, 64]}", "preprocess.size: true and false"),
        ("train: {seed: -1}", "train.seed: Input should be greater than or equal to 0, got '-1'"),
        ("augment: {test_time: true}", "augment.test_time averages mirror images along flip_axes, and there are none"),
        ("augment: {mixup: 0.2}\ntrain: {batch_size: 1}", "augment.mixup mixes scans that pass through the network"),
        ("augment: {mixup: 0.2}\ntrain: {batch_size: 4, accumulate: 4}", "lets one pass at a time"),
        ("train: {folds: 1}", "folds must be 0 (the split) or at least 2"),
        ("model: {width: 0.001}", "model.width: Input should be greater than or equal to"),
        ("$import os: 1", "$import os: Extra inputs are not permitted"),
        ("model: {_target_: os.system}", "model._target_: Extra inputs are not permitted"),
        ("evaluate: {target: often}\ncohort: {folder: x}", 'evaluate.target: expected "youden"'),
        ("name: x", "cohort.folder: name the COHORT folder"),
        ("cohort: {folder: nowhere}", "nowhere"),
    ],
)
def test_configs_that_can_not_be_used(tmp_path, capsys, text, message) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    assert main([str(path), "--out", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_scans_that_are_gone(cohort, scans, tmp_path, capsys) -> None:
    moved = shutil.copytree(cohort, tmp_path / "cohort")
    facts = json.loads((moved / "fingerprint.json").read_text())
    (tmp_path / "empty").mkdir()
    text = json.dumps(facts).replace(str(scans / "scans"), str(tmp_path / "empty"))
    (moved / "fingerprint.json").write_text(text)
    shutil.rmtree(moved / "cache", ignore_errors=True)
    assert train(tmp_path, moved) == 2
    assert "no longer under the cohort's scans folder: 48 of 48 scans" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["--help"]])
def test_the_command_explains_itself(words) -> None:
    done = subprocess.run([sys.executable, "-m", "pipeline.train", *words], capture_output=True, text=True, check=False)
    assert done.returncode == (0 if words else 2)
    assert "python -m pipeline.train configs/demo.yaml" in done.stdout
    assert done.stdout.count("usage:") == 1
    if words:
        assert "Peak learning rate of AdamW. (default: 0.001)" in " ".join(done.stdout.split()).replace("│ │ ", "")


@pytest.mark.slow
def test_two_processes_train_one_model(cohort, tmp_path) -> None:
    """Over gloo: one table with a row a scan, one row an epoch, and the model folder repeats its numbers."""
    words = ["--cohort.folder", str(cohort), "--out", str(tmp_path / "run"), "--train.devices", "2"]
    path = config_file(tmp_path, train={"epochs": 4})
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.train", str(path), *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("model folder") == 1
    table = pd.read_csv(tmp_path / "run" / "predictions.csv", dtype={"scan_id": str})
    assert len(table) == table["scan_id"].nunique() == 48
    assert pd.read_csv(tmp_path / "run" / "history.csv")["epoch"].tolist() == [1, 2, 3, 4]
    assert roc_auc_score(table["y_bright"], table["p_bright"]) > 0.8


@pytest.mark.parametrize(
    ("backbone", "rules", "strategy"),
    [
        ("resnet18", {}, "ddp"),
        ("seresnext50_32x4d", {"strategy": "ddp"}, "ddp"),
        ("resnet18", {"strategy": "ddp", "unfreeze_epochs": 1}, "ddp_find_unused_parameters_true"),
        ("convnext_atto", {}, "ddp_find_unused_parameters_true"),
    ],
)
def test_processes_do_not_wait_for_weights_that_never_learn(tmp_path, monkeypatch, backbone, rules, strategy) -> None:
    from pipeline.model import fit

    asked = dict[str, object]()
    monkeypatch.setattr(fit.lightning, "Trainer", lambda **words: asked.update(words))
    config = Config.model_validate(
        {"out": tmp_path, "model": {"backbone": backbone, "weights": "w.pth"}, "train": {"devices": 2, **rules}}
    )
    fit.build_trainer(Job("single", np.arange(2), np.arange(2), True), config, lambda *_: None)
    assert asked["strategy"] == strategy


def test_processes_share_an_epoch_without_overlap() -> None:
    from pipeline.model.dataset import EpochSampler

    shares = [list(EpochSampler(11, 0, share=(rank, 3))) for rank in range(3)]
    assert [len(share) for share in shares] == [3, 3, 3]
    assert len(set().union(*shares)) == 9
    alone = list(EpochSampler(11, 0))
    assert shares[1] == alone[1::3][:3]


def test_inputs_turn_in_their_own_millimetres(cohort, tmp_path, monkeypatch) -> None:
    from pipeline.model import learner

    seen, draw = [], learner.draw

    def drawn(rules, widths, *more):
        seen.append(widths)
        return draw(rules, widths, *more)

    monkeypatch.setattr(learner, "draw", drawn)
    assert train(tmp_path, cohort, "--train.epochs", "1", preprocess={"spacing_mm": [1, 1, 5]}) == 0
    assert seen
    assert all(torch.equal(widths, torch.tensor([16.0, 16.0, 80.0]).expand_as(widths)) for widths in seen)


def test_scans_unlike_those_learned_from_are_marked(scans, tmp_path) -> None:
    """All air, noise, stripes: out of distribution; the scans themselves mostly are not."""
    cohort = cohort_of(scans, tmp_path / "cohort", "bright")
    assert train(tmp_path, cohort, "--train.folds", "3") == 0
    model = load_model(tmp_path / "run" / "model")
    assert len(model.gates) == 3
    own = [read_volume(path) for path in sorted((scans / "scans").iterdir())]
    near = [model.predict(volume).in_distribution for volume in own]
    assert np.mean(near) > 0.9
    rng = np.random.default_rng(0)
    shape = own[0].voxels.shape
    stripes = np.where(np.arange(16) % 4 < 2, 3, 0) * np.ones(shape)
    for strange in (np.zeros(shape), rng.uniform(0, 3, shape), stripes):
        prediction = model.predict(replace(own[0], voxels=strange.astype(np.float32)))
        assert prediction.in_distribution is False
        assert "ood" in prediction.warnings


def test_too_few_scans_for_a_gate_are_said(cohort, tmp_path, capsys) -> None:
    assert train(tmp_path, cohort, "--train.epochs", "1") == 0
    assert "too few scans for a gate" in capsys.readouterr().out
    model = load_model(tmp_path / "run" / "model")
    assert model.gates == ()


def test_a_config_that_fails_does_not_take_the_folder(cohort, tmp_path, capsys) -> None:
    """What is wrong is found before the run folder is claimed, so that the corrected command simply works."""
    assert train(tmp_path, cohort, "--train.folds", "7") == 2
    assert train(tmp_path, cohort, "--model.backbone", "resnet19") == 2
    assert train(tmp_path, cohort, "--train.precision", "bf16") == 2
    assert train(tmp_path, cohort, "--train.strategy", "nonsense") == 2
    assert "strategy: nonsense" in capsys.readouterr().err
    assert train(tmp_path, cohort, "--train.batch_size", "1", "--model.stem_pool", "true") == 2
    assert "leaves one value a channel" in capsys.readouterr().err
    flat = {"preprocess": {"size": [16, 16]}, "model": {"dimensions": 2, "backbone": "resnet18", "width": 1.0}}
    assert train(tmp_path, cohort, **flat, augment={"flip_axes": []}) == 2
    assert "none of 48 scans can be used as this config asks; the first: " in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    capsys.readouterr()
    assert train(tmp_path, cohort, "--train.epochs", "1", "--train.seed", "20261124") == 0


def test_a_finished_run_that_is_resumed_stays_the_same_model(cohort, tmp_path) -> None:
    """Also where it had stopped early: going on would train past the stop."""
    words = ["--train.patience", "1", "--train.epochs", "8", "--train.learning_rate", "1e-9"]
    assert train(tmp_path, cohort, *words) == 0
    run = tmp_path / "run"
    epochs = len(pd.read_csv(run / "history.csv"))
    assert epochs < 8
    before = {p.name: p.read_bytes() for p in (run / "model").iterdir()}
    assert train(tmp_path, cohort, *words, "--resume") == 0
    assert {p.name: p.read_bytes() for p in (run / "model").iterdir()} == before
    assert len(pd.read_csv(run / "history.csv")) == epochs


@pytest.mark.parametrize("axes", [["x", "x"], ["x", "z"]])
def test_axes_that_can_not_be_flipped(tmp_path, capsys, axes) -> None:
    path = config_file(
        tmp_path, preprocess={"size": [16, 16]}, model={"dimensions": 2, "backbone": "resnet18", "width": 1.0},
        augment={"flip_axes": axes},
    )  # fmt: skip
    assert main([str(path)]) == 2
    assert "augment.flip_axes: each axis once, and no z in 2D" in capsys.readouterr().err


def test_lightnings_own_number_counts_inside_a_slurm_shell(monkeypatch) -> None:
    from pipeline.model.processes import RANKS, rank

    for name in RANKS:
        monkeypatch.delenv(name, raising=False)
    assert rank() == 0
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert rank() == 3


def test_the_config_that_prepare_proposes_learns_from_colour_pictures(tmp_path) -> None:
    """One gray picture among them: it is repeated over the three channels."""
    from PIL import Image

    (tmp_path / "scans").mkdir()
    for n in range(24):
        pixels = np.random.default_rng(n).integers(0, 80, (32, 32, 3), dtype=np.uint8)
        pixels[..., 0] += 100 * (n % 2)
        Image.fromarray(pixels if n else pixels[..., 1]).save(tmp_path / "scans" / f"p{n:02d}.png")
    rows = [(f"p{n:02d}.png", f"P{n}", n % 2) for n in range(24)]
    pd.DataFrame(rows, columns=["path", "patient_id", "red"]).to_csv(tmp_path / "labels.csv", index=False)
    cohort_of(tmp_path, tmp_path / "cohort", "red")
    words = ["--train.epochs", "1", "--train.folds", "0", "--train.workers", "0", "--train.accelerator", "cpu"]
    assert main([str(tmp_path / "cohort" / "config.yaml"), *words]) == 0
    model = load_model(tmp_path / "run" / "model")
    assert model.settings.model.channels == 3
    assert 0 <= model.predict(tmp_path / "scans" / "p00.png").probabilities["red"] <= 1


@pytest.mark.parametrize(
    ("words", "pool"),
    [(["true"], True), (["True"], True), (["false"], False), ([], True), (["--model.no-stem_pool"], False)],
)
def test_a_switch_takes_a_value_like_any_other_key(tmp_path, words, pool) -> None:
    path = config_file(tmp_path, model={"stem_pool": not pool})
    key = [] if words == ["--model.no-stem_pool"] else ["--model.stem_pool"]
    config, resume = parse([str(path), *key, *words, "--name", "true", "--resume"])
    assert (config.model.stem_pool, config.name, resume) == (pool, "true", True)
