"""A config as YAML that explains itself: each key under its help text, with the reason for its value."""

import math
import textwrap
from collections.abc import Mapping

import yaml

from pipeline.config import Config

WIDTH = 110
"""Columns of a comment."""


def explained(config: Config, reasons: Mapping[str, str], opening: str) -> str:
    """The complete config as YAML that `config.load_config` reads back.

    Args:
        config: What to write.
        reasons: Dotted key -> why it has its value.
        opening: The first comment, line by line.
    """
    schema = Config.model_json_schema()
    lines = [f"# {line}".rstrip() for line in opening.splitlines()]
    for name, value in config.model_dump(mode="json").items():
        own = schema["properties"][name]
        lines.append("")
        if "$ref" not in own:
            lines += _setting(name, value, own, reasons.get(name))
            continue
        section = schema["$defs"][own["$ref"].rpartition("/")[2]]
        lines += [*_comment(own.get("description") or section["description"]), f"{name}:"]
        for key, inner in value.items():
            said = _setting(key, inner, section["properties"][key], reasons.get(f"{name}.{key}"))
            lines += [f"  {line}" for line in said]
    return "\n".join(lines) + "\n"


def _setting(key: str, value: object, schema: Mapping[str, str], reason: str | None) -> list[str]:
    written = yaml.safe_dump(value, default_flow_style=True, width=math.inf, allow_unicode=True, sort_keys=False)
    why = _comment(f"Chosen: {reason}.") if reason else []
    return [*_comment(schema.get("description", "")), *why, f"{key}: {written.splitlines()[0]}"]


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(" ".join(text.split()), WIDTH)]
