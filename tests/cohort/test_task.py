import numpy as np
import pandas as pd
import pytest

from pipeline.cohort.task import Task, canonical, has_label, memberships, targets_of, task_of
from pipeline.domain import UsageError


def values(**columns: list[str]) -> pd.DataFrame:
    return pd.DataFrame(columns, dtype=str)


@pytest.mark.parametrize(
    ("columns", "task"),
    [
        ({"a": ["0", "1", ""]}, Task("binary", ("a",), ("0", "1"), ("a",))),
        ({"a": ["0.0", "1.0"]}, Task("binary", ("a",), ("0", "1"), ("a",))),
        ({"a": ["10", "2", "0"]}, Task("multiclass", ("a",), ("0", "2", "10"), ("a=0", "a=2", "a=10"))),
        ({"a": ["mild", "", "none"]}, Task("multiclass", ("a",), ("mild", "none"), ("a=mild", "a=none"))),
        ({"a": ["0", "1"], "b": ["", "1"]}, Task("multilabel", ("a", "b"), ("0", "1"), ("a", "b"))),
    ],
)
def test_columns_say_what_the_task_is(columns: dict[str, list[str]], task: Task) -> None:
    assert task_of(values(**columns)) == task


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"a": ["0", "1", "maybe"]}, "a: numbers and words are mixed; the odd values: 'maybe'"),
        ({"a": ["yes", "no", "1"]}, "mixed; the odd values: '1'"),
        ({"a": ["0", "0.5"]}, "a: expected classes, found numbers that are not whole: '0.5'"),
        ({"a": ["0", "1", "NaN"]}, "a: 'NaN' is no class; leave the cell empty"),
        ({"a": ["", ""]}, "a: every row is empty"),
        ({"a": ["Mild", "mild", "none"]}, "differ only in case: 'Mild', 'mild'"),
        ({"a": ["mild", "mild"]}, "only one class, 'mild'"),
        ({"a": [str(n) for n in range(101)]}, "101 different values; expected at most 100 classes"),
        ({"a": ["0", "1"], "b": ["-1", "1"]}, r"b: expected 0, 1 or empty \(several labels\), found '-1'"),
        ({"a": ["0", "x"], "b": ["2", "1"]}, "(?s)a: expected 0, 1.*found 'x'.*b: expected 0, 1.*found '2'"),
    ],
)
def test_what_is_no_class_is_named(columns: dict[str, list[str]], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        task_of(values(**columns))


def test_targets_of_a_binary_and_a_multilabel_task_keep_what_is_missing() -> None:
    columns = values(a=["0", "1", ""], b=["", "1", "0"])
    y = targets_of(columns, task_of(columns))
    np.testing.assert_array_equal(y.to_numpy(), [[0, np.nan], [1, 1], [np.nan, 0]])


def test_targets_of_a_multiclass_task_have_one_column_a_class() -> None:
    columns = values(a=["x", "y", "", "z"])
    y = targets_of(columns, task_of(columns))
    assert list(y) == ["a=x", "a=y", "a=z"]
    nan = np.nan
    np.testing.assert_array_equal(y.to_numpy(), [[1, 0, 0], [0, 1, 0], [nan, nan, nan], [0, 0, 1]])


def test_memberships_tell_both_classes_and_skip_what_is_missing() -> None:
    columns = values(a=["0", "1", ""])
    members = memberships(columns, task_of(columns))
    assert members.to_dict("list") == {"a=0": [True, False, False], "a=1": [False, True, False]}
    assert list(has_label(columns, ["a"])) == [True, True, False]


@pytest.mark.parametrize(
    ("cell", "told"), [("1.0", "1"), ("01", "1"), ("-1", "-1"), ("0.5", "0.5"), ("a", "a"), ("", "")]
)
def test_whole_numbers_lose_their_decimals(cell: str, told: str) -> None:
    assert canonical(cell) == told
