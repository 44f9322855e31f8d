"""What may stand beside a scan: never another patient's."""

from dataclasses import replace
from pathlib import Path

from app.related import earlier_studies, other_views
from pipeline.domain import Scan

CT = Scan("a", Path("a"), (Path("a"),), "dicom", patient_id="P1", study_uid="1", modality="CT", acquired="20240105")
FILM = replace(CT, modality="DX")


def other(scan: Scan, **changes: str) -> Scan:
    return replace(scan, scan_id="b", **changes)


def test_earlier_studies_of_the_patient_come_newest_first():
    older, old = other(CT, study_uid="2", acquired="20200101"), other(CT, study_uid="3", acquired="20230101")
    assert earlier_studies([older, CT, old], CT) == [old, older]


def test_no_other_patient_modality_date_or_series_is_an_earlier_study():
    before = {"study_uid": "2", "acquired": "20200101"}
    for changes in (
        {"patient_id": "P2"}, {"patient_id": ""}, {"modality": "MR"}, {"acquired": "20250101"}, {"acquired": ""},
        {"study_uid": "1"},
    ):  # fmt: skip
        assert earlier_studies([other(CT, **(before | changes))], CT) == []


def test_a_scan_without_patient_or_date_has_no_earlier_study():
    for changes in ({"patient_id": ""}, {"acquired": ""}):
        unnamed = replace(CT, **changes)
        assert earlier_studies([other(unnamed, study_uid="2")], unnamed) == []


def test_other_views_are_of_the_same_study_and_radiographs():
    lateral = other(FILM)
    assert other_views([FILM, lateral, other(FILM, study_uid="9")], FILM) == [lateral]
    assert other_views([CT, other(CT)], CT) == []
    assert other_views([other(FILM, study_uid="")], replace(FILM, study_uid="")) == []
