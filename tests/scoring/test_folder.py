import os
import resource
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
import torch

from pipeline.domain import Reason, Scan, ScanError, UsageError
from pipeline.explanation.trust import MapTrust, save_trust
from pipeline.files import read_json, write_sums
from pipeline.model.backbone import Classifier
from pipeline.model.integrity import add_report
from pipeline.model.package import Model, load_model
from pipeline.model.reference import Reference, write_reference
from pipeline.model.tensor_files import ModelError
from pipeline.scans.find import survey
from pipeline.scoring import local
from pipeline.scoring.folder import Request, score
from tests.scoring.bad_readers import read_or_hang
from tests.scoring.scenes import CANARY, run_here, save_folder, save_nifti, save_series, save_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("model") / "m")


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_folder(tmp_path_factory.mktemp("scans") / "in")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "run_isolated", run_here)


def table(out: Path) -> pd.DataFrame:
    return pd.read_csv(out / "predictions.csv", dtype={"scan_id": str}, keep_default_na=False)


def timeless(out: Path) -> str:
    """predictions.csv without its last column, the seconds."""
    text = (out / "predictions.csv").read_text()
    return "\n".join(line.rpartition(",")[0] for line in text.splitlines())


def test_every_scan_gives_one_row_and_equals_the_python_face(model: Path, scans: Path, tmp_path: Path) -> None:
    summary = score(Request(model, scans, tmp_path / "out"))
    rows = table(tmp_path / "out")
    assert list(rows.columns) == [
        *("scan_id", "path", "status", "reason", "detail", "warnings", "p_nodule", "positive_nodule", "uncertainty"),
        *("spread", "in_distribution", "model", "seconds"),
    ]
    assert dict(zip(rows["path"], rows["status"], strict=True)) == {
        **{f"v{n:02d}.nii.gz": "ok" for n in range(10)},
        "series": "ok",
        **dict.fromkeys(("letter.dcm", "torn.nii.gz", "mr.dcm", "flat.nii"), "rejected"),
    }
    assert list(rows["path"]) == sorted(rows["path"])
    reasons = dict(zip(rows["path"], rows["reason"], strict=True))
    assert (reasons["mr.dcm"], reasons["flat.nii"]) == ("modality", "too_few_slices")
    assert (summary.statuses, summary.complete) == ({"ok": 11, "rejected": 4}, False)
    loaded = load_model(model)
    for path in ("v03.nii.gz", "series"):
        row = rows[rows["path"] == path].iloc[0]
        alone = loaded.predict(scans / path)
        assert alone.scan_id == row["scan_id"]
        assert float(row["p_nodule"]) == alone.probabilities["nodule"]
        assert bool(int(row["positive_nodule"])) == alone.positive["nodule"]
        assert float(row["uncertainty"]) == pytest.approx(alone.uncertainty, abs=1e-6)
        assert row["model"] == loaded.model_id
        assert float(row["seconds"]) > 0
    refused = rows[rows["status"] == "rejected"]
    assert (refused[["p_nodule", "positive_nodule", "uncertainty", "in_distribution"]] == "").all(axis=None)
    assert refused["detail"].str.len().min() > 10


@pytest.mark.usefixtures("here")
def test_parquet_holds_the_same_table(model: Path, scans: Path, tmp_path: Path) -> None:
    score(Request(model, scans, tmp_path))
    stored, text = pd.read_parquet(tmp_path / "predictions.parquet"), table(tmp_path)
    assert list(stored.columns) == list(text.columns)
    for column in stored.columns:
        if column.startswith("p_") or column in ("uncertainty", "spread", "seconds"):
            expected = pd.to_numeric(text[column], errors="coerce").to_numpy()
            np.testing.assert_allclose(stored[column].to_numpy(), expected, atol=5e-7)
        else:
            assert list(stored[column].astype("string").fillna("")) == list(text[column].astype(str)), column


@pytest.mark.usefixtures("here")
def test_a_second_start_reads_nothing_and_gives_the_same_bytes(model: Path, scans: Path, tmp_path: Path) -> None:
    score(Request(model, scans, tmp_path))
    before = (tmp_path / "predictions.csv").read_bytes()
    again = score(Request(model, scans, tmp_path))
    assert again.read_now == 0
    assert again.statuses == {"ok": 11, "rejected": 4}
    assert (tmp_path / "predictions.csv").read_bytes() == before


@pytest.mark.usefixtures("here")
def test_new_and_changed_scans_are_picked_up_and_lost_ones_leave(model: Path, tmp_path: Path) -> None:
    scans, out = tmp_path / "in", tmp_path / "out"
    for n in range(3):
        save_nifti(scans / f"{n}.nii", n)
    score(Request(model, scans, out))
    first = table(out).set_index("path")["p_nodule"]
    (scans / "0.nii").write_bytes((scans / "2.nii").read_bytes())  # same size, other voxels
    (scans / "1.nii").unlink()
    save_nifti(scans / "3.nii", 3)
    assert score(Request(model, scans, out)).read_now == 2
    second = table(out).set_index("path")["p_nodule"]
    assert list(second.index) == ["0.nii", "2.nii", "3.nii"]
    assert second["0.nii"] == second["2.nii"] == first["2.nii"] != first["0.nii"]


@pytest.mark.usefixtures("here")
@pytest.mark.usefixtures("here")
def test_scans_that_the_system_could_not_read_are_tried_again(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = Request(model, tmp_path / "in", tmp_path / "out")
    for n in range(3):
        save_nifti(request.scans / f"{n}.nii", n)
    save_nifti(request.scans / "flat.nii", 3, (16, 16, 1))

    def dropped(*_: object, **__: object) -> None:
        raise ScanError(Reason.IO_ERROR, "the share is gone")

    with monkeypatch.context() as patch:
        patch.setattr(local, "read_timed", dropped)
        assert score(request).statuses == {"rejected": 4}
    again = score(request)
    assert (again.read_now, again.statuses) == (4, {"ok": 3, "rejected": 1})
    assert score(request).read_now == 0


def test_a_row_does_not_depend_on_its_neighbours_or_on_when_the_run_broke_off(
    model: Path, scans: Path, tmp_path: Path
) -> None:
    score(Request(model, scans, tmp_path / "whole"))
    score(Request(model, scans, tmp_path / "torn"))
    journal = tmp_path / "torn" / "journal.jsonl"
    for end in (30, 700, 1500, -5):  # -5: in the last row, however long this run's timings made the rows
        journal.write_bytes(journal.read_bytes()[:end])
        (tmp_path / "torn" / "predictions.csv").unlink()
        assert score(Request(model, scans, tmp_path / "torn")).read_now > 0
        assert timeless(tmp_path / "torn") == timeless(tmp_path / "whole")


@pytest.mark.usefixtures("here")
def test_ids_are_left_out_unless_asked_for(model: Path, scans: Path, tmp_path: Path) -> None:
    score(Request(model, scans, tmp_path))
    for file in tmp_path.rglob("*"):
        assert CANARY.encode() not in file.read_bytes(), file.name
    score(Request(model, scans, tmp_path, include_ids=True))
    rows = table(tmp_path).set_index("path")
    assert list(rows.columns[-4:]) == ["patient_id", "accession_number", "study_uid", "series_uid"]
    assert rows.loc["series", ["patient_id", "accession_number"]].tolist() == [CANARY, CANARY]
    assert rows.loc["v00.nii.gz", "patient_id"] == ""
    assert CANARY not in (tmp_path / "journal.jsonl").read_text()


@pytest.mark.usefixtures("here")
def test_a_series_that_is_refused_at_its_headers_keeps_the_ids_that_its_files_share(
    model: Path, tmp_path: Path
) -> None:
    one = pydicom.dcmread(save_series(tmp_path / "in" / "series") / "2.dcm")
    one.PatientID = "another"
    one.save_as(tmp_path / "in" / "series" / "2.dcm")
    score(Request(model, tmp_path / "in", tmp_path / "out"))
    assert CANARY not in (tmp_path / "out" / "predictions.csv").read_text()
    score(Request(model, tmp_path / "in", tmp_path / "out", include_ids=True))
    (row,) = table(tmp_path / "out").to_dict("records")
    assert (row["reason"], row["patient_id"], row["accession_number"]) == ("mixed_patients", "", CANARY)
    assert (row["study_uid"], row["series_uid"]) == (one.StudyInstanceUID, one.SeriesInstanceUID)


@pytest.mark.usefixtures("here")
def test_another_model_or_other_settings_are_refused(model: Path, scans: Path, tmp_path: Path) -> None:
    score(Request(model, scans, tmp_path / "out"))
    before = (tmp_path / "out" / "predictions.csv").read_bytes()
    other = save_tiny_model(tmp_path / "other", seed=1)
    with pytest.raises(UsageError, match=r"model: there tiny-\w{12}, now tiny-\w{12}"):
        score(Request(other, scans, tmp_path / "out"))
    with pytest.raises(UsageError, match="saliency: there no, now yes"):
        score(Request(model, scans, tmp_path / "out", kinds=("saliency",)))
    with pytest.raises(UsageError, match="scans folder: there"):
        score(Request(model, scans / "series", tmp_path / "out"))
    assert (tmp_path / "out" / "predictions.csv").read_bytes() == before


@pytest.mark.parametrize("inside", [".", "out", "series/out"])
def test_results_are_never_written_among_the_scans_or_into_the_model(model: Path, scans: Path, inside: str) -> None:
    before = sorted(scans.rglob("*")), sorted(model.rglob("*"))
    with pytest.raises(UsageError, match="lies in SCANS"):
        score(Request(model, scans, scans / inside))
    with pytest.raises(UsageError, match="lies in MODEL"):
        score(Request(model, scans, model / inside))
    (scans.parent / "link").unlink(missing_ok=True)
    (scans.parent / "link").symlink_to(scans)
    with pytest.raises(UsageError, match="lies in SCANS"):
        score(Request(model, scans, scans.parent / "link" / inside))
    assert (sorted(scans.rglob("*")), sorted(model.rglob("*"))) == before


def test_wrong_use_is_said_before_anything_is_written(model: Path, scans: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--workers is 0"):
        score(Request(model, scans, tmp_path / "out", workers=0))
    with pytest.raises(UsageError, match="can't be read"):
        score(Request(model, tmp_path / "nowhere", tmp_path / "out"))
    with pytest.raises(UsageError, match="model folder refused"):
        score(Request(scans, model, tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match=r"--out .*file: can't be made or written to \(Not a directory\)"):
        score(Request(model, scans, tmp_path / "file"))


@pytest.mark.usefixtures("here")
def test_a_single_file_and_an_empty_folder(model: Path, scans: Path, tmp_path: Path) -> None:
    assert score(Request(model, scans / "v01.nii.gz", tmp_path / "one")).complete
    assert list(table(tmp_path / "one")["path"]) == ["v01.nii.gz"]
    (tmp_path / "empty").mkdir()
    assert not score(Request(model, tmp_path / "empty", tmp_path / "none")).complete
    assert len(table(tmp_path / "none")) == 0
    assert "p_nodule" in table(tmp_path / "none").columns
    assert len(pd.read_parquet(tmp_path / "none" / "predictions.parquet")) == 0


def test_a_folder_of_which_nothing_is_a_scan(model: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "letter.dcm").write_text("Dear colleague")
    assert score(Request(model, tmp_path / "in", tmp_path / "out", include_ids=True)).statuses == {"rejected": 1}
    (row,) = table(tmp_path / "out").to_dict("records")
    assert (row["status"], row["reason"], row["warnings"], row["patient_id"]) == ("rejected", "not_an_image", "", "")


@pytest.mark.usefixtures("here")
def test_hostile_names_are_shown_without_harm(model: Path, tmp_path: Path) -> None:
    names = [
        "=cmd|' -C calc'!A0.nii", 'a,b"c\n\rd.nii', "\x1b[31m.nii", "ü.nii", os.fsdecode(b"\xff\xfe.nii"), "e\rf.nii",
    ]  # fmt: skip
    (tmp_path / "in").mkdir()
    for n, name in enumerate(names):
        save_nifti(tmp_path / "plain.nii", n).rename(tmp_path / "in" / name)
    out = tmp_path / os.fsdecode(b"o\xfft")
    score(Request(model, tmp_path / "in", out, include_ids=True))
    shown = list(table(out)["path"])
    assert len(shown) == len(names)
    assert "'=cmd|' -C calc'!A0.nii" in shown
    assert 'a,b"c\n\rd.nii' in shown
    assert r"\udcff\udcfe.nii" in shown
    assert "e\rf.nii" in shown


@pytest.mark.usefixtures("here")
def test_a_scan_whose_output_is_no_number_costs_one_row(
    model: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score(Request(model, scans, tmp_path / "whole"))
    predict = Model.predict_inputs
    bad = next(scan.scan_id for scan in survey(scans).scans if scan.path.name == "v04.nii.gz")

    def predict_inputs(self, inputs, scan_ids):
        if bad in scan_ids:
            raise ScanError(Reason.NON_FINITE, "the network's output for this scan is not a finite number")
        return predict(self, inputs, scan_ids)

    monkeypatch.setattr(Model, "predict_inputs", predict_inputs)
    score(Request(model, scans, tmp_path / "out"))
    kept, rows = table(tmp_path / "whole").set_index("path"), table(tmp_path / "out").set_index("path")
    assert rows.loc["v04.nii.gz", "reason"] == "non_finite"
    others = rows.index != "v04.nii.gz"
    assert rows["p_nodule"][others].equals(kept["p_nodule"][others])


def test_scans_that_hang_or_crash_cost_their_rows(
    model: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "read_timed", read_or_hang)
    summary = score(Request(model, scans, tmp_path, time_limit_s=8))
    rows = table(tmp_path).set_index("path")
    assert summary.statuses == {"ok": 9, "rejected": 6}
    assert rows.loc["v05.nii.gz", ["reason", "detail"]].tolist() == ["timeout", "reading took longer than 8 s"]
    assert rows.loc["v06.nii.gz", ["reason", "detail"]].tolist() == [
        "decoder_crash",
        "the reading process died (signal 11)",
    ]


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let every write beyond `size` bytes of a file fail as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("size", [60, 400, 1100, 2500, 5000])
def test_a_full_disk_keeps_all_that_was_written(model: Path, scans: Path, tmp_path: Path, size: int) -> None:
    score(Request(model, scans, tmp_path / "whole"))
    assert (tmp_path / "whole" / "predictions.parquet").stat().st_size > 5000
    with files_of_at_most(size), pytest.raises(OSError, match="File too large"):
        score(Request(model, scans, tmp_path / "out"))
    assert not [file.name for file in (tmp_path / "out").iterdir() if file.name != "journal.jsonl"]
    kept = (tmp_path / "out" / "journal.jsonl").read_bytes()
    assert kept.endswith(b"\n") or not kept
    summary = score(Request(model, scans, tmp_path / "out"))
    assert summary.read_now == 14 - max(0, kept.count(b"\n") - 1)
    assert timeless(tmp_path / "out") == timeless(tmp_path / "whole")


@pytest.mark.usefixtures("here")
def test_a_full_disk_keeps_the_earlier_table(model: Path, tmp_path: Path) -> None:
    for n in range(9):
        save_nifti(tmp_path / "in" / f"{n}.nii", n)
    score(Request(model, tmp_path / "in", tmp_path / "out"))
    before = (tmp_path / "out" / "predictions.csv").read_bytes()
    shutil.copy(tmp_path / "in" / "0.nii", tmp_path / "in" / "new.nii")
    with files_of_at_most(4000), pytest.raises(OSError, match="File too large"):
        score(Request(model, tmp_path / "in", tmp_path / "out"))
    assert (tmp_path / "out" / "predictions.csv").read_bytes() == before
    assert score(Request(model, tmp_path / "in", tmp_path / "out")).statuses == {"ok": 10}


@pytest.mark.usefixtures("here")
def test_the_summary_counts_times_and_compares(model: Path, scans: Path, tmp_path: Path) -> None:
    own = save_tiny_model(tmp_path / "own")
    reference = Reference(
        held_out="tune", n_scans=40, scores={"nodule": (0.1, 0.9)}, n_out_of_distribution=0, n_found=41, n_rejected=1
    )
    write_reference(own, reference)
    write_sums(own)
    score(Request(own, scans, tmp_path / "out"))
    told = read_json(tmp_path / "out" / "summary.json")
    assert (told["rows"], told["statuses"]) == (15, {"ok": 11, "rejected": 4})
    assert told["reasons"]["rejected"]["modality"] == 1
    assert told["files_that_are_no_scans"] == 1
    assert list(told["why_files_are_no_scans"].values()) == [1]
    run = told["this_run"]
    assert (run["scans_read"], run["scans_left"]) == (14, 0)
    assert run["scans_per_second"] == pytest.approx(14 / run["seconds"], rel=0.1)
    assert list(run["seconds_by_step"]) == ["read", "preprocess", "forward", "write"]
    assert min(run["seconds_by_step"].values()) > 0
    assert [one["what"] for one in told["drift"]] == ["scores of nodule", "refused scans"]
    assert told["drift"][0]["verdict"].startswith("too few scans to say: 11 now, 40 in training")
    score(Request(model, scans, tmp_path / "old"))
    assert read_json(tmp_path / "old" / "summary.json")["drift"] == []
    (own / "reference.json").write_text("{}")
    write_sums(own)
    with pytest.raises(ModelError, match=r"reference\.json does not hold a reference"):
        score(Request(own, scans, tmp_path / "out"))


@pytest.mark.usefixtures("here")
def test_a_model_of_studies_also_writes_studies(scans: Path, tmp_path: Path) -> None:
    model = save_tiny_model(tmp_path / "model", unit="study")
    summary = score(Request(model, scans, tmp_path / "out"))
    assert summary.units == tmp_path / "out" / "studies.csv"
    rows = pd.read_csv(summary.units, dtype=str, keep_default_na=False)
    assert len(rows) == len(survey(scans, rules=load_model(model).read_rules).scans)
    assert CANARY not in summary.units.read_text()


@pytest.mark.usefixtures("here")
def test_where_memory_ends_rows_are_the_same_or_say_so(
    model: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed, holds = Classifier.embed, [2]

    def embed_few(self: Classifier, batch: torch.Tensor) -> torch.Tensor:
        if len(batch) > holds[0]:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return embed(self, batch)

    score(Request(model, scans, tmp_path / "whole"))
    monkeypatch.setattr(Classifier, "embed", embed_few)
    score(Request(model, scans, tmp_path / "few"))
    assert timeless(tmp_path / "few") == timeless(tmp_path / "whole")
    holds[0] = 0
    assert score(Request(model, scans, tmp_path / "none")).reasons["rejected"]["too_large"] == 11


def test_a_row_that_an_engine_loses_is_never_passed_over(
    model: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lossy(items: Sequence[Scan], *given: object) -> Iterator[object]:
        yield from run_here(items[1:], *given)

    monkeypatch.setattr(local, "run_isolated", lossy)
    with pytest.raises(RuntimeError, match="1 scan got no row"):
        score(Request(model, scans, tmp_path / "out"))
    assert not (tmp_path / "out" / "predictions.csv").exists()


@pytest.mark.parametrize("kind", ["saliency", "dicom"])
def test_maps_made_in_two_ways_are_never_mixed(tmp_path: Path, kind: str) -> None:
    model = save_tiny_model(tmp_path / "model")
    save_nifti(tmp_path / "scans" / "a.nii", 1)
    request = Request(model, tmp_path / "scans", tmp_path / "out", 1, kinds=(kind,))
    score(request)
    save_trust(model, MapTrust(None, "", "gradcam", "layer1", load_model(model).model_id[-12:], 1, {}, 1.0))
    with pytest.raises(UsageError, match=r"maps: there hirescam act, now gradcam layer1"):
        score(request)
    plain = Request(model, tmp_path / "scans", tmp_path / "plain", 1)
    score(plain)
    add_report(model, "explanation.json", {})
    assert score(plain).read_now == 0
