import hashlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from pipeline.cohort.manifest import read_cohort
from pipeline.config import load_config
from pipeline.files import read_json, read_table
from pipeline.prepare import main, parse

N = 18


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """18 small NIfTI volumes, one of them twice, one truncated, and a text file."""
    root = tmp_path_factory.mktemp("scans")
    for n in range(N):
        voxels = np.random.default_rng(n if n != 3 else 1).normal(size=(6, 5, 4)).astype(np.float32)
        image = nib.Nifti1Image(voxels, np.diag([0.5, 0.5, 2.0, 1.0]))
        image.set_sform(image.affine, 1)
        nib.save(image, root / f"case{n:02d}.nii.gz")
    (root / "broken.nii.gz").write_bytes((root / "case00.nii.gz").read_bytes()[:200])
    (root / "readme.txt").write_text("no scan")
    return root


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    rows = [f"case{n:02d}.nii.gz,{n % 2},PATIENT-{n:03d},{'AB'[n % 3 > 1]}" for n in range(N)]
    path = tmp_path / "labels.csv"
    path.write_text("path,nodule,patient_id,site\n" + "\n".join(rows) + "\n")
    return path


def run(*words: object) -> int:
    return main([*map(str, words), "--workers", "0"])


def digest(folder: Path) -> str:
    parts = [f"{p.name}:{hashlib.sha256(p.read_bytes()).hexdigest()}" for p in sorted(folder.rglob("*")) if p.is_file()]
    return "\n".join(parts)


def test_the_flow_end_to_end(scans: Path, labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, out = digest(scans), tmp_path / "cohort"
    assert run(scans, "--labels", labels, "--label", "nodule", "--out", out) == 3
    assert digest(scans) == before

    cohort = read_cohort(out)
    assert len(cohort.table) == N
    assert set(cohort.table["split"]) == {"train", "tune", "test"}
    assert cohort.warnings == ()
    assert read_table(out / "rejected.csv")["path"].tolist() == ["broken.nii.gz"]
    assert read_table(out / "skipped.csv")["path"].tolist() == ["readme.txt"]
    assert read_table(out / "duplicates.csv")["path"].tolist() == ["case01.nii.gz", "case03.nii.gz"]
    assert read_table(out / "unmatched.csv")[["path", "reason"]].to_numpy().tolist() == [
        ["broken.nii.gz", "no_label_row"]
    ]
    assert set(cohort.table["spacing_mm"]) == {"0.5x0.5x2"}

    said = " ".join(capsys.readouterr().out.split())
    assert "found: 19 NIfTI files; 1 file is no scan" in said
    assert "18 scans of 18 patients read, 1 refused" in said
    assert f"config: {out / 'config.yaml'} (proposed from these scans)" in said
    assert f"next: python -m pipeline.train {out / 'config.yaml'}" in said
    config = load_config(out / "config.yaml")
    assert (config.cohort.folder, config.out) == (out, out.parent / "run")
    page = (out / "cohort.html").read_text()
    assert "PATIENT-" not in page
    assert "case0" not in page
    assert "://" not in page


def test_the_same_again_gives_the_same_split_and_keeps_the_salt(scans: Path, labels: Path, tmp_path: Path) -> None:
    words = (scans, "--labels", labels, "--label", "nodule", "--out", tmp_path / "c")
    run(*words)
    kept = {name: (tmp_path / "c" / name).read_bytes() for name in ("scans.csv", "fingerprint.json", ".salt")}
    lines = labels.read_text().splitlines()
    labels.write_text("\n".join([lines[0], *lines[:0:-1]]) + "\n")
    run(*words)
    assert {name: (tmp_path / "c" / name).read_bytes() for name in kept} == kept
    assert not (set(read_table(tmp_path / "c/scans.csv")["scan_id"]) & {""})


def test_without_labels_a_report_and_no_split(scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "c"
    assert run(scans, "--out", out) == 3
    assert set(read_table(out / "scans.csv")["split"]) == {""}
    assert not (out / "unmatched.csv").exists()
    assert read_json(out / "fingerprint.json")["task"] is None
    said = capsys.readouterr().out
    assert "next: the same command with --labels" in said
    assert "scans without patient_id: 18" in said


def test_exit_code_0_where_nothing_was_refused(scans: Path, tmp_path: Path) -> None:
    assert run(scans / "case05.nii.gz", "--out", tmp_path / "c") == 0
    assert read_table(tmp_path / "c/scans.csv")["path"].tolist() == ["case05.nii.gz"]


def test_nothing_usable_ends_with_3_and_tables(
    tmp_path: Path, labels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert run(tmp_path / "empty", "--labels", labels, "--label", "nodule", "--out", tmp_path / "c") == 3
    assert "nothing usable was found" in capsys.readouterr().out
    assert len(read_table(tmp_path / "c/scans.csv")) == 0
    assert len(read_table(tmp_path / "c/unmatched.csv")) == N


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["{scans}", "--out", "{scans}"], "--out lies inside SCANS"),
        (["{scans}", "--out", "{scans}/below/cohort"], "--out lies inside SCANS"),
        (["{scans}", "--out", "{labels}"], "labels.csv: can't be made or written to (Not a directory)"),
        (["{scans}/none", "--out", "{out}"], "none: can't be read"),
        (["{scans}", "--labels", "{out}/none.csv", "--out", "{out}"], "none.csv: can't be read"),
        (["{scans}", "--label", "nodule", "--out", "{out}"], "--label names columns of --labels"),
        (["{scans}", "--labels", "{labels}", "--label", "mass", "--out", "{out}"],
         "label column 'mass' is missing; the columns are: path, nodule, patient_id, site"),
        (["{scans}", "--labels", "{labels}", "--label", "patient_id", "--out", "{out}"],
         "'patient_id' has a name"),
        (["{scans}", "--labels", "{labels}", "--label", "nodule", "--out", "{out}", "--cohort.duplicates", "refuse"],
         "2 labelled scans share their image"),
        (["{scans}", "--labels", "{labels}", "--label", "nodule", "--out", "{out}", "--cohort.hold_out", "site", "Q"],
         "no labelled scan has site Q"),
    ],
)  # fmt: skip
def test_wrong_use_ends_with_2_and_writes_nothing(
    scans: Path, labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: Sequence[str], says: str
) -> None:
    out = tmp_path / "out"
    assert run(*(word.format(scans=scans, labels=labels, out=out) for word in words)) == 2
    assert says in " ".join(capsys.readouterr().err.split())
    assert not out.exists()


def test_a_table_of_the_cohort_itself_is_not_taken_for_labels(
    scans: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(scans, "--out", tmp_path / "c")
    before = (tmp_path / "c/scans.csv").read_bytes()
    assert run(scans, "--labels", tmp_path / "c/scans.csv", "--label", "sex", "--out", tmp_path / "c") == 2
    assert "copy it elsewhere first" in capsys.readouterr().err
    assert (tmp_path / "c/scans.csv").read_bytes() == before


def test_no_argument_shows_the_demo(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "python -m pipeline.prepare data/demo/scans" in capsys.readouterr().err


def test_a_held_out_site_is_the_test_split(scans: Path, labels: Path, tmp_path: Path) -> None:
    out = tmp_path / "c"
    run(scans, "--labels", labels, "--label", "nodule", "--out", out, "--cohort.hold_out", "site", "B")
    table = read_table(out / "scans.csv")
    assert set(table["site"][table["split"] == "test"]) == {"B"}
    assert set(table["site"][table["split"] != "test"]) == {"A"}


def test_a_config_gives_defaults_and_the_command_line_wins(tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text("cohort: {seed: 4, test_fraction: 0.3, hold_out: {site: [B]}}\nread: {min_slices: 9}\n")
    options = parse(["s", "--out", "o", "--config", str(config), "--cohort.seed", "5"])
    assert (options.cohort.seed, options.cohort.test_fraction, options.cohort.hold_out) == (5, 0.3, {"site": ["B"]})
    assert options.read.min_slices == 9


@pytest.mark.parametrize(
    "words", [["--label", "a", "b"], ["--label", "a", "--label", "b"], ["--label", "a", "--out", "o", "--label", "b"]]
)
def test_labels_may_be_given_together_or_one_by_one(words: list[str]) -> None:
    options = parse(["s", "--out", "o", "--labels", "l.csv", *words])
    assert (options.label, options.labels, options.out) == (("a", "b"), Path("l.csv"), Path("o"))


@pytest.mark.parametrize("value", ["2", "nan", "-0.1"])
def test_values_out_of_range_end_with_2(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["s", "--out", "o", "--cohort.test-fraction", value])
    assert "test_fraction" in capsys.readouterr().err


def test_the_command_reads_in_processes(scans: Path, labels: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pipeline.prepare", str(scans), "--labels", str(labels), "--label", "nodule"]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "c"), "--workers", "2"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (3, "")
    assert len(pd.read_csv(tmp_path / "c/scans.csv")) == N
