"""The viewer as a user starts it, and the system's Chromium in front of it."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from data.phantoms import make_demo
from tests.app.conftest import save_tiny_model
from tests.app.running import Viewer, start_viewer, stop_viewer
from tests.e2e.opening import TALK

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync",
)  # fmt: skip
VIEWPORT = {"width": 1440, "height": 1000}


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args):
    """pytest-playwright's hook: which browser to start, and how."""
    if CHROMIUM is None:
        reason = "no Chromium found (apt-get install chromium); the viewer's browser tests need it"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return {**browser_type_launch_args, "executable_path": CHROMIUM, "args": list(FLAGS)}


@pytest.fixture(scope="session")
def browser_context_args(browser_context_args):
    return {**browser_context_args, "viewport": VIEWPORT, "color_scheme": "dark"}


@pytest.fixture
def context(context):
    """Each page notes how it talks with the server, for `settled`."""
    context.add_init_script(TALK)
    return context


@pytest.fixture(scope="session")
def output_path(tmp_path_factory) -> Path:
    """Where screenshots go: the folder that SCREENSHOTS names, else a temporary one."""
    folder = Path(os.environ.get("SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def viewer(tmp_path_factory) -> Iterator[Viewer]:
    folder = tmp_path_factory.mktemp("viewer")
    make_demo(folder / "demo", seed=0, patients=8, small=True)
    running = start_viewer(save_tiny_model(folder / "model"), folder / "demo" / "scans", folder)
    yield running
    stop_viewer(running)
