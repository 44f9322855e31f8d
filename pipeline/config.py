"""The settings of one run: all sections together, checked, read from and written to one YAML file. No torch here."""

from collections.abc import Mapping
from pathlib import Path
from typing import Self

import yaml
from pydantic import ValidationError, model_validator

from pipeline.console import count
from pipeline.domain import ReadRules, UsageError
from pipeline.files import write_text
from pipeline.sections import (
    AugmentSection,
    CohortSection,
    EvaluateSection,
    ModelSection,
    PreprocessSection,
    Section,
    TrainSection,
)

MAX_CONFIG_BYTES = 1_000_000
"""A config larger than this is no config of ours (and YAML aliases can grow without bound)."""


class ConfigError(UsageError):
    """A config that can't be used; the message lists every problem, one a line, by dotted key."""


class Config(Section):
    """One run: every setting that changes its result."""

    name: str = "run"
    """Name of the model, shown in reports and beside predictions."""
    out: Path = Path("runs/run")
    """RUN folder to write."""
    intended_use: str = ""
    """What the model is for, in the owner's words; printed in the model card."""
    read: ReadRules = ReadRules()
    """How scans are read and chosen."""
    cohort: CohortSection = CohortSection()
    preprocess: PreprocessSection = PreprocessSection()
    model: ModelSection = ModelSection()
    augment: AugmentSection = AugmentSection()
    train: TrainSection = TrainSection()
    evaluate: EvaluateSection = EvaluateSection()

    @model_validator(mode="after")
    def _dimensions_agree(self) -> Self:
        if len(self.preprocess.size) != self.model.dimensions:
            raise ValueError(
                f"model.dimensions is {self.model.dimensions}, "
                f"but preprocess.size has {count(len(self.preprocess.size), 'number')}"
            )
        return self

    @model_validator(mode="after")
    def _flips_fit(self) -> Self:
        axes = self.augment.flip_axes
        if len(set(axes)) != len(axes) or ("z" in axes and self.model.dimensions == 2):
            raise ValueError(f"augment.flip_axes: each axis once, and no z in 2D; got {', '.join(axes)}")
        if self.augment.test_time and not axes:
            raise ValueError("augment.test_time averages mirror images along flip_axes, and there are none; name one")
        return self

    @model_validator(mode="after")
    def _pretrained_where_needed(self) -> Self:
        rules = self.train
        if self.model.weights == "none" and (rules.unfreeze_epochs or rules.batch_norm == "frozen"):
            key = "unfreeze_epochs" if rules.unfreeze_epochs else "batch_norm: frozen"
            raise ValueError(f"train.{key} keeps pretrained weights as they are, but model.weights is none")
        return self

    @model_validator(mode="after")
    def _pairs_to_mix(self) -> Self:
        rules = self.train
        if self.augment.mixup and rules.batch_size != "auto" and rules.scans_at_once == 1:
            raise ValueError(
                "augment.mixup mixes scans that pass through the network together, and train.batch_size / "
                "train.accumulate lets one pass at a time; let two pass, or leave mixup at 0"
            )
        return self


def parse_config(values: object, source: str) -> Config:
    """A checked config from plain values; `source` names it in errors.

    Raises:
        ConfigError: Listing every problem, one a line, by dotted key.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{source} is not a valid config: expected keys and values, found {type(values).__name__}")
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{source} is not a valid config:\n" + problems(error)) from None


def problems(error: ValidationError) -> str:
    """One line a problem: dotted key, what was expected, what was found."""
    lines = []
    for item in error.errors():
        key = ".".join(map(str, item["loc"])) or "config"
        found = "" if item["type"] in ("value_error", "missing") else f", got {str(item['input'])[:80]!r}"
        lines.append(f"  {key}: {item['msg'].removeprefix('Value error, ')}{found}")
    return "\n".join(lines)


def load_config(path: Path) -> Config:
    """The config in a YAML file (values only).

    Raises:
        ConfigError: If the file is missing, is no YAML, or holds values that can't be used.
    """
    return parse_config(_read_yaml(path), str(path))


def save_config(config: Config, path: Path) -> None:
    """Write the complete config as YAML, atomically."""
    write_text(path, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True))


def differences(before: Config, now: Config) -> list[str]:
    """One line a setting that is not the same in both: dotted key, its value now, its value before."""
    old, new = (_flat(config.model_dump(mode="json")) for config in (before, now))
    return [f"  {key}: {new[key]!r} now, {old[key]!r} before" for key in new if new[key] != old[key]]


def switches() -> frozenset[str]:
    """The keys that are true or false, dotted."""
    return frozenset(key for key, value in _flat(Config().model_dump()).items() if isinstance(value, bool))


def _flat(values: Mapping[str, object]) -> dict[str, object]:
    """Settings by dotted key."""
    flat: dict[str, object] = {}
    for name, value in values.items():
        flat |= {f"{name}.{key}": one for key, one in value.items()} if isinstance(value, Mapping) else {name: value}
    return flat


def _read_yaml(path: Path) -> object:
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise ConfigError(f"{path}: larger than {MAX_CONFIG_BYTES} bytes; a config holds a few settings")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: can't be read ({error.__class__.__name__}); expected a YAML config file") from None
    try:
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
            raise ConfigError(f"{path}: YAML aliases (*name) are not used in configs; write the value out")
        if twice := _keys_given_twice(yaml.compose(text, yaml.SafeLoader)):
            raise ConfigError(f"{path}: given twice, and only one can count: {', '.join(twice)}")
        return yaml.safe_load(text) or {}
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}: is not plain YAML{where}; only values are allowed, no tags or objects") from None


def _keys_given_twice(node: yaml.Node | None, above: str = "") -> list[str]:
    """Dotted keys that stand more than once in one mapping; YAML's own reader takes the last without a word."""
    if not isinstance(node, yaml.MappingNode):
        return []
    names = [str(key.value) for key, _ in node.value]
    twice = [f"{above}{name}" for name in dict.fromkeys(names) if names.count(name) > 1]
    return twice + [k for key, value in node.value for k in _keys_given_twice(value, f"{above}{key.value}.")]
