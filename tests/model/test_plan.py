"""What is refused before training: a split or a fold without one of the classes, or without scans."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from pipeline.config import Config
from pipeline.domain import UsageError
from pipeline.model.plan import plan
from pipeline.sections import TrainSection

SPLIT = ["train"] * 4 + ["tune"] * 2 + ["test"] * 2


def jobs(y, split=SPLIT, usable=True, folds=0, fold=""):
    table = pd.DataFrame({"split": split, "fold": fold})
    cohort = SimpleNamespace(table=table, findings=("nodule",))
    y = np.array(y, dtype=np.float32)[:, None]
    config = Config(train=TrainSection(folds=folds))
    return plan(cohort, config, y, np.full(len(y), True) & usable)


def test_both_classes_in_train_and_tune_are_enough() -> None:
    (job,) = jobs([0, 1, 0, 1, 0, 1, 0, 0])
    assert (job.learn.tolist(), job.watch.tolist(), job.select) == ([0, 1, 2, 3], [4, 5], True)


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ({"y": [1, 1, 1, 1, 0, 1, 0, 1]}, "train: finding nodule has 4 positive and 0 negative scans; both are needed"),
        ({"y": [0, 0, 0, 0, 0, 1, 0, 1]}, "train: finding nodule has 0 positive and 4 negative scans"),
        ({"y": [0, 1, 0, 1, 1, 1, 0, 1]}, "tune: finding nodule has 2 positive and 0 negative scans"),
        ({"y": [0, 1] * 4, "split": ["train"] * 8}, "tune: no scans; prepare with another split"),
        ({"y": [0, 1] * 4, "split": ["tune"] * 8}, "train: no scans; prepare with another split"),
        (
            {"y": [0, 1] * 4, "usable": np.array([1, 0] * 4, bool)},
            "train: finding nodule has 0 positive and 2 negative",
        ),
        (
            {"y": [0, 1, 0, 0, 0, 0, 0, 0], "folds": 2, "fold": ["0", "1"] + ["0"] * 3 + ["1"] * 3},
            "training part of fold1: finding nodule has 0 positive and",
        ),
    ],
)
def test_a_class_that_is_missing_is_said_before_training(case, message) -> None:
    with pytest.raises(UsageError, match=f"(?s)the cohort can't be trained on:.*{message}"):
        jobs(**case)
