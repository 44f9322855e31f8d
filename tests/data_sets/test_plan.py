import warnings

import numpy as np
import pandas as pd
from pydicom import Dataset
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import permutation_test_score

from data.plan import Defect, Localizer, labels_of, plan, uid
from data.series import slices


def row_of(dataset: Dataset) -> dict[str, object]:
    """Every element of a header by keyword; multi-valued ones in columns of their own."""
    cells: dict[str, object] = {"syntax": str(dataset.file_meta.TransferSyntaxUID)}
    for element in dataset:
        if element.VR == "UI":
            continue
        values = element.value if element.VM > 1 else [element.value]
        cells |= {f"{element.keyword}{index}": value for index, value in enumerate(values)}
    return cells


def features_of(table: pd.DataFrame) -> np.ndarray:
    """Numbers scaled, text of up to 20 values as categories, longer text by the number in it."""
    columns = {}
    for name, cells in table.items():
        numbers = pd.to_numeric(cells.astype(str).str.extract(r"(-?\d+\.?\d*)", expand=False), errors="coerce")
        if cells.nunique() <= 20:
            for value in cells.unique():
                columns[f"{name}={value}"] = (cells == value).astype(float)
        elif numbers.notna().all():
            columns[name] = (numbers - numbers.mean()) / (numbers.std() + 1e-9)
    return pd.DataFrame(columns).to_numpy()


def chance(features: np.ndarray, labels: list[bool]) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn may stop before the last digit: no matter here
        _, _, p = permutation_test_score(
            LogisticRegression(C=0.02, max_iter=60), features, labels, scoring="roc_auc", cv=3, n_permutations=60,
            random_state=0,
        )  # fmt: skip
    return float(p)


def test_no_header_tells_who_has_a_nodule():
    patients = plan(0, 1000)
    labels = labels_of(0, 1000)
    table = pd.DataFrame([row_of(next(slices(patient, patient.visits[0], 0))) for patient in patients])
    features = features_of(table)
    assert features.shape[1] > 60
    assert chance(features, labels) > 0.05
    leaky = features.copy()
    leaky[:, 0] += 0.4 * np.array(labels)
    assert chance(leaky, labels) <= 0.05, "the test must be able to see a leak"


def test_half_of_the_patients_carry_a_nodule_and_the_plan_does_not_know():
    assert sum(labels_of(7, 120)) == 60
    assert labels_of(7, 120) != labels_of(8, 120)
    assert plan(7, 40)[:10] != plan(8, 40)[:10]


def test_plans_are_the_same_every_time_and_uids_valid_and_distinct():
    assert plan(1, 30) == plan(1, 30)
    found = [uid(0, n, "x") for n in range(200)]
    assert len(set(found)) == 200
    assert all(one.is_valid for one in found)


def test_the_demo_is_as_varied_as_life():
    patients = plan(0, 120)
    visits = [visit for patient in patients for visit in patient.visits]
    assert 140 <= len(visits) <= 170
    assert 4 <= sum(patient.as_nifti for patient in patients) <= 6
    assert sorted(p.defect for p in patients if p.defect is not Defect.NONE) == ["missing_slice", "truncated_file"]
    assert {patient.site for patient in patients} == {"A", "B", "C"}
    assert len({(visit.manufacturer, visit.model_name) for visit in visits}) == 8
    assert {visit.position for visit in visits} == {"HFS", "FFS", "HFP", "FFP"}
    assert len({visit.syntax for visit in visits}) == 4
    assert len({visit.coding for visit in visits}) == 7
    assert {visit.localizer for visit in visits} == set(Localizer)
    assert all(1.6 <= visit.spacing_mm[0] <= 2.4 and visit.shape[0] <= 192 for visit in visits)
    assert all(24 <= visit.shape[2] <= 40 and 5 <= visit.spacing_mm[2] <= 8.5 for visit in visits)
