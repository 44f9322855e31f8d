import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.evaluate import main
from pipeline.files import sha256_of, write_sums
from pipeline.scans.find import survey
from tests.evaluation.runs import predictions, run_folder


def evaluation(folder: Path) -> dict:  # type: ignore[type-arg]
    return json.loads((folder / "evaluation.json").read_text())  # type: ignore[no-any-return]


def said(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    return captured.out + captured.err


def test_a_run_gets_evaluation_report_card_and_hashes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_folder(tmp_path / "run")
    assert main([str(run)]) == 0
    text = said(capsys)
    assert re.search(r"test AUROC nodule 0\.\d\d \(95 % interval 0\.\d\d to .*, 29 patients\)", text)
    assert str(run / "report.html") in text
    found = evaluation(run)
    assert list(found) == ["test", "tune"]
    assert (run / "model" / "evaluation.json").read_bytes() == (run / "evaluation.json").read_bytes()
    card = (run / "model" / "MODEL_CARD.md").read_text()
    assert "# lung" in card
    assert "heat maps can be trusted was not measured" in card
    assert "heat maps can be trusted was not measured" in (run / "report.html").read_text().replace("&#39;", "'")
    assert "no patient is in two splits" in (run / "claim.md").read_text()
    assert "<h1>" in (run / "report.html").read_text()
    for line in (run / "model" / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        assert sha256_of(run / "model" / name) == digest


def test_the_frozen_threshold_is_used_and_not_chosen_again(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run")
    frozen = json.loads((run / "model" / "model.json").read_text())["operating_points"]["nodule"]["threshold"]
    assert main([str(run)]) == 0
    numbers = evaluation(run)["test"]["findings"]["nodule"]
    table = predictions().query("split == 'test' and status == 'ok'")
    positive = table["p_nodule"].astype(float) >= frozen
    assert numbers["operating_point"]["threshold"] == frozen
    assert numbers["confusion"]["tp"] == (positive & (table["y_nodule"] == 1)).sum()


def test_pdf_and_figures_are_written_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_folder(tmp_path / "run")
    assert main([str(run), "--pdf", "--figures", "--prevalence", "0.02"]) == 0
    assert (run / "report.pdf").read_bytes().startswith(b"%PDF")
    assert len(list((run / "figures").glob("*.png"))) == len(list((run / "figures").glob("*.csv"))) == 7
    assert "PPV at the given prevalence" in (run / "report.html").read_text()
    assert evaluation(run)["test"]["findings"]["nodule"]["at_prevalence"]["prevalence"] == 0.02
    assert "(7, each as png, svg and csv)" in said(capsys)


def test_a_repeated_evaluation_leaves_no_older_pdf_and_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_folder(tmp_path / "run")
    assert main([str(run), "--pdf", "--figures"]) == 0
    stray, own = run / "figures" / "02_another_finding_roc.png", run / "figures" / "01_my_notes.csv"
    stray.touch()
    own.touch()
    assert main([str(run), "--pdf", "--figures"]) == 0
    assert not stray.exists()
    assert (run / "report.pdf").exists()
    assert len(list((run / "figures").iterdir())) == 22
    capsys.readouterr()
    assert main([str(run)]) == 0
    assert not (run / "report.pdf").exists()
    assert list((run / "figures").iterdir()) == [own]
    text = said(capsys)
    assert "report.pdf, of an earlier evaluation (--pdf)" in text
    assert "removed 21 files in" in " ".join(text.split())


def test_patients_can_be_judged_instead_of_scans(tmp_path: Path) -> None:
    table = predictions()
    table["patient"] = [f"{k // 3:016x}" for k in range(90)]
    run = run_folder(tmp_path / "run", table)
    assert main([str(run), "--unit", "patient", "--aggregate", "mean"]) == 0
    view = run / "evaluation_by_patient_mean"
    found = evaluation(view)["test"]
    assert (found["unit"], found["n_scans"], found["n_patients"]) == ("patient", 10, 10)
    assert evaluation(run)["test"]["unit"] == evaluation(run / "model")["test"]["unit"] == "scan"
    text = (view / "report.html").read_text()
    assert "Each row is a patient: the mean of the probabilities of its scans." in text
    assert "The thresholds were chosen again on the tune split, by patient." in text
    assert main([str(run), "--unit", "study"]) == 0
    assert evaluation(run / "evaluation_by_study")["test"]["n_scans"] == 15
    crossed = table.assign(split="oof", fold=[str(k // 3 % 3) for k in range(90)])
    assert main([str(run_folder(tmp_path / "oof", crossed)), "--unit", "patient"]) == 0
    view = tmp_path / "oof" / "evaluation_by_patient"
    point = evaluation(view)["oof"]["findings"]["nodule"]["operating_point"]
    assert (point["chosen_on"], point["cross_fitted"]) == ("oof", True)
    assert "chosen again on the other folds, by patient" in (view / "report.html").read_text()


def cohort(folder: Path, scans: str = "scan_id,split\na,train\nb,\n") -> Path:
    """What prepare leaves: two refused scans of three files, and one scan in no split."""
    folder.mkdir()
    (folder / "scans.csv").write_text(scans)
    rows = "path,scan_id,reason,detail\np/1,c,truncated,x\np/2,c,truncated,x\np/3,,corrupt_file,y\n"
    (folder / "rejected.csv").write_text(rows)
    return folder


def test_the_flow_starts_with_what_prepare_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepared = cohort(tmp_path / "cohort")
    run = run_folder(tmp_path / "run", cohort={"folder": str(prepared)})
    model = json.loads((run / "model" / "model.json").read_text())
    model["training"]["scans_sha256"] = sha256_of(prepared / "scans.csv")
    (run / "model" / "model.json").write_text(json.dumps(model))
    write_sums(run / "model")
    assert main([str(run)]) == 0
    text = (run / "report.html").read_text()
    assert "<b>93</b>scans found" in text  # 89 predicted, 1 without prediction, 2 refused, 1 in no split
    assert "<li><span>truncated</span><span>1</span></li>" in text
    (prepared / "scans.csv").write_text("scan_id,split\na,test\n")
    assert main([str(run)]) == 0
    assert "the COHORT folder has changed since training (hash_mismatch)" in said(capsys)
    assert "<b>90</b>scans found" in (run / "report.html").read_text()


def test_a_probe_that_comes_near_the_model_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_folder(tmp_path)
    probes = {"nodule": {"header": {"value": 0.97, "low": 0.9, "high": 1.0}, "border": {"value": 0.6, "low": 0.5}}}
    (run / "shortcuts.json").write_text(json.dumps(probes))
    assert main([str(run)]) == 0
    said = "body part, contrast agent) alone predicts the label with AUROC 0.97 (0.90 to 1.00)"
    assert said in capsys.readouterr().out
    page = (run / "report.html").read_text()
    assert "The model may have learned that instead of the finding" in page
    assert "border" not in "".join(re.findall(r"alone predicts[^.]*", page))


@pytest.mark.parametrize("trusted", [True, False])
def test_the_verdict_on_the_heat_maps_is_that_of_this_very_model(tmp_path: Path, trusted: bool) -> None:
    from pipeline.explanation.trust import MapTrust, save_trust
    from pipeline.model.integrity import identity, listing

    run = run_folder(tmp_path / "run")
    own = identity(listing(run / "model"))
    for model, said in ((own, True), ("another", False)):
        save_trust(
            run / "model", MapTrust(trusted, "The maps are so.", "gradcam", "layer4", model, 8, {"stem": 0.1}, 0.9)
        )
        assert main([str(run)]) == 0
        page, card = (run / "report.html").read_text(), (run / "model" / "MODEL_CARD.md").read_text()
        assert ("<li>The maps are so.</li>" in page) == (said and not trusted)
        assert ("<p>The maps are so.</p>" in page) == ("The maps are so." in card) == said
        assert ("can be trusted was not measured" in page) != said


def test_a_second_start_writes_the_same_bytes(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run")
    main([str(run)])
    first = {path.name: path.read_bytes() for path in (run / "model").iterdir()}
    assert main([str(run)]) == 0
    assert {path.name: path.read_bytes() for path in (run / "model").iterdir()} == first


def test_one_split_can_be_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_folder(tmp_path / "run")
    assert main([str(run), "--split", "tune"]) == 0
    assert list(evaluation(run / "evaluation_tune")) == ["tune"]
    assert list(evaluation(run)) == list(evaluation(run / "model")) == ["test", "tune"]
    assert "tune AUROC nodule" in said(capsys)
    assert main([str(run), "--split", "oof"]) == 2
    assert "no rows of split oof; the predictions hold: test, train, tune" in said(capsys)


@pytest.mark.parametrize("name", ["model.json", "weights.safetensors"])
def test_a_changed_model_folder_is_not_blessed(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    run = run_folder(tmp_path / "run")
    path = run / "model" / name
    path.write_bytes(path.read_bytes().replace(b"w", b"W"))
    sums = (run / "model" / "SHA256SUMS").read_bytes()
    assert main([str(run)]) == 2
    assert f"model folder refused (checksum): {name}" in said(capsys)
    assert (run / "model" / "SHA256SUMS").read_bytes() == sums


def test_a_start_that_was_cut_off_before_the_hashes_can_be_repeated(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run")
    (run / "model" / "evaluation.json").write_text("{}")
    assert main([str(run)]) == 0


@pytest.mark.parametrize("missing", ["predictions.csv", "config.yaml", "model/model.json"])
def test_an_unfinished_run_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], missing: str) -> None:
    run = run_folder(tmp_path / "run")
    (run / missing).unlink()
    assert main([str(run)]) == 2
    assert f"is no finished run: it lacks {missing}" in said(capsys)


def test_predictions_of_another_model_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_folder(tmp_path / "run", predictions(findings=("nodule", "mass")))
    table = predictions(findings=("mass", "nodule"))
    table.to_csv(run / "predictions.csv", index=False)
    assert main([str(run)]) == 0  # their order is free
    table.rename(columns=lambda name: name.replace("mass", "effusion")).to_csv(run / "predictions.csv", index=False)
    assert main([str(run)]) == 2
    assert "(wrong_model): expected predictions of nodule, mass, found effusion, nodule" in " ".join(
        said(capsys).split()
    )


def test_shared_patients_stop_the_run_unless_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = predictions()
    table.loc[70, "patient"] = table.loc[3, "patient"]
    run = run_folder(tmp_path / "run", table)
    assert main([str(run)]) == 2
    assert "patients both in test and in train: 1" in said(capsys)
    assert not (run / "evaluation.json").exists()
    assert main([str(run), "--allow-shared-patients"]) == 0
    assert "these numbers flatter" in (run / "report.html").read_text()
    assert "by patient: patients both in test and in train: 1; these numbers" in (run / "claim.md").read_text()


def test_a_test_split_of_one_class_is_undefined_and_exits_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = predictions()
    table.loc[table["split"] == "test", "y_nodule"] = 0
    run = run_folder(tmp_path / "run", table)
    assert main([str(run)]) == 0
    assert "test AUROC nodule undefined: only one class: 0 of 29 scans are positive" in said(capsys)
    assert evaluation(run)["test"]["findings"]["nodule"]["auroc"]["value"] is None


def test_two_runs_are_compared_on_the_same_scans(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = run_folder(tmp_path / "good", predictions(seed=1, gain=2.5))
    poor = run_folder(tmp_path / "poor", predictions(seed=2, gain=0.3), "other")
    assert main([str(good), "--against", str(poor)]) == 0
    assert re.search(r"test nodule AUROC difference 0\.\d+ \(.*, p = 0\.\d+; DeLong, paired\)", said(capsys))
    found = json.loads((good / "comparison.json").read_text())
    assert set(found["findings"]["nodule"]) == {"auroc", "average_precision", "brier", "sensitivity", "specificity"}
    assert found["findings"]["nodule"]["sensitivity"]["test"] == "McNemar, exact"
    assert found["findings"]["nodule"]["brier"]["high"] < 0
    assert (found["against"], found["split"]) == ("other", "test")
    assert found["findings"]["nodule"]["auroc"]["low"] > 0


def test_runs_on_other_scans_are_not_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = run_folder(tmp_path / "one")
    two = run_folder(tmp_path / "two", predictions(93))
    assert main([str(one), "--against", str(two)]) == 2
    assert "only in the second run" in said(capsys)


def tables(folder: Path, **columns: object) -> list[str]:
    """--predictions and --labels of 40 scans."""
    rng = np.random.default_rng(4)
    y = rng.integers(0, 2, 40)
    p = pd.DataFrame(
        {"scan_id": [f"s{k}" for k in range(40)], "p_nodule": np.round((0.7 * y + rng.random(40)) / 1.7, 6)}
    )
    labels = pd.DataFrame({"scan_id": p["scan_id"], "nodule": y, "patient_id": [f"Jane {k // 2}" for k in range(40)]})
    p.to_csv(folder / "p.csv", index=False)
    labels.assign(**columns).to_csv(folder / "l.csv", index=False)
    return ["--predictions", str(folder / "p.csv"), "--labels", str(folder / "l.csv"), "--out", str(folder / "out")]


def test_predictions_and_labels_without_splits_and_threshold(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(tables(tmp_path)) == 0
    assert "all AUROC nodule" in said(capsys)
    numbers = evaluation(tmp_path / "out")["all"]
    assert numbers["n_patients"] == 20
    assert numbers["findings"]["nodule"]["auroc"]["method"].startswith("bootstrap by patient")
    assert "no operating point" in numbers["findings"]["nodule"]["sensitivity"]["reason"]
    for path in (tmp_path / "out").iterdir():
        assert "Jane" not in path.read_text()


def test_a_tune_split_chooses_the_threshold(tmp_path: Path) -> None:
    assert main([*tables(tmp_path, split=["tune"] * 20 + ["test"] * 20), "--target", "sensitivity >= 0.9"]) == 0
    found = evaluation(tmp_path / "out")
    assert found["test"]["findings"]["nodule"]["operating_point"]["chosen_on"] == "tune"
    assert found["tune"]["findings"]["nodule"]["sensitivity"]["value"] >= 0.9


@pytest.mark.parametrize("text", ["0.4", "nodule=0.4"])
def test_a_threshold_can_be_given(tmp_path: Path, text: str) -> None:
    assert main([*tables(tmp_path), "--threshold", text]) == 0
    point = evaluation(tmp_path / "out")["all"]["findings"]["nodule"]["operating_point"]
    assert (point["threshold"], point["chosen_on"]) == (0.4, "given")


@pytest.mark.parametrize("text", ["1.4", "mass=0.4", "half"])
def test_a_threshold_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    assert main([*tables(tmp_path), "--threshold", text]) == 2
    assert f"--threshold {text}: expected a probability" in said(capsys)


def asked(model: Path, scans: Path, out: Path, workers: int) -> tuple[Path, Path]:
    """Stands in for the request: what the stand-in below needs."""
    return scans, out


def scored(request: tuple[Path, Path]) -> SimpleNamespace:
    """Stands in for the network: the brighter a picture, the higher its probability; one scan is refused."""
    (scans, out), rows = request, []
    for scan in survey(scans).scans:
        p = f"{np.asarray(Image.open(scan.path)).mean() / 255:.6f}"
        status = "rejected" if p.startswith("0.0") else "ok"
        rows.append({"scan_id": scan.scan_id, "path": scan.path.name, "status": status, "p_nodule": p})
        if status == "rejected":
            rows[-1]["p_nodule"] = ""
    rows.append({"scan_id": "", "path": "junk.dcm", "status": "rejected", "p_nodule": ""})  # refused at its header
    out.mkdir(parents=True)
    pd.DataFrame(rows).to_csv(out / "predictions.csv", index=False)
    return SimpleNamespace(predictions=out / "predictions.csv", complete=False)


def test_a_model_is_judged_on_scans_of_another_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    scans, rng = tmp_path / "scans", np.random.default_rng(0)
    scans.mkdir()
    labels = []
    for k in range(21):
        level = 0 if k == 20 else 60 + 120 * (k % 2)
        picture = level + rng.integers(0, 60 if level else 12, (16, 16))
        Image.fromarray(picture.astype(np.uint8)).save(scans / f"s{k}.png")
        labels.append({"path": f"s{k}.png", "nodule": k % 2, "patient_id": f"Jane {k // 2}", "site": "AB"[k % 2]})
    pd.DataFrame(labels).to_csv(tmp_path / "l.csv", index=False)
    stand_in = SimpleNamespace(score=scored, Request=asked)  # no torch needed here
    monkeypatch.setitem(sys.modules, "pipeline.scoring.folder", stand_in)
    model, out = run_folder(tmp_path / "run") / "model", tmp_path / "out"
    frozen = json.loads((model / "model.json").read_text())["operating_points"]["nodule"]["threshold"]
    words = ["--model", str(model), "--scans", str(scans), "--labels", str(tmp_path / "l.csv"), "--out", str(out)]
    assert main(words) == 3
    found = evaluation(out)["all"]
    assert (found["n_scans"], found["n_rejected"]) == (20, 2)
    assert found["findings"]["nodule"]["auroc"]["value"] == 1
    assert found["findings"]["nodule"]["operating_point"]["threshold"] == frozen
    assert found["n_patients"] == 10
    assert "site" in found["subgroups"]
    assert "Jane" not in (out / "report.html").read_text() + (out / "evaluation.json").read_text() + said(capsys)


def test_doubled_scans_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(tables(tmp_path, scan_id=["s0", *(f"s{k}" for k in range(39))])) == 2
    assert "labels: a scan_id is repeated in 1 row" in said(capsys)


def test_every_problem_of_both_tables_is_named_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = tables(tmp_path)
    p = pd.read_csv(tmp_path / "p.csv", dtype=str)
    p.loc[[1, 2], "p_nodule"] = ["nan", "1.7"]
    p.loc[3, "scan_id"] = "s0"
    p.to_csv(tmp_path / "p.csv", index=False)
    labels = pd.read_csv(tmp_path / "l.csv", dtype=str)
    labels.loc[0, "nodule"] = "yes"
    labels.loc[5, "scan_id"] = ""
    labels.to_csv(tmp_path / "l.csv", index=False)
    assert main(words) == 2
    text = said(capsys)
    for message in (
        "predictions: a scan_id is repeated in 1 row",
        "predictions: p_nodule: expected a probability from 0 to 1, found something else in lines 3, 4",
        "labels: scan_id is empty in 1 row",
        "nodule: expected 0, 1 or empty, found something else in 1 row",
    ):
        assert message in text
    assert not (tmp_path / "out").exists()


def test_two_unreadable_tables_are_both_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = tables(tmp_path)
    (tmp_path / "p.csv").unlink()
    (tmp_path / "l.csv").write_text("scan_id,nodule\n")
    assert main(words) == 2
    text = said(capsys)
    assert "p.csv: can't be read" in text
    assert "l.csv: no rows under a header line" in text


@pytest.mark.parametrize(
    ("words", "messages"),
    [
        (["RUN", "--predictions", "P"], ["give one of RUN, --predictions or --model; found predictions, run"]),
        (["A", "B"], ["give one RUN folder; compare two with --against"]),
        (["--split", "test"], ["give one of RUN, --predictions or --model; found none"]),
        (["--predictions", "P"], ["--predictions needs --labels", "--predictions needs --out"]),
        (["--model", "M", "--out", "S/o", "--scans", "S"], ["--model needs --labels", "--out lies inside --scans"]),
        (["RUN", "--target", "youden", "--out", "O"], ["--target does not go with RUN", "--out does not go with RUN"]),
        (["--model", "M", "--threshold", "0.5"], ["--threshold does not go with --model", "--model needs --scans"]),
    ],
)
def test_options_that_do_not_belong_together_are_all_named(
    capsys: pytest.CaptureFixture[str], words: list[str], messages: list[str]
) -> None:
    assert main(words) == 2
    text = said(capsys)
    assert [message for message in messages if message not in text] == []


@pytest.mark.parametrize(("option", "value"), [("--level", "1.5"), ("--resamples", "0"), ("--target", "accuracy >= 1")])
def test_settings_that_can_not_be_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, value: str
) -> None:
    assert main([*tables(tmp_path), option, value]) == 2
    assert option.strip("-") in said(capsys)


def test_no_argument_shows_the_demo(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "python -m pipeline.evaluate runs/demo/run" in said(capsys)


def test_help_explains_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    text = said(capsys)
    for option in (
        "--split",
        "--against",
        "--predictions",
        "--labels",
        "--model",
        "--scans",
        "--out",
        "--threshold",
        "--target",
    ):
        assert option in text
    assert "Second RUN folder on the same scans" in text
