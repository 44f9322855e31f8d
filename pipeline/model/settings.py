"""model.json: what a model folder says about itself, and reading it."""

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipeline import __version__
from pipeline.config import problems
from pipeline.domain import OperatingPoint, ReadRules
from pipeline.evaluation.calibration import Calibration
from pipeline.files import read_json
from pipeline.model.tensor_files import ModelError
from pipeline.sections import ModelSection, PreprocessSection

SCHEMA_VERSION = 1
"""Raised when model.json changes so that older programs would read it wrong."""
MAX_INPUT_VALUES = 10**9
"""No model takes larger inputs; model.json can claim any."""
MAX_MEMBERS = 1000
"""No ensemble has more networks; model.json can claim any number."""


class Settings(BaseModel):
    """What model.json holds.

    Attributes:
        calibration: Of every member, unless `member_calibrations` gives each its own.
        unit, aggregate: Whose scans are judged together, and how; scoring adds a table of these units.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: int = SCHEMA_VERSION
    name: str
    software: str = f"scanline {__version__}"
    created: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    task: Literal["binary", "multiclass", "multilabel"]
    findings: tuple[str, ...]
    read: ReadRules
    preprocess: PreprocessSection
    model: ModelSection
    members: int = Field(1, ge=1, le=MAX_MEMBERS)
    precision: Literal["fp32"] = "fp32"
    test_time_flips: tuple[Literal["x", "y", "z"], ...] = ()
    calibration: Calibration
    member_calibrations: tuple[Calibration, ...] = ()
    operating_points: dict[str, OperatingPoint]
    unit: Literal["scan", "study", "patient"] = "scan"
    aggregate: Literal["max", "mean"] = "max"
    intended_use: str = ""
    training: dict[str, str | int | float | None] = {}

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        """Refuse findings, operating points and calibrations of another model: they would answer, and be wrong."""
        n = len(self.findings)
        if len(set(self.findings)) != n or (n != 1 if self.task == "binary" else n < 1):
            raise ValueError(f"findings: {n} of task {self.task}, each must have a name of its own")
        for finding, point in self.operating_points.items():
            if finding not in self.findings or point.finding != finding or not math.isfinite(point.threshold):
                raise ValueError(f"operating_points: {finding!r} needs a finding of this model and a finite threshold")
        if len(set(self.test_time_flips)) != len(self.test_time_flips):
            raise ValueError("test_time_flips: each axis once")
        if self.member_calibrations and len(self.member_calibrations) != self.members:
            raise ValueError(f"member_calibrations: {len(self.member_calibrations)} for {self.members} members")
        for calibration in (self.calibration, *self.member_calibrations):
            if fault := calibration.misfit(self.task, n):
                raise ValueError(f"calibration: {fault}")
        return self


def read_settings(folder: Path) -> Settings:
    """The settings of a model folder.

    Raises:
        ModelError: If model.json is missing, damaged, of a newer version, or asks for too much.
    """
    content = read_model_json(folder / "model.json")
    version = content.get("schema_version")
    if version != SCHEMA_VERSION:
        raise ModelError("format_version", f"made for format {version}, this program reads format {SCHEMA_VERSION}")
    try:
        settings = Settings.model_validate(_upgraded(content))
    except ValidationError as error:
        raise ModelError("corrupt_model", f"model.json does not hold a model's settings:\n{problems(error)}") from None
    if math.prod(settings.preprocess.size) > MAX_INPUT_VALUES:
        raise ModelError("too_large", f"model.json asks for inputs of {settings.preprocess.size} voxels")
    return settings


def _upgraded(content: dict[str, object]) -> dict[str, object]:
    """The content as this version reads it: before `architecture` was written, some keys were without effect."""
    section = content.get("model")
    if not isinstance(section, dict) or "architecture" in section:
        return content
    idle = {"stem_size"} if section.get("dimensions") == 3 else {"stem_size", "width"}
    return content | {"model": {key: value for key, value in section.items() if key not in idle}}


def read_model_json(path: Path) -> dict[str, object]:
    """The object in a JSON file of a model folder.

    Raises:
        ModelError: If there is none.
    """
    try:
        return read_json(path)
    except (OSError, ValueError, RecursionError):
        raise ModelError("corrupt_model", f"{path.name} is missing or no JSON") from None
