"""Every config that ships: it loads, and its first lines say command, time and expected score."""

import re
from itertools import takewhile
from pathlib import Path

import pytest

from pipeline.config import Config, load_config, save_config

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
every_config = pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)


def test_the_promised_configs_ship() -> None:
    promised = {"demo.yaml", "ct_contrast_2d.yaml", "adrenal_3d.yaml", "pneumonia_xray_2d.yaml"}
    assert promised <= {path.name for path in CONFIGS}


@every_config
def test_config_loads_and_survives_saving(path: Path, tmp_path: Path) -> None:
    config = load_config(path)
    assert config != Config()
    save_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == config


@every_config
def test_first_lines_say_command_time_and_score(path: Path) -> None:
    opening = "\n".join(takewhile(lambda line: line.startswith("#"), path.read_text(encoding="utf-8").splitlines()))
    assert f"python -m pipeline.train configs/{path.name}" in opening
    assert re.search(r"\d+ (s|seconds?|min|minutes?|h|hours?)\b", opening), "how long it takes, and on what"
    assert re.search(r"expected: .*\b[01]?\.\d+", opening), "expected: <metric> <number>"
