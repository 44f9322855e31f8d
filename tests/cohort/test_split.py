from collections import Counter

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.cohort.leakage import leaks, patients, together
from pipeline.cohort.split import check_classes, folds_of, split_of
from pipeline.cohort.task import memberships, task_of
from pipeline.domain import UsageError
from pipeline.sections import CohortSection
from tests.cohort.cases import table


def members_of(rows: pd.DataFrame) -> pd.DataFrame:
    return memberships(rows, task_of(rows[["label"]]))


def splits(rows: pd.DataFrame, section: CohortSection, group_by: str | None = None) -> pd.DataFrame:
    groups = together(rows, by_content=True, group_by=group_by)
    return rows.assign(split=split_of(members_of(rows), rows, groups, section))


def cohort(n_patients: int, scans_each: int = 1, every: int = 2) -> pd.DataFrame:
    """Patients of which one in `every` has label 1."""
    return table([
        {"patient_id": f"p{n}", "label": str(int(n % every == 0)), "site": "ABC"[n % 3]}
        for n in range(n_patients) for _ in range(scans_each)
    ])  # fmt: skip


@st.composite
def random_cohorts(draw: st.DrawFn) -> pd.DataFrame:
    """Enough patients for a split; some with several scans, both labels, or an image of somebody else."""
    n_patients = draw(st.integers(24, 60))
    rows = []
    for n in range(n_patients):
        for _ in range(draw(st.integers(1, 3))):
            label = str(n % 2) if n < 20 else draw(st.sampled_from("01"))
            rows.append({"patient_id": f"p{n}" if n % 7 else "", "label": label})
    made = table(rows)
    for _ in range(draw(st.integers(0, 4))):
        one, other = draw(st.integers(0, len(made) - 1)), draw(st.integers(0, len(made) - 1))
        made.loc[one, "content_sha256"] = made.loc[other, "content_sha256"]
    return made


@settings(max_examples=25, deadline=None)
@given(random_cohorts(), st.integers(0, 5), st.randoms(use_true_random=False))
def test_any_cohort_is_split_without_leaks_whatever_the_order_of_rows(made: pd.DataFrame, seed: int, random) -> None:
    section = CohortSection(seed=seed)
    done = splits(made, section)
    groups = together(done, by_content=True)
    done["fold"] = folds_of(members_of(done), done, groups, 4, seed)
    assert leaks(done) == []
    assert set(zip(done["split"], done["label"], strict=True)) == {
        (s, c) for s in ("train", "tune", "test") for c in "01"
    }
    for name, share in (("test", 0.2), ("tune", 0.2)):
        found = patients(done)[done["split"] == name].nunique() / patients(done).nunique()
        assert found == pytest.approx(share, abs=0.12)

    order = list(made.index)
    random.shuffle(order)
    shuffled = splits(made.loc[order], section)
    assert shuffled["split"].sort_index().equals(done["split"])


def test_equal_patients_give_exact_shares_in_every_class() -> None:
    done = splits(cohort(100, scans_each=2, every=5), CohortSection(seed=3))
    counts = Counter(zip(done["split"], done["label"], strict=True))
    assert counts == {
        ("train", "0"): 96, ("tune", "0"): 32, ("test", "0"): 32,
        ("train", "1"): 24, ("tune", "1"): 8, ("test", "1"): 8,
    }  # fmt: skip


def test_the_seed_decides() -> None:
    rows = cohort(40)
    first, again, other = (splits(rows, CohortSection(seed=seed))["split"] for seed in (0, 0, 1))
    assert first.equals(again)
    assert not first.equals(other)


@pytest.mark.parametrize(
    ("section", "names"),
    [
        (CohortSection(test_fraction=0), {"train", "tune"}),
        (CohortSection(tune_fraction=0), {"train", "test"}),
        (CohortSection(test_fraction=0, tune_fraction=0), {"train"}),
    ],
)
def test_a_share_of_0_gives_no_such_split(section: CohortSection, names: set[str]) -> None:
    assert set(splits(cohort(20), section)["split"]) == names


def test_few_patients_are_enough_if_each_class_has_one_for_each_split() -> None:
    done = splits(cohort(6), CohortSection())
    assert Counter(done["split"]) == {"train": 2, "tune": 2, "test": 2}


def test_too_few_patients_say_how_many_are_needed() -> None:
    rows = table(
        [{"patient_id": f"p{n}", "label": "0"} for n in range(9)]
        + [{"patient_id": f"q{n}", "label": "1"} for n in "ab"]
    )
    with pytest.raises(UsageError, match=r"needs at least 3 patients of each class.*\n  label=1: 2 patients\n"):
        splits(rows, CohortSection())
    assert set(splits(rows, CohortSection(tune_fraction=0))["split"]) == {"train", "test"}


def test_groups_that_must_not_part_are_counted_as_one() -> None:
    rows = cohort(18)
    rows["site"] = np.where(rows["label"] == "1", rows["site"].replace({"C": "A"}), rows["scan_id"])
    with pytest.raises(UsageError, match=r"label=1: 9 patients that must not part, in 2 groups"):
        splits(rows, CohortSection(), group_by="site")


@pytest.mark.parametrize(("labels", "says"), [("0001", "label=1: 1 "), ("0000", "label=1: 0 ")])
def test_classes_of_fewer_than_two_patients_are_refused_with_counts(labels: str, says: str) -> None:
    rows = table([{"patient_id": f"p{n}", "label": label} for n, label in enumerate(labels)])
    with pytest.raises(UsageError, match=rf"at least 2 patients.*found {says}\(all classes: label=0: "):
        check_classes(members_of(rows), patients(rows))


def test_held_out_values_are_the_test_split_with_all_scans_of_their_patients() -> None:
    rows = cohort(60)
    rows.loc[0, "patient_id"] = "p1"  # a patient of site B who was also seen at site A
    done = splits(rows, CohortSection(hold_out={"site": ["B"]}))
    assert set(done["patient_id"][done["split"] == "test"]) == set(rows["patient_id"][rows["site"] == "B"])
    assert done.loc[0, "split"] == "test"
    assert set(done["split"]) == {"train", "tune", "test"}
    assert (done["split"] == "tune").sum() == pytest.approx(39 * 0.25, abs=1)


def test_what_can_not_be_held_out_is_named() -> None:
    with pytest.raises(UsageError, match="no labelled scan has site Q; there are: A, B, C"):
        splits(cohort(12), CohortSection(hold_out={"site": ["Q"]}))
    with pytest.raises(UsageError, match="no column 'town'"):
        splits(cohort(12), CohortSection(hold_out={"town": ["Q"]}))


def test_folds_are_even_and_stratified() -> None:
    rows = cohort(50, every=5)
    groups = together(rows, by_content=True)
    fold = folds_of(members_of(rows), rows, groups, 5, seed=1)
    assert Counter(zip(fold, rows["label"], strict=True)) == {
        (str(f), c): n for f in range(5) for c, n in (("0", 8), ("1", 2))
    }


@pytest.mark.parametrize("folds", [0, 7])
def test_no_folds_where_none_are_asked_for_or_patients_are_too_few(folds: int) -> None:
    rows = cohort(6)
    assert set(folds_of(members_of(rows), rows, together(rows, by_content=True), folds, seed=0)) == {""}
