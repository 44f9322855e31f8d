"""What there is to review, and last night's scores for it."""

from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from app.background import Job
from app.catalog import Catalog, Score, is_current, read_catalog, the_catalog, the_scores
from app.worklist_table import Wanted, narrowed, shown, worklist
from pipeline.domain import Identity, Prediction, ReadRules, Reason, Rejection, Scan, ScanError, UsageError
from pipeline.scans.find import Survey, find_scans
from pipeline.scans.select import Unchosen
from pipeline.score import main as score

MODEL = "tiny-0"


def prediction(scan_id: str, p: float, positive: bool = False, near: bool | None = True) -> Prediction:
    return Prediction(scan_id, {"nodule": p}, {"nodule": positive}, 0.3, 0.0, near, (), MODEL)


def catalog_of(names: list[str]) -> Catalog:
    scans = [Scan(name, Path(f"/s/{name}"), (Path(f"/s/{name}/1"),), "dicom", modality="CT") for name in names]
    gone = Scan("left-out", Path("/s/left"), (Path("/s/left/1"),), "dicom")
    found = Survey(
        Path("/s"), scans, [Rejection(Path("/s/bad"), Reason.TRUNCATED, "cut off", "bad")], [],
        [Unchosen(gone, Reason.NOT_PREFERRED, "another is thinner")],
    )  # fmt: skip
    return Catalog(found, {name: Identity(f"{name.title()}^Ann", f"ID-{name}", "", "20250102") for name in names})


def scores_of(values: dict[str, float]) -> dict[str, Score]:
    now = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    return {name: Score(prediction(name, p, p > 0.5), now) for name, p in values.items()}


def test_the_catalog_of_a_folder(demo_scans):
    seen = []
    found = read_catalog(demo_scans, ReadRules(), lambda done, total: seen.append((done, total)))
    assert list(found.scans) == [scan.scan_id for scan in find_scans(demo_scans)[0]]
    assert any(who.patient_name.startswith("Demo^") for who in found.identities.values())
    assert "Demo^" not in repr(found)
    assert seen


def test_a_folder_that_is_gone_is_told(tmp_path):
    with pytest.raises(UsageError, match="does not exist any more"):
        the_catalog(tmp_path / "none", ReadRules())


def test_work_in_the_background_tells_its_error():
    def burst(report):
        raise UsageError("no")

    job = Job(burst)
    assert job.wait(10)
    with pytest.raises(UsageError, match="no"):
        job.result()


def test_the_worklist_has_every_scan_the_likeliest_first():
    table = worklist(
        catalog_of(["a", "b", "c"]), scores_of({"a": 0.2, "b": 0.9, "z": 0.4}), ["nodule"], Path("/s"), False
    )
    assert list(table["scan_id"]) == ["b", "", "a", "c", "", ""]
    assert list(table["status"]) == ["scored", "vanished", "scored", "waiting", "refused", "not_selected"]
    first = table.iloc[0]
    assert (first["patient"], first["patient_id"], first["study"]) == ("B, Ann", "ID-b", "2025-01-02")
    assert (first["positive"], first["unlike"], first["reason"]) == ("nodule", False, "")
    assert first["scored"] == pd.Timestamp("2026-01-02 03:04", tz="UTC")
    assert table.iloc[4]["reason"] == "truncated: cut off"


def test_a_scan_that_the_model_refused_stays_openable_with_its_reason():
    refused = {"a": Score(ScanError(Reason.TOO_FEW_SLICES, "one slice"), datetime.now(UTC))}
    row = worklist(catalog_of(["a"]), refused, ["nodule"], Path("/s"), False).iloc[0]
    assert (row["scan_id"], row["status"], row["reason"]) == ("a", "no_result", "too_few_slices: one slice")


def test_without_identities_nothing_tells_the_patient():
    table = worklist(catalog_of(["a", "b"]), {}, ["nodule"], Path("/s"), True)
    assert set(table["patient"]) | set(table["patient_id"]) | set(table["study"]) == {""}
    assert list(table["what"]) == ["00001", "00002", "00003", "00004"]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Wanted(), ["b", "a", "c"]),
        (Wanted("ann id-a"), ["a"]),
        (Wanted("B, ANN"), ["b"]),
        (Wanted("nobody"), []),
        (Wanted(statuses=["waiting"]), ["c"]),
        (Wanted(positives=True), ["b"]),
        (Wanted("["), []),
    ],
)
def test_search_and_filters(wanted, expected):
    table = worklist(catalog_of(["a", "b", "c"]), scores_of({"a": 0.2, "b": 0.9}), ["nodule"], Path("/s"), False)
    assert [scan_id for scan_id in narrowed(table, wanted)["scan_id"] if scan_id] == expected


def test_no_probability_claims_certainty():
    table = worklist(catalog_of(["a", "b"]), scores_of({"a": 0.0, "b": 1.0}), ["nodule"], Path("/s"), False)
    assert list(shown(table)["p_nodule"][:2]) == [0.999, 0.001]


def test_last_nights_scores_are_read_as_they_were_written(model_folder, scans, tmp_path):
    assert score([str(model_folder), str(scans), "--out", str(tmp_path / "out")]) == 3
    table = pd.read_csv(tmp_path / "out" / "predictions.csv")
    ok = table[table["status"] == "ok"]
    found = the_scores(tmp_path / "out", ok["model"].iloc[0], ("nodule",))
    assert set(found) == set(ok["scan_id"])
    for row in ok.to_dict("records"):
        outcome = found[row["scan_id"]].outcome
        assert outcome.probabilities == {"nodule": pytest.approx(row["p_nodule"])}
        assert outcome.positive == {"nodule": row["positive_nodule"] == 1}
        assert outcome.in_distribution is None
    assert is_current(found[ok["scan_id"].iloc[0]], find_scans(scans)[0][0])


def test_scores_of_another_model_are_refused(model_folder, scans, tmp_path):
    score([str(model_folder), str(scans), "--out", str(tmp_path / "out")])
    with pytest.raises(UsageError, match=r"holds results of tiny-.*, the viewer's model is other"):
        the_scores(tmp_path / "out", "other", ("nodule",))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("scan_id,status\na,ok\n", "lacks the columns"),
        ("", "can't be read as a table"),
        (
            "scan_id,status,reason,detail,warnings,p_nodule,positive_nodule,uncertainty,spread,in_distribution,model\n"
            f"a,ok,,,,high,1,0,0,,{MODEL}\n",
            "something else than numbers",
        ),
    ],
)
def test_a_damaged_table_of_scores_is_refused(tmp_path, text, words):
    (tmp_path / "predictions.csv").write_text(text)
    with pytest.raises(UsageError, match=words):
        the_scores(tmp_path, MODEL, ("nodule",))


def test_a_scan_that_is_gone_has_no_current_score(tmp_path):
    scan = Scan("a", tmp_path / "x", (tmp_path / "x",), "nifti")
    assert not is_current(scores_of({"a": 0.1})["a"], scan)
