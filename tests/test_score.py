import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
import pytest
import torch

from pipeline import score
from pipeline.console import DISK_FULL, DONE, WITH_REJECTIONS, WRONG_USE
from pipeline.files import read_json
from pipeline.scoring import folder, local
from tests.scoring.scenes import CANARY, run_here, save_folder, save_nifti, save_tiny_model
from tests.signals import heeded


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("model") / "m")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "run_isolated", run_here)


def words(*parts: object) -> list[str]:
    return [str(part) for part in parts]


def test_without_arguments_it_says_what_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert score.main([]) == WRONG_USE
    assert score.DEMO in capsys.readouterr().err


@pytest.mark.usefixtures("here")
def test_exit_codes_and_summary(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_folder(tmp_path / "mixed", good=2)
    assert score.main(words(model, tmp_path / "mixed", "--out", tmp_path / "out")) == WITH_REJECTIONS
    said = capsys.readouterr()
    assert "found: 4 NIfTI files, 1 CT series, 1 MR series; refused: 1 not_an_image; 1 file is no scan" in said.out
    assert re.search(r"7 scans found, 6 read now \(in \d+\.\d s, \d+\.\d scans/s\)", said.out)
    assert re.search(r"ok +3\n", said.out)
    assert re.search(r"rejected +4  .*modality 1", said.out)
    assert "files that are no scans: 1" in said.out
    assert f"written: {tmp_path / 'out' / 'predictions.csv'}" in said.out
    assert f"--scans {tmp_path / 'mixed'} --scores {tmp_path / 'out'}\n" in said.out
    assert CANARY not in said.out + said.err
    save_nifti(tmp_path / "clean" / "a.nii", 1)
    assert score.main(words(model, tmp_path / "clean", "--out", tmp_path / "out2", "--workers", 1)) == DONE
    (tmp_path / "empty").mkdir()
    assert score.main(words(model, tmp_path / "empty", "--out", tmp_path / "out3")) == WITH_REJECTIONS
    assert "nothing usable was found\n" in capsys.readouterr().out
    (tmp_path / "my scans").mkdir()
    (tmp_path / "my scans" / "letter.dcm").write_text("Dear colleague")
    assert score.main(words(model, tmp_path / "my scans", "--out", tmp_path / "out4")) == WITH_REJECTIONS
    said = capsys.readouterr()
    assert "nothing usable was found; the reasons are in the table\n" in said.out
    assert f"--scans '{tmp_path / 'my scans'}' --scores {tmp_path / 'out4'}\n" in said.out


@pytest.mark.usefixtures("here")
def test_wrong_use_is_told_and_gives_2(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert score.main(words(model, tmp_path / "nowhere", "--out", tmp_path / "out")) == WRONG_USE
    assert "can't be read" in capsys.readouterr().err
    assert score.main(words(model, tmp_path, "--out", tmp_path / "out")) == WRONG_USE
    assert "lies in SCANS" in capsys.readouterr().err
    changed = save_tiny_model(tmp_path / "changed")
    weights = bytearray((changed / "weights.safetensors").read_bytes())
    weights[-1] ^= 1
    (changed / "weights.safetensors").write_bytes(weights)
    assert score.main(words(changed, model, "--out", tmp_path / "out")) == WRONG_USE
    assert "checksum" in capsys.readouterr().err
    assert score.main(words(model, tmp_path, "--out", tmp_path / "out", "--ray-address", "auto")) == WRONG_USE
    assert "--ray-address is for --engine ray" in capsys.readouterr().err
    for seconds in ("-1", "nan", "inf"):
        more = ("--watch", "--settle-seconds", seconds)
        assert score.main(words(model, tmp_path / "in", "--out", tmp_path / "out", *more)) == WRONG_USE
        assert f"--settle-seconds is {seconds}, but needs 0 or more" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        score.main(words(model, tmp_path, "--out", tmp_path / "out", "--wach"))


@pytest.mark.usefixtures("here")
def test_a_full_disk_gives_4(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_nifti(tmp_path / "in" / "a.nii", 1)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert score.main(words(model, tmp_path / "in", "--out", tmp_path / "out")) == DISK_FULL
    assert "no space left on the disk" in capsys.readouterr().err
    assert score.main(words(model, tmp_path / "in", "--out", tmp_path / "out")) == DONE


def start(model: Path, scans: Path, out: Path, *options: str, start_new_session: bool = False) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pipeline.score", *words(model, scans, "--out", out), *options]
    with heeded():
        return subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=start_new_session,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )


def timeless(out: Path) -> str:
    """predictions.csv without its column of seconds."""
    table = pd.read_csv(out / "predictions.csv", dtype=str, keep_default_na=False)
    return table.drop(columns="seconds").to_csv()


def test_killed_ten_times_it_ends_with_the_table_of_one_run(model: Path, tmp_path: Path) -> None:
    save_folder(tmp_path / "in", good=24)
    folder.score(folder.Request(model, tmp_path / "in", tmp_path / "whole"))
    out, moment = tmp_path / "out", random.Random(0)
    journal, context = out / "journal.jsonl", get_context("forkserver")
    context.set_forkserver_preload(["pipeline.scoring.folder", __name__])  # torch is loaded once for all ten
    arguments, kept = words(model, tmp_path / "in", "--out", out, "--workers", 1), [0]
    for n in range(10):
        run = context.Process(target=score_unfinished, args=(arguments,))
        run.start()
        while run.is_alive() and (rows_of(journal) < 2.4 * n or not journal.exists()):
            time.sleep(0.002)
        time.sleep(moment.uniform(0, 0.03))
        run.kill()
        run.join()
        kept.append(rows_of(journal))
        assert not (out / "predictions.csv").exists()
    assert kept == sorted(kept)
    assert kept[-1] >= 20
    last = start(model, tmp_path / "in", out)
    said, _ = last.communicate()
    assert last.returncode == WITH_REJECTIONS, said
    assert int(re.search(r"(\d+) read now", said)[1]) == 28 - kept[-1]
    assert timeless(out) == timeless(tmp_path / "whole")


def score_unfinished(arguments: list[str]) -> None:
    """Score all but the last step: who wants to kill it in the middle never comes too late."""
    folder.write_tables = lambda *_: time.sleep(600)
    score.main(arguments)


def rows_of(journal: Path) -> int:
    """Whole rows in a journal, without its header."""
    return max(0, journal.read_bytes().count(b"\n") - 1) if journal.exists() else 0


def children_of(process: subprocess.Popen[str]) -> list[int]:
    listing = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True, check=False
    )
    return [int(line) for line in listing.stdout.split()]


@pytest.mark.parametrize("rows", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_ctrl_c_ends_it_in_words_and_leaves_no_process(model: Path, tmp_path: Path, rows: int) -> None:
    first = save_nifti(tmp_path / "in" / "0.nii", 0, (60, 60, 40))
    for n in range(1, 1000):  # links: enough to be interrupted on a fast machine, written at once
        (tmp_path / "in" / f"{n}.nii").hardlink_to(first)
    run = start(model, tmp_path / "in", tmp_path / "out", start_new_session=True)
    journal = tmp_path / "out" / "journal.jsonl"
    while run.poll() is None and (not journal.exists() or journal.read_bytes().count(b"\n") < rows):
        time.sleep(0.01)
    while run.poll() is None and len(children_of(run)) < 3:  # two readers and the tracker of their pipes
        time.sleep(0.01)
    children = children_of(run)
    os.killpg(run.pid, signal.SIGINT)  # as a terminal does: to all of them
    said, _ = run.communicate(timeout=120)
    assert run.returncode == 130, said
    assert said.startswith("interrupted; nothing is lost: start the command again")
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{child}").exists() for child in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [child for child in children if Path(f"/proc/{child}").exists()]


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_watching_takes_what_comes_and_ends_in_words(model: Path, tmp_path: Path, number: int) -> None:
    save_nifti(tmp_path / "in" / "0.nii", 0)
    run = start(model, tmp_path / "in", tmp_path / "out", "--watch", "--settle-seconds", "0.5")
    predictions = tmp_path / "out" / "predictions.csv"
    for n in (1, 2):
        while run.poll() is None and not (predictions.exists() and predictions.read_text().count("\n") > n):
            time.sleep(0.05)
        save_nifti(tmp_path / "in" / f"{n}.nii", n)
    while run.poll() is None and predictions.read_text().count("\n") < 4:
        time.sleep(0.05)
    run.send_signal(number)
    said, _ = run.communicate(timeout=120)
    assert run.returncode == DONE, said
    assert said.startswith(f"watching {tmp_path / 'in'}; Ctrl-C or SIGTERM ends it")
    assert "1 scan read, 3 rows in the table" in said
    assert "3 scans found, " in said
    assert len(pd.read_csv(predictions)) == 3


@pytest.mark.usefixtures("here")
def test_an_archive_gives_the_rows_of_its_folder(model: Path, tmp_path: Path) -> None:
    save_folder(tmp_path / "in", good=2)
    shutil.make_archive(str(tmp_path / "zips" / "site"), "zip", tmp_path / "in")
    for scans, out in (("in", "one"), ("zips/site.zip", "two"), ("zips", "three")):
        assert score.main(words(model, tmp_path / scans, "--out", tmp_path / out)) == WITH_REJECTIONS
    assert timeless(tmp_path / "two") == timeless(tmp_path / "one")
    within = pd.read_csv(tmp_path / "three" / "predictions.csv").set_index("path")
    alone = pd.read_csv(tmp_path / "one" / "predictions.csv").set_index("path")
    assert list(within.index) == [f"site.zip/{path}" for path in alone.index]
    assert within["p_nodule"].tolist() == pytest.approx(alone["p_nodule"].tolist(), nan_ok=True)
    assert within["scan_id"]["site.zip/series"] == alone["scan_id"]["series"]
    assert folder.score(folder.Request(model, tmp_path / "zips", tmp_path / "three")).read_now == 0
    os.utime(tmp_path / "zips" / "site.zip")  # it may hold other scans now
    assert folder.score(folder.Request(model, tmp_path / "zips", tmp_path / "three")).read_now == 6


@pytest.mark.usefixtures("here")
def test_another_backend_gives_the_same_table_and_a_journal_of_its_own(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_folder(tmp_path / "scans")
    tables = {}
    for backend in ("torch", "onnx"):
        out = tmp_path / backend
        score.main(words(model, tmp_path / "scans", "--out", out, "--backend", backend))
        tables[backend] = pd.read_csv(out / "predictions.csv").drop(columns="seconds")
    pd.testing.assert_frame_equal(tables["torch"], tables["onnx"], atol=2e-6)
    assert score.main(words(model, tmp_path / "scans", "--out", tmp_path / "onnx")) == WRONG_USE
    assert "backend: there onnx, now torch" in capsys.readouterr().err
    told = read_json(tmp_path / "onnx" / "summary.json")
    assert (told["backend"], told["precision"]) == ("onnx", "fp32")
    assert 0 <= told["this_run"]["difference_from_torch_fp32"] < 1e-4
    assert read_json(tmp_path / "torch" / "summary.json")["this_run"]["difference_from_torch_fp32"] is None
    asked = ("--engine", "ray", "--backend", "onnx")
    assert score.main(words(model, tmp_path / "scans", "--out", tmp_path / "ray", *asked)) == WRONG_USE
    assert "--backend onnx works with --engine local alone" in capsys.readouterr().err


@pytest.mark.usefixtures("here")
def test_bf16_is_near_said_and_never_mixed_with_fp32(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    save_folder(tmp_path / "scans")
    tables = {}
    for precision in ("fp32", "bf16"):
        out = tmp_path / precision
        score.main(words(model, tmp_path / "scans", "--out", out, "--precision", precision))
        tables[precision] = pd.read_csv(out / "predictions.csv")
    gap = (tables["bf16"]["p_nodule"] - tables["fp32"]["p_nodule"]).abs().max()
    assert 0 < gap < 0.02
    assert re.search(r"torch in bf16: at most [\d.e-]+ in probability from torch in fp32", capsys.readouterr().out)
    told = read_json(tmp_path / "bf16" / "summary.json")
    assert (told["backend"], told["precision"]) == ("torch", "bf16")
    assert 0 < told["this_run"]["difference_from_torch_fp32"] < 0.02
    assert score.main(words(model, tmp_path / "scans", "--out", tmp_path / "bf16")) == WRONG_USE
    assert "precision: there bf16, now fp32" in capsys.readouterr().err
    for other in (("--engine", "ray"), ("--backend", "onnx")):
        asked = words(model, tmp_path / "scans", "--out", tmp_path / "other", "--precision", "bf16", *other)
        assert score.main(asked) == WRONG_USE
        assert "--precision bf16 works with --backend torch and --engine local alone" in capsys.readouterr().err
