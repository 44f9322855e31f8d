"""Which series of a study are chosen, and the reason for each other; from headers, by every user alike."""

import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from pipeline import find_scans, read_volume
from pipeline.domain import ReadRules, Reason, Scan, ScanError, UsageError
from pipeline.scans.extent import extent_of
from pipeline.scans.find import survey
from pipeline.scans.instances import Extent, Plane
from pipeline.scans.select import check_accepted, choose
from tests.scans.phantoms import AXIAL, nifti, series
from tests.scans.test_enhanced import enhanced

ROOT = Path("/scans")
CANARY = "Lung of DOE JANE"


def scan(name: str, study: str = "1.2", spacing: float | None = 1.0, slices: int = 100, **fields: object) -> Scan:
    given = {"modality": "CT", "body_part": "CHEST", "description": CANARY, "kind": "dicom"} | fields
    return Scan(name, ROOT / name, (ROOT / name,), study_uid=study, n_slices=slices, slice_spacing_mm=spacing, **given)


@pytest.mark.parametrize(
    ("rules", "fields", "says"),
    [
        (ReadRules(modalities=("CT", "MR")), {"modality": "PT"}, "modality: expected CT or MR, found PT"),
        (ReadRules(body_parts=("chest",)), {"body_part": "HEAD"}, "body_part: expected chest, found HEAD"),
        (ReadRules(min_slices=20), {"slices": 19}, "too_few_slices: 19 slices; read.min_slices asks for at least 20"),
        (ReadRules(slice_spacing_mm=(0.5, 2)), {"spacing": 2.5}, "asks for 0.5 to 2 mm, found 2.5 mm"),
        (ReadRules(slice_spacing_mm=(0.5, 2)), {"spacing": 0.4}, "asks for 0.5 to 2 mm, found 0.4 mm"),
        (ReadRules(slice_spacing_mm=(0.5, 2)), {"spacing": None}, "slice_spacing: .* has no slice spacing"),
        (ReadRules(description="bone|^pelvis"), {}, "description: SeriesDescription does not match read.description"),
    ],
)
def test_a_scan_that_the_rules_exclude(rules, fields, says):
    with pytest.raises(ScanError, match=says) as refused:
        check_accepted(scan("a", **fields), rules)
    assert "JANE" not in str(refused.value)


@pytest.mark.parametrize(
    ("rules", "fields"),
    [
        (ReadRules(), {}),
        (ReadRules(modalities=("CT",), body_parts=("CHEST",), min_slices=100), {}),
        (ReadRules(body_parts=("CHEST",)), {"body_part": ""}),
        (ReadRules(min_slices=20), {"slices": 0}),
        (ReadRules(slice_spacing_mm=(1, 1)), {"spacing": 1.0004}),
        (ReadRules(description="LUNG"), {}),
        (ReadRules(description="lung"), {"kind": "nifti", "description": ""}),
    ],
)
def test_a_scan_that_the_rules_accept(rules, fields):
    check_accepted(scan("a", **fields), rules)


def names(scans) -> list[str]:
    return sorted(one.scan_id for one in scans)


def test_all_accepted_series_are_chosen_unless_one_is_asked_for():
    scans = [scan("thin"), scan("thick", spacing=5.0), scan("scout", slices=2, spacing=None)]
    chosen, others = choose(scans, ReadRules(min_slices=10))
    assert names(chosen) == ["thick", "thin"]
    assert [(one.scan.scan_id, one.reason) for one in others] == [("scout", Reason.TOO_FEW_SLICES)]
    chosen, others = choose(scans, ReadRules(min_slices=10, select="one"))
    assert names(chosen) == ["thin"]
    assert {one.scan.scan_id: one.reason for one in others} == {
        "scout": Reason.TOO_FEW_SLICES,
        "thick": Reason.NOT_PREFERRED,
    }
    (thick,) = (one for one in others if one.scan.scan_id == "thick")
    assert thick.detail == (
        "read.select is one: thin of the same study is preferred (100 slices, 1 mm apart; here 100 slices, 5 mm apart)"
    )


def test_most_slices_may_be_preferred_and_ties_have_one_answer():
    scans = [
        scan("b", slices=300, spacing=2.0),
        scan("c", spacing=1.0),
        scan("a", spacing=1.0),
        scan("d", spacing=None),
    ]
    for order in (scans, scans[::-1], scans[2:] + scans[:2]):
        assert names(choose(order, ReadRules(select="one"))[0]) == ["a"]
        assert names(choose(order, ReadRules(select="one", prefer="most_slices"))[0]) == ["b"]


def test_each_study_has_its_own_choice_and_a_scan_without_study_is_one():
    scans = [scan("a", "1"), scan("b", "1"), scan("c", "2", spacing=3.0), scan("n", "", kind="nifti"), scan("m", "")]
    assert names(choose(scans, ReadRules(select="one"))[0]) == ["a", "c", "m", "n"]


def test_a_study_of_which_nothing_is_accepted_stays_to_be_refused():
    scans = [scan("a", "1", modality="MR"), scan("b", "1", modality="PT"), scan("c", "2")]
    chosen, others = choose(scans, ReadRules(modalities=("CT",), select="one"))
    assert (names(chosen), others) == (["a", "b", "c"], [])


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ({"slice_spacing_mm": (3, 1)}, "smallest, then the largest"),
        ({"slice_spacing_mm": (float("nan"), 1)}, "smallest, then the largest"),
        ({"description": "(lung"}, "read.description is no regular expression"),
    ],
)
def test_rules_that_nothing_meets_are_told(rules, says):
    with pytest.raises(UsageError, match=says):
        ReadRules(**rules)
    with pytest.raises(ValidationError, match=says):
        TypeAdapter(ReadRules).validate_python(rules)


def test_rules_of_an_older_model_folder_are_read():
    old = {"allow_gaps": False, "assume_ras": False, "modalities": ["CT"], "allow_unknown_modality": True,
           "min_slices": 1, "max_voxels": 2_000_000_000}  # fmt: skip
    assert TypeAdapter(ReadRules).validate_python(old) == ReadRules(modalities=("CT",))
    assert TypeAdapter(ReadRules).validate_python(asdict(ReadRules(select="one"))) == ReadRules(select="one")


# The extent of a scan, from headers.


def planes(*z: float, orientation=AXIAL) -> list[Plane]:
    return [Plane(orientation, (0.0, 0.0, height), (1.0, 1.0), (8, 8)) for height in z]


@pytest.mark.parametrize(
    ("slices", "extent"),
    [
        (planes(0, 5, 2.5), (3, 2.5)),
        (planes(0, 0, 2, 2, 4, 4), (3, 2.0)),
        (planes(0, 2, 4, 20, 22), (5, 2.0)),
        (planes(7), (1, None)),
        (planes(7, 7), (1, None)),
        (planes(0, float("nan")), (1, None)),
        (planes(0, 1, orientation=(1, 0, 0, 1, 0, 0)), (2, None)),
        ([*planes(0, 1), Plane(AXIAL, None, None, (8, 8))], (3, None)),
    ],
)
def test_extent(slices, extent):
    assert extent_of(slices) == Extent(*extent)


def test_scans_know_their_extent_before_they_are_read(tmp_path):
    for path in (series(tmp_path / "classic"), enhanced(tmp_path / "enhanced.dcm")):
        (found,), _ = find_scans(path)
        volume = read_volume(found)
        assert (found.n_slices, found.slice_spacing_mm) == (volume.shape[2], pytest.approx(volume.spacing_mm[2]))
    (found,), _ = find_scans(nifti(tmp_path / "a.nii"))
    assert (found.n_slices, found.slice_spacing_mm) == (6, 4.0)


# A folder.


def study(folder: Path) -> Path:
    """One study: thick and thin slices, and a scout."""
    for name, slices, step in (("thick", 6, 5.0), ("thin", 12, 1.0), ("scout", 1, 1.0)):

        def change(ds, k, name=name):
            ds.StudyInstanceUID, ds.SeriesDescription = "1.2.3", f"{name} {CANARY}"

        series(folder / name, change, slices=slices, step=(0, 0, step))
    return folder


def test_a_survey_leaves_out_what_the_rules_do(tmp_path):
    found = survey(study(tmp_path), rules=ReadRules(min_slices=3, select="one"))
    assert [one.path.name for one in found.scans] == ["thin"]
    assert [(one.scan.path.parent.name or one.scan.path.name, one.reason.value) for one in found.not_selected] == [
        ("scout", "too_few_slices"),
        (tmp_path.name, "not_preferred"),
    ]
    assert not re.search("JANE", repr(found))
    everything = survey(tmp_path)
    assert (len(everything.scans), everything.not_selected) == (3, [])


def test_descriptions_choose(tmp_path):
    found = survey(study(tmp_path), rules=ReadRules(description="^THICK"))
    assert [one.path.name for one in found.scans] == ["thick"]
    assert {one.reason for one in found.not_selected} == {Reason.DESCRIPTION}


def test_a_scan_that_is_named_is_read_though_another_would_be_chosen(tmp_path):
    rules = ReadRules(select="one")
    assert read_volume(study(tmp_path) / "thick", rules).shape[2] == 6
    with pytest.raises(ScanError, match="description"):
        read_volume(tmp_path / "thick", replace(rules, description="thin"))
