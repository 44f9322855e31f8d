"""What `evaluate` reads of a run: its predictions, its config, and what its model folder froze."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import TypeAdapter, ValidationError

from pipeline.config import Config, load_config, problems
from pipeline.domain import OperatingPoint, UsageError
from pipeline.evaluation.table import check_predictions, findings_of, read_table
from pipeline.files import read_json, sha256_of

POINTS = TypeAdapter(dict[str, OperatingPoint])
WRITTEN = ("evaluation.json", "MODEL_CARD.md")
"""What `evaluate` itself writes into a model folder."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run folder that was read.

    Attributes:
        table: predictions.csv, checked.
        settings: Content of model/model.json.
        points: The frozen operating points by finding.
    """

    folder: Path
    table: pd.DataFrame
    config: Config
    settings: Mapping[str, Any]
    points: Mapping[str, OperatingPoint]


def read_run(folder: Path) -> Run:
    """A run folder, with every missing part named at once.

    Raises:
        UsageError: If it is no run, or a part of it can't be used.
    """
    needed = [folder / name for name in ("predictions.csv", "config.yaml", "model/model.json")]
    missing = [path.relative_to(folder).as_posix() for path in needed if not path.is_file()]
    if missing:
        raise UsageError(
            f"{folder} is no finished run: it lacks {', '.join(missing)}; "
            "give the folder that pipeline.train wrote (its `out`)"
        )
    check_unchanged(folder / "model")
    settings, points = read_frozen(folder / "model")
    table = check_predictions(read_table(folder / "predictions.csv"), str(folder / "predictions.csv"))
    _check_findings(findings_of(table.columns), settings, folder)
    return Run(folder, table, load_config(folder / "config.yaml"), settings, points)


def _check_findings(predicted: list[str], settings: Mapping[str, Any], folder: Path) -> None:
    """Predictions of other findings belong to another model, whose thresholds these are not; their order is free.

    Raises:
        UsageError: If they are not the model's.
    """
    own = [str(finding) for finding in settings.get("findings", predicted)]
    if set(predicted) != set(own):
        raise UsageError(
            f"{folder}: predictions.csv and model/ do not belong together (wrong_model): expected predictions of "
            f"{', '.join(own)}, found {', '.join(predicted)}; put back the file that pipeline.train wrote"
        )


def read_frozen(model: Path) -> tuple[dict[str, Any], dict[str, OperatingPoint]]:
    """Content of model.json and its operating points.

    Raises:
        UsageError: If model.json is missing or not as training wrote it.
    """
    path = model / "model.json"
    try:
        settings = read_json(path)
    except (OSError, json.JSONDecodeError, ValueError):
        raise UsageError(
            f"{path}: missing or no JSON object; expected a model folder that pipeline.train wrote"
        ) from None
    try:
        return settings, POINTS.validate_python(settings.get("operating_points", {}))
    except ValidationError as error:
        raise UsageError(f"{path}: operating_points can't be used:\n{problems(error)}") from None


def check_unchanged(model: Path) -> None:
    """Check a model folder before its hashes are written again: that must not bless a file that somebody changed.

    The files that `evaluate` writes may differ: an earlier start may have been interrupted between them and the hashes.

    Raises:
        UsageError: Naming every file that differs from SHA256SUMS, or that it does not list.
    """
    try:
        lines = (model / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    except OSError:
        raise UsageError(f"{model}: has no SHA256SUMS; expected a model folder that pipeline.train wrote") from None
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines) if name not in ("", *WRITTEN)}
    here = {p.relative_to(model).as_posix() for p in model.rglob("*") if p.is_file() and p.suffix != ".part"}
    here -= {"SHA256SUMS", *WRITTEN}
    differ = sorted((here ^ set(sums)) | {name for name in here & set(sums) if sha256_of(model / name) != sums[name]})
    if differ:
        raise UsageError(
            f"model folder refused (checksum): {', '.join(differ)} differ from SHA256SUMS in {model}; "
            "train again, or put the folder back as it was written"
        )
