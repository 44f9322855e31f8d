"""An output folder that can't be written to: every command refuses it in one line, before its work."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from pipeline import deidentify, evaluate, explain, export, prepare, receive, score, train
from pipeline.console import WRONG_USE
from pipeline.domain import UsageError
from pipeline.files import write_text
from tests.evaluation.runs import predictions, run_folder
from tests.scans.fake_pacs import serving
from tests.scoring.scenes import save_nifti, save_tiny_model

CONFIG = {"name": "tiny", "preprocess": {"size": [16, 16, 16]}, "train": {"accelerator": "cpu"}}


@pytest.fixture(scope="module")
def things(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the commands read: a model, scans, a cohort with a config, a table with labels, a PACS."""
    root = tmp_path_factory.mktemp("things")
    model = save_tiny_model(root / "model")
    for n in range(12):
        save_nifti(root / "scans" / f"{n}.nii", n)
    labels = "".join(f"{n}.nii,{n % 2},P{n}\n" for n in range(12))
    (root / "labels.csv").write_text("path,nodule,patient_id\n" + labels)
    words = ["--labels", root / "labels.csv", "--label", "nodule", "--out", root / "cohort", "--workers", "0"]
    assert prepare.main([str(root / "scans"), *map(str, words)]) == 0
    (root / "config.yaml").write_text(yaml.safe_dump({**CONFIG, "cohort": {"folder": str(root / "cohort")}}))
    table = predictions()
    table.drop(columns=["y_nodule"]).to_csv(root / "predictions.csv", index=False)
    table[["scan_id", "y_nodule"]].rename(columns={"y_nodule": "nodule"}).to_csv(root / "truth.csv", index=False)
    (root / "file").write_text("in the way")
    (root / "folder").mkdir()
    return {"root": str(root), "model": str(model), "scans": str(root / "scans"), "scan": str(root / "scans" / "0.nii")}


COMMANDS: dict[str, tuple[Callable[[list[str]], int], str]] = {
    "prepare": (prepare.main, "{scans} --labels {root}/labels.csv --label nodule --workers 0 --out {out}"),
    "prepare without labels": (prepare.main, "{scans} --workers 0 --out {out}"),
    "train": (train.main, "{root}/config.yaml --out {out}"),
    "evaluate a table": (evaluate.main, "--predictions {root}/predictions.csv --labels {root}/truth.csv --out {out}"),
    "evaluate a model": (
        evaluate.main, "--model {model} --scans {scans} --labels {root}/labels.csv --out {out}"
    ),
    "recalibrate": (
        evaluate.main,
        "--model {model} --scans {scans} --labels {root}/labels.csv --out {root}/judged --recalibrate {out}/copy",
    ),
    "score": (score.main, "{model} {scans} --out {out}"),
    "score a PACS": (score.main, "{model} {pacs} --query Modality=CT --out {out}"),
    "score with Ray": (score.main, "{model} {scans} --engine ray --out {out}"),
    "explain": (explain.main, "{model} {scan} --out {out}"),
    "export": (export.main, "{model} --format onnx --out {out}"),
    "receive": (receive.main, "--aet HERE --port 0 --out {out}"),
    "deidentify": (deidentify.main, "{scans} {out} --key {root}/key"),
    "deidentify's key": (deidentify.main, "{scans} {root}/copies --key {out}/key"),
}  # fmt: skip
OUTS = {
    "a file": ("{root}/file", "File exists|Not a directory|a file"),
    "below a file": ("{root}/file/out", "Not a directory"),
    "below what nobody may write to": ("/sys/scanline/out", "Permission denied|Operation not permitted|Read-only"),
    "read-only": ("{root}/folder", "Read-only file system"),
    "below what is read-only": ("{root}/folder/out", "Read-only file system"),
    "a name that is too long": ("{root}/" + "x" * 300, "File name too long"),
}


@pytest.mark.skipif(not Path("/sys").is_dir(), reason="no sysfs here, which even the superuser can't write to")
@pytest.mark.parametrize("out", OUTS)
@pytest.mark.parametrize("command", COMMANDS)
def test_an_output_folder_that_can_not_be_written_to(
    command: str, out: str, things: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    main, words = COMMANDS[command]
    where, why = OUTS[out]
    where = where.format(**things)
    make_read_only(Path(things["root"]) / "folder", monkeypatch)
    with serving() as server:
        code = main(words.format(**things, out=where, pacs=server.address).split())
        asked = server.asked
    said = capsys.readouterr().err
    assert code == WRONG_USE, said
    assert any(where in line and any(one in line for one in why.split("|")) for line in said.splitlines()), said
    assert "choose" in said
    assert asked == []
    assert [*(Path(things["root"]) / "folder").iterdir()] == []


def make_read_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be made in the folder any more, as on a read-only file system: permissions don't bind root."""

    def unless_within(make: Callable[..., object], makes: Callable[..., bool]) -> Callable[..., object]:
        def made(path: object, *args: object, **options: object) -> object:
            if makes(*args) and isinstance(path, str | Path) and Path(path).is_relative_to(folder):
                raise OSError(30, "Read-only file system", str(path))
            return make(path, *args, **options)

        return made

    monkeypatch.setattr(os, "mkdir", unless_within(os.mkdir, lambda *_: True))
    writing = os.O_WRONLY | os.O_RDWR
    monkeypatch.setattr(os, "open", unless_within(os.open, lambda flags, *_: bool(flags & writing)))


def test_a_model_that_became_read_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = save_tiny_model(tmp_path / "model")
    make_read_only(model, monkeypatch)
    assert explain.main([str(model), "--check", str(tmp_path)]) == WRONG_USE
    assert f"MODEL {model}: can't be made or written to (Read-only file system)" in capsys.readouterr().err


def test_a_run_folder_that_became_read_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_folder(tmp_path / "run")
    make_read_only(run, monkeypatch)
    for words in ([str(run)], [str(run), "--against", str(run)]):
        assert evaluate.main(words) == WRONG_USE
        assert f"RUN {run}: can't be made or written to (Read-only file system)" in capsys.readouterr().err


def test_a_folder_where_a_file_should_be(tmp_path: Path) -> None:
    (tmp_path / "table.csv" / "within").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"table.csv can't be written there \((Is a directory|Directory not empty)\)"):
        write_text(tmp_path / "table.csv", "x")
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]
