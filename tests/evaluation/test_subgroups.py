import numpy as np
import pandas as pd
import pytest

from pipeline.domain import OperatingPoint
from pipeline.evaluation.assess import assess
from pipeline.evaluation.subgroups import MISSING, OTHER, groups_of
from pipeline.evaluation.table import check_predictions
from pipeline.sections import EvaluateSection
from tests.evaluation.studies import table


def groups(name: str, values: list[str]) -> list[str]:
    return groups_of(pd.Series(values, name=name)).tolist()


def test_words_stay_words() -> None:
    assert groups("sex", ["F", "M", "", "F"]) == ["F", "M", MISSING, "F"]


def test_ages_fall_into_fixed_bands() -> None:
    found = groups("age", ["17", "18", "39.9", "40", "79", "80", ""])
    assert found == [
        "below 18", "18 to below 40", "18 to below 40", "40 to below 50", "70 to below 80", "80 and above", MISSING,
    ]  # fmt: skip


def test_numbers_with_many_values_are_cut_at_their_thirds() -> None:
    found = pd.Series(groups("spacing", [str(k / 10) for k in range(30)]))
    assert found.value_counts().tolist() == [10, 10, 10]


def test_codes_with_few_values_stay_codes() -> None:
    assert groups("site", ["1", "2", "1", "2"]) == ["1", "2", "1", "2"]


def test_rare_words_become_other() -> None:
    found = groups("site", [f"s{k:02}" for k in range(20)] + [f"s{k:02}" for k in range(5)])
    assert found.count(OTHER) == 8
    assert "s00" in found


def test_groups_have_their_own_numbers_and_small_ones_are_said_to_be_small() -> None:
    rng = np.random.default_rng(0)
    y = np.tile([0, 1], 40)
    p = np.round(np.where(y == 1, 0.6, 0.4) + 0.3 * (rng.random(80) - 0.5), 4)
    site = ["A"] * 70 + ["B"] * 10
    p[70:] = 1 - p[70:]  # at site B the model is upside down
    rows = table(y.tolist(), p.tolist(), site=site, constant="same")
    found = assess(
        check_predictions(rows, "P"), EvaluateSection(resamples=50), {"nodule": OperatingPoint("nodule", 0.5, "youden")}
    )
    subgroups = found["test"]["subgroups"]
    assert list(subgroups) == ["site"]
    a, b = (subgroups["site"][name] for name in "AB")
    assert (a["n_scans"], b["n_patients"]) == (70, 10)
    assert a["findings"]["nodule"]["auroc"]["value"] > 0.9 > 0.1 > b["findings"]["nodule"]["auroc"]["value"]
    assert (a["findings"]["nodule"]["too_small"], b["findings"]["nodule"]["too_small"]) == (False, True)
    assert b["findings"]["nodule"]["n_positive"] == 5


def test_a_group_with_one_class_is_undefined() -> None:
    rows = table([0, 0, 1, 0], [0.1, 0.2, 0.9, 0.3], site=["A", "A", "B", "B"])
    found = assess(check_predictions(rows, "P"), EvaluateSection(resamples=50), {})["test"]["subgroups"]["site"]["A"]
    assert found["findings"]["nodule"]["auroc"]["value"] is None
    assert found["findings"]["nodule"]["auroc"]["reason"] == "only one class: 0 of 2 scans are positive"


@pytest.mark.parametrize("values", [["", "", ""], ["x", "x", "x"]])
def test_a_column_of_one_value_says_nothing(values: list[str]) -> None:
    rows = table([0, 1, 1], [0.1, 0.9, 0.8], site=values)
    assert assess(check_predictions(rows, "P"), EvaluateSection(resamples=50), {})["test"]["subgroups"] == {}
