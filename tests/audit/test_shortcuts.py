import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline import prepare
from pipeline.audit.shortcuts import all_looks, border_look, header_look, probe_all, thumbnail_look
from pipeline.cohort.leakage import patients
from pipeline.cohort.manifest import read_cohort, targets
from pipeline.results.shortcuts import warnings_of
from pipeline.sections import EvaluateSection

DATASETS = Path(os.environ.get("SCAN_DATASETS", Path(__file__).parents[2] / ".." / "shared" / "datasets"))
SECTION = EvaluateSection(resamples=100)
N = 120


def cohort(seed=0):
    """Scans without any sign of their label; two of each patient."""
    rng = np.random.default_rng(seed)
    y = np.repeat(rng.permutation(N // 2) % 2, 2).astype(np.float32)
    table = pd.DataFrame({
        "modality": "CT", "manufacturer": rng.choice(["A", "B"], N), "age": rng.integers(20, 90, N).astype(str),
        "shape": "20x20x1", "spacing_mm": "1x1x1", "sex": rng.choice(["F", "M", ""], N),
    })  # fmt: skip
    inputs = rng.normal(0.5, 0.1, (N, 1, 20, 20)).astype(np.float32)
    return table, inputs, y, [f"P{n // 2}" for n in range(N)]


def probed(table, inputs, y, patients):
    looks = all_looks(table, inputs, np.arange(len(inputs)))
    return probe_all(looks, y[:, None], ["cancer"], patients, SECTION)["cancer"]


def test_where_nothing_gives_the_label_away_no_probe_finds_it() -> None:
    found = probed(*cohort())
    assert set(found) == {"header", "border", "thumbnail"}
    for name, auroc in found.items():
        assert auroc["low"] < 0.5, name  # cross-validation of pure chance tends to come out below 0.5
    assert warnings_of({"cancer": found}, {"cancer": 0.9}) == []


def test_a_scanner_that_gives_the_label_away_is_found_by_the_header_alone() -> None:
    table, inputs, y, patients = cohort()
    table["manufacturer"] = np.where(y == 1, "A", "B")
    found = probed(table, inputs, y, patients)
    assert found["header"]["value"] > 0.95
    assert found["border"]["value"] < 0.65
    (said,) = warnings_of({"cancer": found}, {"cancer": 0.97})
    assert said.startswith("cancer: the header (scanner, geometry, sex, age, body part, contrast agent) alone predicts")
    assert "near the model's 0.97" in said


@pytest.mark.parametrize(("rows", "columns"), [(slice(0, 1), slice(None)), (slice(None), slice(-1, None))])
def test_a_marker_at_the_border_is_found(rows, columns) -> None:
    table, inputs, y, patients = cohort()
    inputs[y == 1, :, rows, columns] += 0.5
    assert probed(table, inputs, y, patients)["border"]["value"] > 0.95


def test_brightness_of_a_region_is_found_by_the_thumbnail_and_not_by_the_border() -> None:
    table, inputs, y, patients = cohort()
    inputs[y == 1, :, 8:12, 8:12] += 0.3
    found = probed(table, inputs, y, patients)
    assert found["thumbnail"]["value"] > 0.95
    assert found["border"]["value"] < 0.65


def test_patients_are_never_split() -> None:
    """A mark of the patient would give the label away if his other scan were learned from."""
    table, inputs, y, patients = cohort()
    for n in range(0, N, 2):
        inputs[n : n + 2] += np.random.default_rng(n).normal(0, 1, (1, 20, 20))
    found = probed(table, inputs, y, patients)
    assert found["thumbnail"]["low"] < 0.5


def test_what_can_not_be_judged_says_so() -> None:
    table, inputs, y, patients = cohort()
    y[:] = 0
    y[:2] = 1  # one patient
    assert probed(table, inputs, y, patients)["header"]["value"] is None
    assert warnings_of({"cancer": probed(table, inputs, y, patients)}, {"cancer": 0.9}) == []


def test_missing_labels_are_left_out() -> None:
    table, inputs, y, patients = cohort()
    y[::3] = np.nan
    assert probed(table, inputs, y, patients)["thumbnail"]["n"] == np.isfinite(y).sum()


def test_looks() -> None:
    table, inputs, _, _ = cohort()
    table["age"] = pd.to_numeric(table["age"]).where(table["age"] != "30")  # as read back from scans.csv
    look = header_look(table)
    # manufacturers; age and whether it is missing; sexes; columns that never vary are left out
    assert look.shape == (N, 2 + 2 + 3)
    assert border_look(inputs).shape == (N, 8)
    assert thumbnail_look(inputs).shape == (N, 64)
    assert thumbnail_look(np.zeros((3, 1, 9, 8, 7), np.float32)).shape == (3, 64)
    np.testing.assert_allclose(thumbnail_look(np.ones((2, 1, 3, 5), np.float32)), 1)


@pytest.mark.parametrize(
    ("name", "low", "said"), [("header", 0.6, True), ("header", 0.48, False), ("thumbnail", 0.6, False)]
)
def test_a_header_that_says_much_is_told_however_good_the_model_is(name: str, low: float, said: bool) -> None:
    probes = {"cancer": {name: {"value": 0.75, "low": low, "high": 0.9}}}
    warnings = warnings_of(probes, {"cancer": 0.97})
    assert [("though it shows no anatomy; a part of the model's 0.97" in line) for line in warnings] == [True] * said


@pytest.mark.datasets
def test_the_header_of_siim_gives_the_contrast_away(tmp_path: Path) -> None:
    folder = DATASETS / "siim_ct_contrast"
    if not folder.is_dir():
        pytest.skip(f"data set siim_ct_contrast is not in {DATASETS} (set SCAN_DATASETS)")
    labels = pd.read_csv(folder / "labels.csv", dtype=str)[["path", "contrast", "patient_id"]]
    labels.to_csv(tmp_path / "l.csv", index=False)
    words = ["--labels", str(tmp_path / "l.csv"), "--label", "contrast", "--workers", "0"]
    assert prepare.main([str(folder), *words, "--out", str(tmp_path / "c")]) == 0
    cohort = read_cohort(tmp_path / "c")
    rows = np.flatnonzero((cohort.table["split"] != "test").to_numpy())
    look, y = header_look(cohort.table.iloc[rows]), targets(cohort).to_numpy(np.float32)[rows]
    found = probe_all({"header": look}, y, cohort.findings, list(patients(cohort.table).iloc[rows]), SECTION)
    assert found["contrast"]["header"]["value"] > 0.75
    (said,) = warnings_of(found, {"contrast": 0.97})
    assert "contrast agent) alone predicts the label with AUROC 0." in said
    agent = cohort.table.groupby("contrast")["contrast_agent"].agg(lambda told: (told == "yes").sum())
    assert dict(agent) == {"0": 0, "1": 11}
