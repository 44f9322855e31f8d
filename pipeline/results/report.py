"""The report: one self-contained HTML page, the answer first. It shows finished numbers and computes none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline.files import write_text
from pipeline.results import tables, words

TEMPLATES = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Report:
    """What a report shows.

    Attributes:
        name: The model's name.
        evaluation: Content of evaluation.json.
        split: The split of the headline.
        figures: Finding -> title -> SVG; trusted markup that `pipeline.results.figures` made.
        settings: Nested settings of the run, as they stand in its config.
        facts: Where the numbers come from: model id, hashes, versions.
        notes: What the reader should know besides what the numbers say, in sentences.
        intended_use: In the owner's words.
        made: Day of the report.
    """

    name: str
    evaluation: Mapping[str, Any]
    split: str
    figures: Mapping[str, Mapping[str, str]]
    settings: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    intended_use: str = ""
    made: date = field(default_factory=date.today)


def write_report(path: Path, report: Report) -> None:
    """Write the page, atomically."""
    write_text(path, render(report))


def render(report: Report) -> str:
    """The page: no script, no request to anywhere, every text escaped."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    numbers = report.evaluation[report.split]
    findings = list(numbers["findings"])
    return environment.get_template("report.html").render(
        report=report,
        numbers=numbers,
        findings=findings,
        split_words=words.SPLITS.get(report.split, f"of split {report.split}"),
        level=words.percent(next(iter(numbers["findings"].values()))["auroc"]["level"]),
        title=_title(numbers, findings),
        answer=_answer(numbers, findings),
        tiles=tables.tiles(numbers),
        cautions=[*report.notes, *words.cautions(numbers, report.split)],
        sections=[_section(numbers, finding, report.figures.get(finding, {})) for finding in findings],
        overview=[(f, [tables.row(k, numbers["findings"][f][k]) for k in OVERVIEW]) for f in findings],
        splits=tables.split_rows(report.evaluation),
        headlines=[line for split, entry in report.evaluation.items() for line in words.headline(entry, split)],
        settings=[pair for pair in tables.flat(report.settings) if pair[0] not in PLACES],
        count=words.count,
    )


PLACES = frozenset({"out", "cohort.folder"})
"""Settings that say where something lies on the owner's disk: nothing that a reader needs."""

OVERVIEW = ("auroc", "sensitivity", "specificity", "ppv", "npv")
"""Columns of the table of all findings."""


def _title(numbers: Mapping[str, Any], findings: Sequence[str]) -> str:
    if "overall" not in numbers:
        return words.answer(numbers, findings[0])[0]
    area = numbers["overall"]["macro_auroc"]
    if area["value"] is None:
        return f"How well it ranks over all {len(findings)} findings can't be said: {area['reason']}."
    right = words.pairs(area["value"])
    return f"Over {len(findings)} findings it ranks, on average, {right} of 100 pairs in the right order."


def _answer(numbers: Mapping[str, Any], findings: Sequence[str]) -> list[str]:
    if "overall" not in numbers:
        return words.answer(numbers, findings[0])[1:]
    accuracy = numbers["overall"].get("accuracy")
    if accuracy is None or accuracy["value"] is None:
        return []
    return [f"The most probable class is the right one for {100 * accuracy['value']:.0f} of 100 scans."]


def _section(numbers: Mapping[str, Any], finding: str, figures: Mapping[str, str]) -> dict[str, Any]:
    found = numbers["findings"][finding]
    return {
        "finding": finding,
        "found": found,
        "answer": words.answer(numbers, finding),
        "figures": [(title, Markup(svg)) for title, svg in figures.items()],
        "rows": tables.finding_rows(found),
        "groups": list(tables.group_rows(numbers["subgroups"], finding)),
    }
