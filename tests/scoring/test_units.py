from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from pipeline.domain import Scan
from pipeline.model.package import Model, load_model
from pipeline.scans.find import Survey
from pipeline.scoring.units import thresholds, unit_table, write_units
from tests.scoring.scenes import save_tiny_model

OWNERS = {"a": ("s1", "MRN1"), "b": ("s1", "MRN1"), "c": ("s2", "MRN1"), "d": ("", ""), "e": ("s3", "MRN2")}
SCANS = {
    name: Scan(name, Path(name), (Path(name),), "dicom", study_uid=study, patient_id=patient, accession_number="ACC")
    for name, (study, patient) in OWNERS.items()
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load_model(save_tiny_model(tmp_path_factory.mktemp("model") / "m"))


def by(model: Model, unit: str, aggregate: str = "max", **changes: object) -> Model:
    return replace(model, settings=model.settings.model_copy(update={"unit": unit, "aggregate": aggregate}), **changes)


def predictions() -> pd.DataFrame:
    """Five scans, one of them refused, a refused file that is no scan, and a scan that was not selected."""
    return pd.DataFrame({
        "scan_id": ["a", "b", "c", "d", "e", "", "f"],
        "status": ["ok", "ok", "ok", "ok", "rejected", "rejected", "not_selected"],
        "reason": ["", "", "", "", "truncated", "not_dicom", "modality"],
        "warnings": ["ood;no_rescale", "no_rescale", "", "", "", "", ""],
        "p_nodule": [0.2, 0.7, 0.4, 0.5, None, None, None],
        "in_distribution": pd.array([False, True, True, None, None, None, None], dtype="boolean"),
    })  # fmt: skip


@pytest.mark.parametrize(("aggregate", "expected", "positive"), [("max", 0.7, 1), ("mean", 0.45, 0)])
def test_a_study_is_the_largest_or_the_mean_of_its_readable_scans(
    tiny: Model, aggregate: str, expected: float, positive: int
) -> None:
    found = unit_table(predictions(), SCANS, by(tiny, "study", aggregate)).set_index("study")
    assert list(found.index) == ["a", "c", "d", "e"]
    assert found.loc["a", "p_nodule"] == pytest.approx(expected)
    assert found["positive_nodule"].tolist()[:3] == [positive, 0, 1]
    assert found.loc["a", ["n_scans", "n_ok", "scan_ids"]].tolist() == [2, 2, "a;b"]
    assert found.loc["a", "warnings"] == "ood;no_rescale"
    assert found["in_distribution"].tolist()[:2] == [False, True]
    assert found.loc["e", ["status", "reasons", "n_ok"]].tolist() == ["rejected", "truncated", 0]
    assert found.loc["e", ["p_nodule", "positive_nodule", "in_distribution"]].isna().all()


def test_a_patient_gathers_studies_and_a_scan_without_one_stands_alone(tiny: Model) -> None:
    found = unit_table(predictions(), SCANS, by(tiny, "patient"))
    assert found["scan_ids"].tolist() == ["a;b;c", "d", "e"]
    assert found["p_nodule"].tolist()[:2] == [0.7, 0.5]


@pytest.mark.parametrize("unit", ["study", "patient"])
def test_numbers_of_patients_are_left_out_unless_asked_for(tiny: Model, tmp_path: Path, unit: str) -> None:
    found = Survey(tmp_path, list(SCANS.values()), [], [])
    path = write_units(tmp_path, predictions(), found, by(tiny, unit), include_ids=False)
    assert path is not None
    assert "MRN" not in path.read_text()
    assert "s1" not in path.read_text()
    write_units(tmp_path, predictions(), found, by(tiny, unit), include_ids=True)
    assert pd.read_csv(path)["patient_id"].tolist()[0] == "MRN1"
    assert "in_distribution" in pd.read_csv(path, dtype=str)
    assert pd.read_csv(path, dtype=str)["in_distribution"].tolist()[0] == "false"


def test_a_model_that_judges_scans_writes_no_such_table(tiny: Model, tmp_path: Path) -> None:
    assert write_units(tmp_path, predictions(), Survey(tmp_path, list(SCANS.values()), [], []), tiny, False) is None
    assert list(tmp_path.iterdir()) == []


def test_no_scan_at_all_gives_an_empty_table(tiny: Model, tmp_path: Path) -> None:
    path = write_units(tmp_path, predictions()[:0], Survey(tmp_path, [], [], []), by(tiny, "study"), False)
    assert path is not None
    assert "p_nodule" in path.read_text()


def test_thresholds_are_those_that_the_evaluation_chose_for_the_unit(tiny: Model) -> None:
    found = {"unit": "study", "findings": {"nodule": {"operating_point": {"threshold": 0.3}}}}
    assert thresholds(by(tiny, "study", evaluation={"test": found})) == {"nodule": 0.3}
    assert thresholds(by(tiny, "patient", evaluation={"test": found})) == {"nodule": 0.5}
    undefined = {"unit": "study", "findings": {"nodule": {"operating_point": None}}}
    assert thresholds(by(tiny, "study", evaluation={"test": undefined})) == {"nodule": 0.5}
