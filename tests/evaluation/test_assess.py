import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    roc_auc_score,
    top_k_accuracy_score,
)

from pipeline.domain import OperatingPoint, UsageError
from pipeline.evaluation.assess import assess, choose_points, task_of
from pipeline.evaluation.operating_point import choose
from pipeline.evaluation.table import check_predictions
from pipeline.sections import EvaluateSection
from tests.evaluation.studies import table

SECTION = EvaluateSection(resamples=200)
POINT = {"nodule": OperatingPoint("nodule", 0.5, "youden")}


def random_table(n: int = 120, seed: int = 0, **columns: object) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    p = np.round(np.clip(0.25 * y + 0.75 * rng.random(n), 0, 1), 6)
    return table(y.tolist(), p.tolist(), **columns)


def evaluated(rows: pd.DataFrame, points: dict[str, OperatingPoint] = POINT, split: str = "test") -> dict:  # type: ignore[type-arg]
    return assess(check_predictions(rows, "P"), SECTION, points)[split]


def test_the_entry_has_everything_that_is_promised() -> None:
    found = evaluated(random_table(sex=["F", "M"] * 60))
    assert {"findings", "n_scans", "n_patients", "n_rejected", "subgroups"} <= set(found)
    numbers = found["findings"]["nodule"]
    for name in (
        "auroc",
        "average_precision",
        "sensitivity",
        "specificity",
        "ppv",
        "npv",
        "f1",
        "mcc",
        "balanced_accuracy",
        "brier",
    ):
        assert {"value", "low", "high", "level", "method", "n"} == set(numbers[name]), name
        assert numbers[name]["low"] < numbers[name]["value"] < numbers[name]["high"], name
    assert numbers["operating_point"] == {"threshold": 0.5, "target": "youden", "chosen_on": "tune"}
    assert sum(numbers["confusion"].values()) == found["n_scans"] == 120
    assert sum(b["n"] for b in numbers["calibration"]["bins"]) == 120
    assert set(found["subgroups"]["sex"]) == {"F", "M"}
    json.dumps(found, allow_nan=False)


def test_predictive_values_at_another_prevalence_follow_bayes() -> None:
    rows, section = check_predictions(random_table(), "P"), EvaluateSection(resamples=50, prevalence=0.02)
    numbers = assess(rows, section, POINT)["test"]["findings"]["nodule"]
    found, (se, sp) = numbers["at_prevalence"], (numbers[k]["value"] for k in ("sensitivity", "specificity"))
    assert found["ppv"]["value"] == pytest.approx(se * 0.02 / (se * 0.02 + (1 - sp) * 0.98))
    assert found["npv"]["value"] == pytest.approx(sp * 0.98 / (sp * 0.98 + (1 - se) * 0.02))
    assert found["ppv"]["low"] < found["ppv"]["value"] < found["ppv"]["high"]
    assert "at_prevalence" not in evaluated(random_table())["findings"]["nodule"]


def test_predictive_values_at_the_prevalence_of_the_table_are_the_observed_ones() -> None:
    rows = random_table()
    share = rows["y_nodule"].astype(float).mean()
    section = EvaluateSection(resamples=50, prevalence=share)
    numbers = assess(check_predictions(rows, "P"), section, POINT)["test"]["findings"]["nodule"]
    for name in ("ppv", "npv"):
        assert numbers["at_prevalence"][name]["value"] == pytest.approx(numbers[name]["value"], abs=1e-12)


def test_prediction_sets_take_their_limits_from_tune() -> None:
    rows = random_table(split=["tune"] * 60 + ["test"] * 60)
    found = assess(check_predictions(rows, "P"), SECTION, POINT)
    numbers = found["test"]["findings"]["nodule"]["abstention"]
    assert numbers["coverage"]["value"] > 0.75
    assert 0 < numbers["referred"]["value"] < 1
    assert found["tune"]["findings"]["nodule"]["abstention"]["reason"] == "the tune split itself sets the limits"


def test_numbers_are_those_of_the_table() -> None:
    rows = random_table()
    y, p = rows["y_nodule"].astype(float), rows["p_nodule"].astype(float)
    numbers = evaluated(rows)["findings"]["nodule"]
    assert numbers["auroc"]["value"] == pytest.approx(roc_auc_score(y, p))
    assert numbers["sensitivity"]["value"] == pytest.approx((p[y == 1] >= 0.5).mean())
    assert numbers["sensitivity"]["n"] == (y == 1).sum()
    assert numbers["ppv"]["n"] == (p >= 0.5).sum()


def test_one_scan_a_patient_takes_closed_forms_and_several_the_bootstrap() -> None:
    alone = evaluated(random_table())["findings"]["nodule"]
    assert (alone["auroc"]["method"], alone["sensitivity"]["method"]) == ("DeLong, logit scale", "Wilson")
    repeated = evaluated(random_table(patient=[f"p{k // 2}" for k in range(120)]))["findings"]["nodule"]
    assert {repeated[name]["method"] for name in ("auroc", "sensitivity")} == {"bootstrap by patient, logit scale"}


def test_row_order_changes_nothing() -> None:
    rows = random_table(patient=[f"p{k // 3}" for k in range(120)], site=["A", "B", "C"] * 40)
    assert evaluated(rows) == evaluated(rows.sample(frac=1, random_state=1))


def test_the_seed_is_what_decides_the_bootstrap() -> None:
    rows = check_predictions(random_table(), "P")
    first, again, other = (assess(rows, EvaluateSection(resamples=200, seed=s), POINT) for s in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize(("label", "said"), [(1, "6 of 6 scans are positive"), (0, "0 of 6 scans are positive")])
def test_one_class_is_undefined_not_one_half(label: int, said: str) -> None:
    numbers = evaluated(table([label] * 6, [0.1, 0.2, 0.6, 0.7, 0.8, 0.9]))["findings"]["nodule"]
    for name in ("auroc", "average_precision", "mcc", "balanced_accuracy", "f1"):
        assert numbers[name]["value"] is None
        assert said in numbers[name]["reason"]
    assert said in numbers["calibration"]["slope"]["reason"]
    there, missing = ("sensitivity", "specificity") if label else ("specificity", "sensitivity")
    assert numbers[there]["value"] is not None
    assert numbers[missing]["reason"].startswith("no ")


def test_ten_scans_give_honest_and_wide_intervals() -> None:
    numbers = evaluated(table([0] * 5 + [1] * 5, [0.1, 0.2, 0.3, 0.4, 0.45, 0.55, 0.6, 0.7, 0.8, 0.9]))["findings"][
        "nodule"
    ]
    assert numbers["auroc"]["value"] == numbers["sensitivity"]["value"] == 1
    assert numbers["auroc"]["low"] < 0.75
    assert numbers["sensitivity"]["low"] < 0.6
    assert numbers["mcc"]["low"] is None
    assert "no interval" in numbers["mcc"]["reason"]


def test_missing_labels_are_masked_for_each_finding() -> None:
    rows = table([0, 1, 1, 0, 1], [0.1, 0.9, 0.7, 0.2, 0.6]).assign(y_mass=["1", "", "0", "", ""], p_mass="0.5")
    rows.loc[4, "y_nodule"] = ""
    found = evaluated(rows)
    assert {f: n["n_scans"] for f, n in found["findings"].items()} == {"nodule": 4, "mass": 2}
    assert (found["n_scans"], found["n_unlabelled"]) == (4, 1)


def test_refused_scans_are_counted_not_scored() -> None:
    rows = table([0, 1, 1, 0], [0.1, 0.9, 0.7, ""], status=["ok", "ok", "ok", "rejected"])  # type: ignore[list-item]
    found = evaluated(rows)
    assert (found["n_scans"], found["n_patients"], found["n_rejected"]) == (3, 3, 1)


def test_out_of_fold_scans_are_decided_by_the_other_folds() -> None:
    folds = [str(k % 3) for k in range(120)]
    rows = random_table(split=["oof"] * 120, fold=folds)
    y, p = rows["y_nodule"].to_numpy(float), rows["p_nodule"].to_numpy(float)
    stored = choose("nodule", y, p, "youden", "oof")
    assert stored is not None
    positive = np.zeros(120, dtype=bool)
    for fold in "012":
        here = np.array(folds) == fold
        positive[here] = p[here] >= choose("nodule", y[~here], p[~here], "youden").threshold  # type: ignore[union-attr]
    numbers = evaluated(rows, {"nodule": stored}, "oof")["findings"]["nodule"]
    assert numbers["operating_point"]["cross_fitted"] is True
    assert numbers["operating_point"]["threshold"] == stored.threshold
    assert numbers["confusion"]["tp"] == (positive & (y == 1)).sum()
    assert (positive != (p >= stored.threshold)).any()  # else this test could not fail


def test_without_a_point_the_given_calls_are_used() -> None:
    rows = table([0, 1, 1, 0], [0.1, 0.9, 0.7, 0.2], positive_nodule=["False", "True", "0", "1"])
    numbers = evaluated(rows, {})["findings"]["nodule"]
    assert numbers["confusion"] == {"tp": 1, "fp": 1, "tn": 1, "fn": 1}
    assert numbers["operating_point"]["threshold"] is None


def test_without_point_and_calls_threshold_metrics_are_null_with_a_reason() -> None:
    numbers = evaluated(table([0, 1], [0.1, 0.9]), {})["findings"]["nodule"]
    assert numbers["auroc"]["value"] == 1
    assert numbers["sensitivity"]["value"] is None
    assert "no operating point" in numbers["sensitivity"]["reason"]
    assert numbers["confusion"] is None


def test_points_come_from_tune_alone() -> None:
    rows = random_table(split=["tune"] * 60 + ["test"] * 60)
    point = choose_points(check_predictions(rows, "P"), "youden")["nodule"]
    moved = rows.copy()
    moved.loc[60:, "p_nodule"] = "0.5"
    assert choose_points(check_predictions(moved, "P"), "youden")["nodule"] == point


def test_thresholds_chosen_on_test_are_refused() -> None:
    with pytest.raises(UsageError, match="nodule were chosen on the test split"):
        evaluated(random_table(), {"nodule": OperatingPoint("nodule", 0.5, "youden", "test")})


def test_training_scans_are_never_evaluated() -> None:
    rows = check_predictions(random_table(split=["train"] * 60 + ["tune"] * 30 + ["test"] * 30), "P")
    assert list(assess(rows, SECTION, POINT)) == ["test", "tune"]
    with pytest.raises(UsageError, match="no rows of split test, tune or oof; the predictions hold: train"):
        assess(rows[rows["split"] == "train"], SECTION, POINT)


def test_scans_without_a_split_are_not_evaluated() -> None:
    rows = check_predictions(random_table(split=["test"] * 60 + [""] * 60), "P")
    assert list(assess(rows, SECTION, POINT)) == ["test"]


def test_a_split_that_is_not_there_is_named() -> None:
    with pytest.raises(UsageError, match="no rows of split tune; the predictions hold: test"):
        assess(check_predictions(random_table(), "P"), SECTION, POINT, ["tune"])


def test_multiclass_overall_is_that_of_sklearn() -> None:
    rng, n = np.random.default_rng(2), 150
    truth = rng.integers(0, 3, n)
    p = rng.dirichlet([1, 1, 1], n) + 0.6 * np.eye(3)[truth]
    p = np.round(p / p.sum(axis=1, keepdims=True), 6)
    rows = table([0] * n, [0.5] * n).drop(columns=["y_nodule", "p_nodule"])
    for k, name in enumerate("abc"):
        rows[f"y_organ={name}"], rows[f"p_organ={name}"] = (truth == k).astype(int).astype(str), p[:, k].astype(str)
    found = evaluated(rows, {})["overall"]
    expected = np.mean([roc_auc_score(truth == k, p[:, k]) for k in range(3)])
    assert found["macro_auroc"]["value"] == pytest.approx(expected)
    assert found["accuracy"]["value"] == pytest.approx((p.argmax(axis=1) == truth).mean())
    assert np.sum(found["confusion"]["rows_true_columns_predicted"]) == n
    assert found["macro_auroc"]["low"] < expected < found["macro_auroc"]["high"]
    hot = np.eye(3)[truth]
    assert found["micro_auroc"]["value"] == pytest.approx(roc_auc_score(hot, p, average="micro"), abs=1e-12)
    expected = average_precision_score(hot, p, average="micro")
    assert found["micro_average_precision"]["value"] == pytest.approx(expected, abs=1e-12)
    assert found["balanced_accuracy"]["value"] == pytest.approx(balanced_accuracy_score(truth, p.argmax(axis=1)))
    assert found["top_2_accuracy"]["value"] == pytest.approx(top_k_accuracy_score(truth, p, k=2), abs=1e-12)
    assert found["top_2_accuracy"]["low"] < found["top_2_accuracy"]["value"] <= found["top_2_accuracy"]["high"]
    assert "top_3_accuracy" not in found


def test_micro_and_macro_averages_leave_missing_labels_out() -> None:
    rows = random_table(60)
    other = random_table(60, seed=1)
    rows["y_mass"], rows["p_mass"] = other["y_nodule"].where(rows.index % 3 > 0, ""), other["p_nodule"]
    found = evaluated(rows, {})["overall"]
    kept = rows.index % 3 > 0
    y = [rows["y_nodule"].astype(float), rows["y_mass"][kept].astype(float)]
    p = [rows["p_nodule"].astype(float), rows["p_mass"][kept].astype(float)]
    macro = np.mean([roc_auc_score(a, b) for a, b in zip(y, p, strict=True)])
    assert found["macro_auroc"]["value"] == pytest.approx(macro, abs=1e-12)
    micro = roc_auc_score(np.concatenate(y), np.concatenate(p))
    assert found["micro_auroc"]["value"] == pytest.approx(micro, abs=1e-12)


@pytest.mark.parametrize(
    ("findings", "task"),
    [
        (["nodule"], "binary"),
        (["a=1", "a=2"], "multiclass"),
        (["a", "b"], "multilabel"),
        (["a=1", "b=2"], "multilabel"),
    ],
)
def test_the_task_is_read_from_the_findings(findings: list[str], task: str) -> None:
    assert task_of(findings) == task
