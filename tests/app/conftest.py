"""A tiny untrained model and a few phantom scans, for every test of the viewer."""

import shutil
import sys
from pathlib import Path

import pytest
import torch

from data.phantoms import make_demo
from pipeline.domain import OperatingPoint, ReadRules
from pipeline.evaluation.calibration import uncalibrated
from pipeline.model.backbone import build_network
from pipeline.model.package import Settings, save_model
from pipeline.sections import ModelSection, PreprocessSection

NAME = "tiny"


def save_tiny_model(folder: Path, dimensions: int = 3, findings: tuple[str, ...] = ("nodule",), **changes) -> Path:
    """An untrained model folder that loads and predicts in milliseconds."""
    torch.manual_seed(0)
    three = dimensions == 3
    section = ModelSection(
        dimensions=dimensions, backbone="resnet10" if three else "resnet18", width=0.125 if three else 1.0
    )
    task = "binary" if len(findings) == 1 else "multilabel"
    settings = Settings(
        name=NAME, task=task, findings=findings, read=changes.pop("read", ReadRules()),
        preprocess=PreprocessSection(size=(32,) * dimensions, window=(-1000, 400)), model=section,
        calibration=uncalibrated(task, len(findings)),
        operating_points={f: OperatingPoint(f, 0.43, "sensitivity >= 0.95") for f in findings}, **changes,
    )  # fmt: skip
    save_model(folder, settings, [build_network(section, len(findings))])
    return folder


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("models") / "model", intended_use="tests of the viewer")


@pytest.fixture(scope="session")
def demo_scans(tmp_path_factory) -> Path:
    """The demo's scans (its first patients hold the series that are broken on purpose); read only."""
    folder = tmp_path_factory.mktemp("demo")
    make_demo(folder, seed=0, patients=8, small=True)
    return folder / "scans"


@pytest.fixture
def own_scans(demo_scans, tmp_path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(demo_scans, tmp_path / "scans"))


@pytest.fixture(autouse=True)
def own_main(monkeypatch) -> None:
    """Streamlit's AppTest leaves the page as `__main__`; processes spawned by later tests would run it."""
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
