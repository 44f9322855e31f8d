"""MODEL_CARD.md: what the model is and how good it was, filled from its settings and its measured results."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from pipeline.console import count
from pipeline.results import words

OPEN = "> **To be written by the owner:**"
"""Marks what no program can know."""
ROWS = (
    "auroc", "partial_auroc", "average_precision", "sensitivity", "specificity", "ppv", "npv", "balanced_accuracy",
    "f1", "mcc", "positive_likelihood_ratio", "negative_likelihood_ratio", "brier",
)  # fmt: skip
CALIBRATION = ("slope", "intercept")


def model_card(settings: Mapping[str, Any], evaluation: Mapping[str, Any], split: str, maps: str = "") -> str:
    """The card as Markdown with Hugging Face front matter.

    Args:
        settings: Content of model.json.
        evaluation: Content of evaluation.json.
        split: The split whose numbers stand first.
        maps: What the model's heat maps are worth.
    """
    numbers = evaluation[split]
    parts = [
        _front_matter(settings, numbers, split),
        f"# {settings['name']}",
        "**Research use only. Not a medical device: no decision about a patient may rest on it.**",
        "## In short",
        *_in_short(numbers, split),
        "## Intended use",
        str(settings.get("intended_use") or f"{OPEN} for which patients, which scans, which question, which reader."),
        "## Inputs and outputs",
        _inputs(settings),
        "## Performance",
        *(_performance(evaluation[name], name) for name in evaluation),
        "## When to refer to a reader",
        "\n\n".join(
            f"{finding}: {sentence}"
            for finding, found in numbers["findings"].items()
            for sentence in words.consequences(found)
        )
        or "No tune split to set limits on.",
        "## Subgroups",
        _subgroups(numbers),
        "## Limits",
        *[f"* {line}" for line in (*words.cautions(numbers, split), *filter(None, [maps]))],
        f"{OPEN} known failures, populations that were not tested, how labels were made and by whom.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(settings: Mapping[str, Any], numbers: Mapping[str, Any], split: str) -> str:
    metrics = [
        {"type": "roc_auc", "name": f"AUROC {finding}", "value": round(found["auroc"]["value"], 4)}
        for finding, found in numbers["findings"].items()
        if found["auroc"]["value"] is not None
    ]
    result = {
        "task": {"type": "image-classification"},
        "dataset": {"name": f"own cohort, {split}", "type": "own"},
        "metrics": metrics,
    }
    front: dict[str, Any] = {"tags": ["medical-imaging", "image-classification"], "library_name": "scanline"}
    if metrics:
        front["model-index"] = [{"name": settings["name"], "results": [result]}]
    return f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---"


def _in_short(numbers: Mapping[str, Any], split: str) -> list[str]:
    lines = [f"* {line}" for line in words.headline(numbers, split)]
    return ["\n".join(lines), *(" ".join(words.answer(numbers, finding)) for finding in numbers["findings"])]


def _inputs(settings: Mapping[str, Any]) -> str:
    network, grid, read = (settings.get(key, {}) for key in ("model", "preprocess", "read"))
    modalities = ", ".join(read.get("modalities", ())) or "any"
    lines = [
        f"* Task: {settings['task']}; findings: {', '.join(settings['findings'])}",
        f"* Modality: {modalities}",
        f"* Network: {network.get('backbone', '')}, {network.get('dimensions', '')}D",
        f"* Pretrained weights: {network.get('weights', '')}",
        f"* Input: {_times(grid.get('size', ()))} voxels"
        + (f" of {_times(grid['spacing_mm'])} mm" if grid.get("spacing_mm") else ", the whole field of view"),
        "* Output: one calibrated probability a finding",
    ]
    points = settings.get("operating_points", {})
    lines += [
        f"* Positive for {f}: p >= {p['threshold']:.4g} ({p['target']}, chosen on {p['chosen_on']})"
        for f, p in points.items()
    ]
    lines += [f"* {key.replace('_', ' ').capitalize()}: {value}" for key, value in settings.get("training", {}).items()]
    return "\n".join(lines)


def _times(numbers: Sequence[float]) -> str:
    return " x ".join(f"{number:g}" for number in numbers)


def _performance(numbers: Mapping[str, Any], split: str) -> str:
    findings = numbers["findings"]
    level = words.percent(next(iter(findings.values()))["auroc"]["level"])
    counted = f"{count(numbers['n_patients'], 'patient')}, {count(numbers['n_scans'], 'scan')}"
    refused = count(numbers["n_rejected"], "scan")
    lines = [
        f"### {split}: {counted}, {refused} refused ({level} intervals)",
        "",
        _row("", *findings),
        _rule(len(findings) + 1),
    ]
    for key in (*ROWS, *CALIBRATION):
        places = 3 if key == "brier" else 2
        cells = [
            words.with_interval((f["calibration"] if key in CALIBRATION else f)[key], places) for f in findings.values()
        ]
        lines.append(_row(words.NAMES[key], *cells))
    return "\n".join(lines)


def _subgroups(numbers: Mapping[str, Any]) -> str:
    if not numbers["subgroups"]:
        return "The table of predictions has no column to group by."
    lines = [_row("Group", "Finding", "Patients", "AUROC", "Sensitivity", "Specificity"), _rule(6)]
    for column, values in numbers["subgroups"].items():
        for value, group in values.items():
            for finding, found in group["findings"].items():
                small = " (too small to judge)" if found["too_small"] else ""
                cells = [words.with_interval(found[key]) for key in ("auroc", "sensitivity", "specificity")]
                lines.append(_row(f"{column}: {value}{small}", finding, str(group["n_patients"]), *cells))
    return "\n".join(lines)


def _row(*cells: str) -> str:
    """A table's line; a bar or a line break inside a cell would break it."""
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"


def _rule(columns: int) -> str:
    return "|" + "---|" * columns
