"""What `pipeline.evaluate` writes about a table: evaluation.json, report.html, and on request a pdf and the figures."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.console import count, stdout
from pipeline.domain import OperatingPoint
from pipeline.evaluation.assess import Evaluation, assess
from pipeline.evaluation.cases import cases_of
from pipeline.evaluation.curves import curves_of
from pipeline.evaluation.table import NO_SPLIT, findings_of, subgroup_columns
from pipeline.files import write_json
from pipeline.results import figures
from pipeline.results.cohort_flow import flow_of
from pipeline.results.drawing import Drawing, clear, save
from pipeline.results.language import Language
from pipeline.results.pdf import write_pdf
from pipeline.results.report import Report, write_report
from pipeline.results.robustness import robustness_drawing
from pipeline.results.shortcuts import warnings_of
from pipeline.results.table_one import table_one
from pipeline.results.words import headline
from pipeline.sections import EvaluateSection


@dataclass(frozen=True)
class Work:
    """Everything that the files are written from.

    Attributes:
        refused: Why scans were refused before the table was made -> how many.
        unused: Scans that were read and are in no split.
        extras: Which optional files to write: "pdf", "figures".
        probes: Finding -> shortcut probe -> its AUROC, where training wrote them.
        robustness: Finding -> disturbance -> what it costs, where that was looked at.
        gallery: Finding -> cases with a picture, where they were drawn.
        gate: Kind of strangeness -> what the out-of-distribution gate makes of it, where that was looked at.
        maps: What the model's heat maps are worth, in a sentence.
    """

    name: str
    table: pd.DataFrame
    section: EvaluateSection
    points: Mapping[str, OperatingPoint]
    splits: Sequence[str] = ()
    notes: Sequence[str] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    intended_use: str = ""
    refused: Mapping[str, int] = field(default_factory=dict)
    unused: int = 0
    language: str = "en"
    extras: frozenset[str] = frozenset()
    probes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    robustness: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    gallery: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    gate: Mapping[str, Any] = field(default_factory=dict)
    maps: str = ""

    def assessed(self) -> Evaluation:
        """The content of evaluation.json."""
        return assess(self.table, self.section, self.points, self.splits)


def publish(folder: Path, work: Work, evaluation: Evaluation) -> None:
    """Write evaluation.json, report.html and what else was asked for, and say what they hold.

    A report.pdf and figures of an earlier evaluation are removed where they are not written anew: they would contradict
    the new report.
    """
    split, say = next(iter(evaluation)), Language(work.language)
    aurocs = {name: found["auroc"]["value"] for name, found in evaluation[split]["findings"].items()}
    notes = [*work.notes, *warnings_of(work.probes, aurocs)]
    drawings = _drawings(work, evaluation, split)
    write_json(folder / "evaluation.json", evaluation)
    known = work.table[work.table["split"] != NO_SPLIT]
    report = Report(
        work.name, evaluation, split, drawings, work.settings, work.facts,
        [_sentence(note, aurocs) for note in notes], work.intended_use,
        flow=flow_of(known, work.refused, work.unused),
        table_one=table_one(known, findings_of(known.columns), subgroup_columns(known)), say=say,
        robustness=work.robustness, gallery=work.gallery, gate=work.gate, maps=work.maps,
    )  # fmt: skip
    write_report(folder / "report.html", report)
    for line in [*notes, *headline(evaluation[split], split)]:
        stdout.print(line, markup=False)
    stdout.print(f"evaluation    {folder / 'evaluation.json'}\nreport        {folder / 'report.html'}", markup=False)
    if "pdf" in work.extras:
        write_pdf(folder / "report.pdf", report)
        stdout.print(f"pdf           {folder / 'report.pdf'}", markup=False)
    elif (folder / "report.pdf").is_file():
        (folder / "report.pdf").unlink()
        stdout.print(f"removed       {folder / 'report.pdf'}, of an earlier evaluation (--pdf)", markup=False)
    names: list[str] = []
    if "figures" in work.extras:
        names = save(drawings, folder / "figures", say)
        stdout.print(f"figures       {folder / 'figures'} ({len(names)}, each as png, svg and csv)", markup=False)
    if removed := clear(folder / "figures", keep=names):
        old = "figures of an earlier evaluation (--figures)"
        stdout.print(f"removed       {count(removed, 'file')} in {folder / 'figures'}, {old}", markup=False)


def _sentence(note: str, findings: Container[str]) -> str:
    """A note as a sentence; the name of a finding stays as it is."""
    return f"{note if note.partition(': ')[0] in findings else note[:1].upper() + note[1:]}."


def _drawings(work: Work, evaluation: Evaluation, split: str) -> dict[str, list[Drawing]]:
    """The figures of each finding in the split of the headline."""
    rows = work.table[(work.table["split"] == split) & (work.table["status"] == "ok")].reset_index(drop=True)
    drawn: dict[str, list[Drawing]] = {}
    for finding, found in evaluation[split]["findings"].items():
        cases = cases_of(rows, finding, work.points, work.section.target)
        curves = curves_of(cases, work.section.level, work.section.seed)
        subgroups = evaluation[split]["subgroups"]
        drawn[finding] = [] if curves is None else figures.of_finding(finding, found, curves, subgroups)
        drawn[finding] += robustness_drawing(work.robustness[finding]) if finding in work.robustness else []
    return drawn
