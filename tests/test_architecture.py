"""Floors, circles, sizes and bans: what DESIGN section 3 promises about the source, checked on its syntax trees."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter

import pytest

from tests import architecture as source
from tests.architecture import Module

SHIPPED = source.modules("pipeline", "app")
WRITTEN = SHIPPED | source.modules("data", "benchmarks")
LONGEST_FILE, LONGEST_FUNCTION = 300, 60

HOMES = {
    "lightning": (
        "pipeline/model/learner.py",
        "pipeline/model/fit.py",
        "pipeline/model/checkpoints.py",
        "pipeline/model/tracking.py",
    ),
    "pydicom": ("pipeline/scans/", "pipeline/results/dicom_"),
    "highdicom": ("pipeline/scans/", "pipeline/results/dicom_"),
    "streamlit": ("app/",),
    "ray": ("pipeline/scoring/ray.py",),
}
"""Package -> where alone it may be imported."""

FORBIDDEN = frozenset(
    {"utils", "util", "helper", "helpers", "manager", "handler", "img", "sample_dict", "meta", "args"}
)
"""Names that say nothing (DESIGN section 4)."""

every_shipped = pytest.mark.parametrize("module", SHIPPED.values(), ids=lambda module: module.path)
every_written = pytest.mark.parametrize("module", WRITTEN.values(), ids=lambda module: module.path)


@every_shipped
def test_imports_lead_downwards(module: Module) -> None:
    if module.path == "pipeline/__init__.py":  # the lazy API: it names its homes as text
        assert source.dependencies(module, SHIPPED) == set()
    else:
        assert source.upward(module, SHIPPED) == []


def test_there_are_no_circles() -> None:
    assert _circle({name: source.dependencies(module, SHIPPED) for name, module in SHIPPED.items()}) is None


@every_shipped
def test_libraries_stay_in_their_rooms(module: Module) -> None:
    strays = [p for p in source.packages(module) if p in HOMES and not module.path.startswith(HOMES[p])]
    assert strays == []


@every_written
def test_nothing_runs_what_a_file_says(module: Module) -> None:
    assert source.banned(module) == []


@every_written
def test_sizes(module: Module) -> None:
    lines = module.text.count("\n")
    assert lines <= LONGEST_FILE
    assert [f"{name}: {lines} lines" for name, lines in source.functions(module) if lines > LONGEST_FUNCTION] == []


@every_written
def test_names_say_something(module: Module) -> None:
    assert module.name.rpartition(".")[2] not in FORBIDDEN
    assert [f"{line}: {name}" for name, line in source.defined_names(module) if name in FORBIDDEN] == []


@every_shipped
def test_input_is_never_checked_by_assert(module: Module) -> None:
    assert [node.lineno for node in ast.walk(module.tree) if isinstance(node, ast.Assert)] == []


@pytest.mark.parametrize(
    "statement",
    [
        "import pipeline",
        "import pipeline.config, pipeline.console, pipeline.files",
        "from pipeline import find_scans, read_volume",
        "import pipeline.scans.dicom, pipeline.scans.nifti, pipeline.scans.image",
        "import pipeline.scans.isolated",
        "import pipeline.model.preprocess",
    ],
)
def test_reading_scans_needs_no_torch(statement: str) -> None:
    said = _python(
        f"import sys; {statement}; print(sorted({{'torch', 'monai', 'lightning', 'streamlit'}} & set(sys.modules)))"
    )
    assert said == "[]"


def test_import_pipeline_takes_half_a_second_at_most() -> None:
    timed = "import time; start = time.process_time(); import pipeline; print(time.process_time() - start)"
    assert min(float(_python(timed)) for _ in range(3)) < 0.5


# The checks themselves, on sources that break each rule.


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("pipeline/scans/a.py", "import pipeline.model.package"),
        ("pipeline/scans/a.py", "from pipeline.model import package"),
        ("pipeline/scans/a.py", "from pipeline import load_model"),
        ("pipeline/scans/a.py", "def f():\n    from pipeline.cohort.split import g"),
        ("pipeline/scans/a.py", "from ..evaluation import metrics"),
        ("pipeline/results/a.py", "from pipeline.evaluation.metrics import auroc"),
        ("pipeline/domain.py", "from pipeline.scans.find import survey"),
        ("pipeline/model/a.py", "import pipeline.train"),
        ("pipeline/score.py", "import app.viewer"),
        ("pipeline/score.py", "from data.phantoms import write"),
    ],
)
def test_upward_imports_are_seen(path: str, text: str) -> None:
    assert len(source.upward(Module(path, text), SHIPPED)) == 1


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("pipeline/model/a.py", "from pipeline.scans.find import survey\nfrom pipeline.model.backbone import build"),
        ("pipeline/scans/a.py", "from pipeline import __version__"),
        ("pipeline/scans/a.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pipeline.train"),
        ("pipeline/train.py", "from pipeline import load_model, console"),
    ],
)
def test_downward_imports_pass(path: str, text: str) -> None:
    assert source.upward(Module(path, text), SHIPPED) == []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle as p\np.load(file)",
        "from pickle import load\nload(file)",
        "import joblib\njoblib.load(file)",
        "import torch\ntorch.jit.load(file)",
        "import torch\ntorch.load(file, weights_only=False)",
        "import torch\ntorch.load(file, weights_only=trusted)",
        "import numpy as np\nnp.load(file, allow_pickle=True)",
        "import yaml\nyaml.load(text)",
        "eval(text)",
        "exec(text)",
        "import subprocess\nsubprocess.run(line, shell=True)",
        "from monai.bundle import ConfigParser",
        "from logging.config import fileConfig\nfileConfig(path)",
    ],
)
def test_banned_calls_are_seen(text: str) -> None:
    assert len(source.banned(Module("pipeline/a.py", text))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "network.eval()",
        "import torch\ntorch.load(file, weights_only=True)",
        "import yaml\nyaml.safe_load(text)",
        "import numpy as np\nnp.load(file, allow_pickle=False)",
    ],
)
def test_safe_calls_pass(text: str) -> None:
    assert source.banned(Module("pipeline/a.py", text)) == []


def test_a_circle_is_seen() -> None:
    assert _circle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) is not None


def test_forbidden_names_are_seen() -> None:
    module = Module("pipeline/a.py", "def f(img, *args):\n    meta: int = 1\n    return [helper for helper in args]")
    assert {name for name, _ in source.defined_names(module)} & FORBIDDEN == {"img", "meta", "helper"}


def _circle(graph: dict[str, set[str]]) -> list[str] | None:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return None


def _python(statements: str) -> str:
    command = [sys.executable, "-c", statements]
    done = subprocess.run(command, cwd=source.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
