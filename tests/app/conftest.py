"""A tiny untrained model and a few phantom scans, for every test of the viewer."""

import shutil
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from streamlit.testing.v1 import AppTest

from app import catalog, opinions, session, settings, threshold
from data.phantoms import make_demo
from pipeline.domain import OperatingPoint, ReadRules
from pipeline.evaluation.calibration import uncalibrated
from pipeline.model.backbone import build_network
from pipeline.model.package import Settings, save_model
from pipeline.sections import ModelSection, PreprocessSection
from tests.app.pages import PAGE

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


@pytest.fixture(autouse=True)
def fresh(tmp_path, monkeypatch) -> None:
    """No test sees another's model or scans, nor writes into the user's own data folder."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "own"))
    for cached in (
        settings.parse_settings, session.the_model, session.the_scorer, catalog.the_catalog, catalog.the_scores,
        threshold.the_run, opinions.the_opinions,
    ):  # fmt: skip
        cached.cache_clear()


@pytest.fixture
def scans(tmp_path) -> Path:
    """Two NIfTI scans and a file that only claims to be one."""
    folder = tmp_path / "scans"
    folder.mkdir()
    for number in (1, 2):
        voxels = np.random.default_rng(number).normal(-500, 300, (20, 18, 12)).astype(np.int16)
        nib.save(nib.Nifti1Image(voxels, np.diag([2.0, 2.0, 3.0, 1.0])), folder / f"DOE-JANE-{number}.nii.gz")
    (folder / "broken.dcm").write_text("no scan at all")
    return folder


@pytest.fixture
def open_page(monkeypatch):
    """Starts the page as `python -m app MODEL SCANS OPTIONS` would."""

    def opened(model: Path, scans: Path, *options: str) -> AppTest:
        monkeypatch.setattr(sys, "argv", ["app", "--model", str(model), "--scans", str(scans), *options])
        return AppTest.from_file(PAGE, default_timeout=60).run()

    return opened
