"""What a user installs and reads: version floors, pins, licences, the Makefile; and that documents tell the truth."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
RUNTIME = [Requirement(line) for line in PROJECT["dependencies"]]
EXTRAS = [
    requirement
    for lines in PROJECT["optional-dependencies"].values()
    for requirement in map(Requirement, lines)
    if requirement.name != PROJECT["name"]  # an extra may take in others
]
PINS = {
    canonicalize_name(name): Version(version)
    for name, _, version in (
        line.partition("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")
    )
}
FLOORS = {
    "torch": "2.10",
    "lightning": "2.6.6",
    "monai": "1.6.1",
    "pydicom": "3.0.2",
    "pynetdicom": "3.0.4",
    "pillow": "12.2",
    "starlette": "1.3",
    "streamlit": "1.61",
}
"""Oldest versions without a known hole or wrong result (DESIGN section 6)."""

DEMO_STEPS = [
    "data.phantoms",
    "pipeline.prepare",
    "pipeline.train",
    "pipeline.explain",
    "pipeline.evaluate",
    "pipeline.score",
    "data.summary",
]

DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("data/*.md")])
document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())


@pytest.mark.parametrize(("name", "floor"), FLOORS.items())
def test_version_floors(name: str, floor: str) -> None:
    wanted = [r for r in (*RUNTIME, *EXTRAS) if canonicalize_name(r.name) == name]
    lowest = [Version(s.version) for r in wanted for s in r.specifier if s.operator == ">="]
    assert lowest, f"{name} has no lower bound"
    assert min(lowest) >= Version(floor)
    assert Version(importlib.metadata.version(name)) >= Version(floor)


def test_the_poisoned_lightning_releases_are_out_of_reach() -> None:
    (lightning,) = [r for r in RUNTIME if r.name == "lightning"]
    assert not any(lightning.specifier.contains(v) for v in ("2.6.2", "2.6.3", "2.7.0"))


@pytest.mark.parametrize("requirement", [*RUNTIME, *EXTRAS], ids=str)
def test_every_dependency_is_pinned_within_its_bounds(requirement: Requirement) -> None:
    pin = PINS[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(pin, prereleases=True)


def test_the_pins_name_no_index_and_no_local_build() -> None:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert re.findall(r"--\S+-url|https?:|file:|@ ", text) == []
    assert [name for name, pin in PINS.items() if pin.local] == []


def test_nothing_that_a_user_installs_is_gpl() -> None:
    assert {name: text for name in _installed(RUNTIME) if re.search(r"(?<![AL])GPL", text := _licence(name))} == {}


def test_licence_is_apache_2() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert PROJECT["license"] == "Apache-2.0"
    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


@document
def test_links_lead_somewhere(path: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", path.read_text(encoding="utf-8"))
    assert [target for target in targets if not (path.parent / target).exists()] == []


@document
def test_commands_in_documents_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    modules = {
        name for name in re.findall(r"python -m ([\w.]+)", text) if name.split(".")[0] in ("pipeline", "app", "data")
    }
    homes = {name: ROOT / name.replace(".", "/") for name in modules}
    assert [
        n for n, home in homes.items() if not (home.with_suffix(".py").exists() or (home / "__main__.py").exists())
    ] == []
    targets = set(re.findall(r"\bmake (?:demo|viewer|test-slow|test|bench|clean|help)\b", text))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert [target for target in targets if f"\n{target.split()[1]}:" not in makefile] == []


def test_what_the_readme_lists_is_there() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    tree = re.search(r"## What is where\n\n```\n(.*?)```", readme, flags=re.DOTALL)
    assert tree, "the README has a file tree"
    folder, listed = "", []
    for indent, name in re.findall(r"^( *)(\S+)", tree[1], flags=re.MULTILINE):
        listed.append(f"{folder}{name}" if indent else name)
        folder = folder if indent else name
    assert len(listed) > 10
    assert [name for name in listed if not (ROOT / name).exists()] == []


def test_decisions_are_numbered_and_complete() -> None:
    records = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert [record.name[:4] for record in records] == [f"{n:04d}" for n in range(1, len(records) + 1)]
    for record in records:
        headings = re.findall(r"^## (\w+)", record.read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert headings == ["Context", "Options", "Decision", "Consequences"], record.name


def test_changelog_has_a_heading_for_changed_predictions() -> None:
    assert "### Changes that alter predictions" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("demo",), ["data.phantoms --out data/demo --seed 0", "pipeline.score runs/demo/run/model data/demo/scans"]),
        (("demo", "SEED=3"), ["--seed 3", "--cohort.seed 3", "--train.seed 3", "--out runs/demo-3/run"]),
        (("test", "VENV=/nowhere/v"), ["/nowhere/v/bin/python -m pytest", "/nowhere/v/bin/python -m mypy"]),
        (("test-slow", "VENV=/nowhere/v"), ["/nowhere/v/bin/python -m pytest -m slow"]),
    ],
)
def test_make_would_run(words: tuple[str, ...], expected: list[str]) -> None:
    said = _make("--dry-run", *words).stdout
    assert [part for part in expected if part not in said] == []


@pytest.mark.parametrize(
    ("code", "expected"), [(0, DEMO_STEPS), (3, DEMO_STEPS), (2, DEMO_STEPS[:2]), (1, DEMO_STEPS[:2])]
)
def test_the_demo_goes_on_only_when_scans_were_refused(tmp_path: Path, code: int, expected: list[str]) -> None:
    runs = tmp_path / "runs"
    for name in ("cohort", "run", "scores"):
        (runs / name).mkdir(parents=True)
    log = _fake_environment(tmp_path, f'case "$2" in pipeline.prepare | pipeline.score) exit {code} ;; esac')
    done = _make("demo", f"VENV={tmp_path}/venv", f"RUNS={runs}", f"DEMO_DIR={tmp_path}/demo")
    assert re.findall(r"^-m (\S+)", log.read_text(), flags=re.MULTILINE) == expected
    assert (done.returncode == 0) == (code in (0, 3)), done.stderr
    assert [path.name for path in runs.iterdir()] == ["cohort"]  # made anew by train and score


def test_make_says_which_python_it_needs(tmp_path: Path) -> None:
    env = {"PATH": str(tmp_path)}  # no interpreter at all
    done = _make(f"VENV={tmp_path}/venv", "SHELL=/bin/sh", f"{tmp_path}/venv/bin/python", env=env)
    assert done.returncode == 2
    assert "No Python 3.11 or newer with its venv module was found" in done.stderr


def test_clean_spares_other_runs() -> None:
    removed = " ".join(re.findall(r"^rm -rf (.*)$", _make("--dry-run", "clean").stdout, flags=re.MULTILINE)).split()
    assert "runs/demo" in removed
    assert not {"runs", "runs/", "runs/*", ".venv", "data", "."} & set(removed)


def test_ci_runs_both_suites() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", script], check=True)
    assert re.findall(r"^make (\S+) VENV=", script.read_text(encoding="utf-8"), flags=re.MULTILINE) == [
        "test",
        "test-slow",
    ]


def test_pre_commit_needs_no_network() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert {repository["repo"] for repository in config["repos"]} == {"local"}
    assert {hook["language"] for hook in config["repos"][0]["hooks"]} <= {"system", "pygrep", "fail"}


def test_git_holds_no_scans_and_no_large_files() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], check=False, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git clone")
    files = [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()]
    assert [file.name for file in files if file.stat().st_size > 500_000] == []
    assert [
        file.name for file in files if re.search(r"\.(dcm|dicom|ima|nii|nii\.gz|mha|nrrd|npz)$", file.name, re.I)
    ] == []


def _fake_environment(folder: Path, then: str) -> Path:
    """An installed virtual environment whose Python writes its arguments to the returned file, then does `then`."""
    log, python = folder / "log", folder / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\necho "$@" >> {log}\n{then}\n')
    python.chmod(0o755)
    (folder / "venv" / ".installed").touch()
    return log


def _make(*words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    make = shutil.which("make")
    if make is None:
        pytest.skip("make is not installed")
    env = env or {"PATH": os.environ["PATH"]}  # without the variables of a `make test` that runs this
    return subprocess.run([make, *words], check=False, cwd=ROOT, capture_output=True, text=True, env=env)


def _installed(requirements: list[Requirement]) -> set[str]:
    """Names of everything that the requirements bring in here, themselves included."""
    found: set[str] = set()
    waiting = [r.name for r in requirements]
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in found:
            continue
        try:
            lines = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:  # for another platform
            continue
        found.add(name)
        needed = map(Requirement, lines)
        waiting += [r.name for r in needed if r.marker is None or r.marker.evaluate({"extra": ""})]
    return found


def _licence(name: str) -> str:
    """What a package says of its licence: expression, else short text and classifiers."""
    about = importlib.metadata.metadata(name)
    short = [text for text in about.get_all("License") or [] if len(text) < 200]
    classifiers = [c for c in about.get_all("Classifier") or [] if c.startswith("License")]
    return "; ".join(about.get_all("License-Expression") or [*short, *classifiers])
