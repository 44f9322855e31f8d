import numpy as np
import pandas as pd
import pytest

from pipeline.evaluation.assess import assess
from pipeline.evaluation.class_sets import class_limits, class_sets
from pipeline.evaluation.table import check_predictions
from pipeline.sections import EvaluateSection

SECTION = EvaluateSection(coverage=0.9, resamples=20)
NAMES = ["o=a", "o=b", "o=c"]


def scans(rng: np.random.Generator, n: int, split: str, gain: float = 1.5, folds: int = 1) -> pd.DataFrame:
    truth = rng.choice(3, n, p=[0.6, 0.3, 0.1])
    z = gain * np.eye(3)[truth] + rng.normal(size=(n, 3))
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    rows = pd.DataFrame({"scan_id": [f"{split}{k:05d}" for k in range(n)], "split": split, "status": "ok"})
    rows["patient"], rows["fold"] = rows["scan_id"], [str(k % folds) for k in range(n)]
    for k, name in enumerate(NAMES):
        rows[f"y_{name}"], rows[f"p_{name}"] = (truth == k).astype(float), p[:, k]
    return rows


def test_every_class_is_covered_on_average_also_the_rare_one() -> None:
    rng, covered = np.random.default_rng(0), []
    for _ in range(60):
        tune, test = scans(rng, 300, "tune"), scans(rng, 300, "test")
        truth, p = test[[f"y_{f}" for f in NAMES]].to_numpy().argmax(1), test[[f"p_{f}" for f in NAMES]].to_numpy()
        tune_truth = tune[[f"y_{f}" for f in NAMES]].to_numpy().argmax(1)
        limits = class_limits(tune_truth, tune[[f"p_{f}" for f in NAMES]].to_numpy(), 0.9)
        held = (1 - p <= limits)[np.arange(len(p)), truth]
        covered.append([held[truth == k].mean() for k in range(3)])
    assert np.mean(covered, axis=0) == pytest.approx([0.9, 0.9, 0.9], abs=0.03)
    assert (np.mean(covered, axis=0) > 0.89).all()


def test_a_class_with_too_few_scans_is_in_every_set() -> None:
    p = np.array([[0.9, 0.1], [0.8, 0.2]])
    assert list(class_limits(np.array([0, 0]), p, 0.9)) == [1.0, 1.0]
    assert class_limits(np.zeros(19, dtype=int), np.tile(p[:1], (19, 1)), 0.9)[0] == pytest.approx(0.1)


def test_sets_over_all_classes_are_in_the_evaluation() -> None:
    rng = np.random.default_rng(1)
    table = check_predictions(pd.concat([scans(rng, 300, "tune"), scans(rng, 400, "test")]).astype(str), "P")
    found = assess(table, SECTION, {})
    sets = found["test"]["overall"]["prediction_sets"]
    assert sets["coverage"]["value"] == pytest.approx(0.9, abs=0.06)
    assert 1 < sets["mean_size"] < 3
    assert sets["single_answer"]["value"] < 1
    assert found["tune"]["overall"]["prediction_sets"]["reason"] == "the tune split itself sets the limits"


def test_out_of_fold_scans_are_judged_by_the_other_folds() -> None:
    rows = scans(np.random.default_rng(2), 600, "oof", folds=3)
    found = class_sets(rows, rows.iloc[:0], NAMES, SECTION)
    assert found["coverage"]["value"] == pytest.approx(0.9, abs=0.05)


def test_without_limits_or_labels_the_reason_is_told() -> None:
    rows = scans(np.random.default_rng(3), 20, "test")
    assert class_sets(rows, rows.iloc[:0], NAMES, SECTION)["reason"] == "no labelled tune split to set the limits on"
    bare = rows.assign(**{f"y_{name}": np.nan for name in NAMES})
    assert class_sets(bare, rows, NAMES, SECTION)["reason"] == "no labelled scans"
