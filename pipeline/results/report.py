"""The report: one self-contained HTML page, the answer first. It shows finished numbers and computes none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline.console import count
from pipeline.files import write_text
from pipeline.results import tables, words
from pipeline.results.cohort_flow import Flow
from pipeline.results.drawing import Drawing, page_svg
from pipeline.results.language import Language
from pipeline.results.robustness import gate_rows, robustness_answer, robustness_rows
from pipeline.results.table_one import Section

TEMPLATES = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Report:
    """What a report shows.

    Attributes:
        name: The model's name.
        evaluation: Content of evaluation.json.
        split: The split of the headline.
        drawings: Finding -> its figures.
        settings: Nested settings of the run, as they stand in its config.
        facts: Where the numbers come from: model id, hashes, versions.
        notes: What the reader should know besides what the numbers say, in sentences.
        intended_use: In the owner's words.
        flow: How scans became the evaluated ones; None leaves the diagram out.
        table_one: Names of the cohort's parts, and the sections of its Table 1.
        robustness: Finding -> content of robustness.json.
        gallery: Finding -> content of gallery.json.
        gate: Kind of strangeness -> what the out-of-distribution gate makes of it, from robustness.json.
        maps: What the model's heat maps are worth, in a sentence.
        say: The reader's language.
        made: Day of the report.
    """

    name: str
    evaluation: Mapping[str, Any]
    split: str
    drawings: Mapping[str, Sequence[Drawing]]
    settings: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    intended_use: str = ""
    flow: Flow | None = None
    table_one: tuple[Sequence[str], Sequence[Section]] = ((), ())
    robustness: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    gallery: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    gate: Mapping[str, Any] = field(default_factory=dict)
    maps: str = ""
    say: Language = field(default_factory=lambda: Language("en"))
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
    environment.filters["t"] = report.say
    numbers, findings = report.evaluation[report.split], list(report.evaluation[report.split]["findings"])
    return environment.get_template("report.html").render(
        report=report,
        numbers=numbers,
        findings=findings,
        level=words.percent(level_of(numbers)),
        title=title(numbers),
        answer=answer(numbers),
        population=words.population(numbers, report.split),
        tiles=tables.tiles(numbers),
        cautions=[*report.notes, *words.cautions(numbers, report.split)],
        sections=[_section(numbers, finding, report) for finding in findings],
        overview=[(f, [tables.row(k, numbers["findings"][f][k]) for k in OVERVIEW]) for f in findings],
        overall=tables.overall_rows(numbers),
        class_sets=words.class_sets(numbers.get("overall", {}).get("prediction_sets", {})),
        gate=gate_rows(report.gate),
        splits=tables.split_rows(report.evaluation),
        headlines=[line for split, entry in report.evaluation.items() for line in words.headline(entry, split)],
        settings=[pair for pair in tables.flat(report.settings) if pair[0] not in PLACES],
        count=count,
        methods=METHODS,
    )


METHODS = (
    "One row a scan; nothing is averaged over batches. Patients are the unit of chance: where each has one scan, the "
    "interval of the AUROC is DeLong's on the logit scale and that of a proportion is Wilson's; where patients have "
    "several, whole patients are drawn again and again (bootstrap), and above 20,000 scans the variance clustered by "
    "patient is computed (Obuchowski). Bands round curves hold at each point, not for the whole curve.",
    "The threshold was fixed before the test scans were looked at; out-of-fold scans are decided by the threshold of "
    "the other folds. PPV and NPV hold at the prevalence of this table, unless another one was given.",
    "Calibration slope and intercept come from a logistic regression of the truth on the log odds of the prediction. "
    "Net benefit weighs a false alarm by the odds of the threshold (Vickers and Elkin). Prediction sets are "
    "split-conformal, each class on its own, with limits from the tune split or from the other folds.",
)


def level_of(numbers: Mapping[str, Any]) -> float:
    """The confidence level of a split's intervals."""
    return float(next(iter(numbers["findings"].values()))["auroc"]["level"])


PLACES = frozenset({"out", "cohort.folder"})
"""Settings that say where something lies on the owner's disk: nothing that a reader needs."""

OVERVIEW = ("auroc", "sensitivity", "specificity", "ppv", "npv")
"""Columns of the table of all findings."""


def title(numbers: Mapping[str, Any]) -> str:
    """The answer in one sentence."""
    findings = list(numbers["findings"])
    if "overall" not in numbers:
        return words.answer(numbers, findings[0])[0]
    area = numbers["overall"]["macro_auroc"]
    if area["value"] is None:
        return f"How well it ranks over all {len(findings)} findings can't be said: {area['reason']}."
    right = words.pairs(area["value"])
    return f"Over {len(findings)} findings it ranks, on average, {right} of 100 pairs in the right order."


def answer(numbers: Mapping[str, Any]) -> list[str]:
    """The sentences under the title."""
    if "overall" not in numbers:
        return words.answer(numbers, next(iter(numbers["findings"])))[1:]
    accuracy = numbers["overall"].get("accuracy")
    if accuracy is None or accuracy["value"] is None:
        return []
    return [f"The most probable class is the right one for {100 * accuracy['value']:.0f} of 100 scans."]


def _section(numbers: Mapping[str, Any], finding: str, report: Report) -> dict[str, Any]:
    found = numbers["findings"][finding]
    return {
        "finding": finding,
        "found": found,
        "answer": words.answer(numbers, finding),
        "more": words.consequences(found),
        "figures": [(d.title, Markup(page_svg(d, report.say)), d.name) for d in report.drawings.get(finding, ())],
        "rows": tables.finding_rows(found),
        "groups": list(tables.group_rows(numbers["subgroups"], finding)),
        "tests": tables.test_rows(numbers.get("subgroup_tests", {}), finding),
        "robustness": robustness_rows(report.robustness.get(finding, {})),
        "robustness_answer": robustness_answer(report.robustness.get(finding, {})),
        "cases": [{**case, "image": Markup(case["image"])} for case in report.gallery.get(finding, ())],
    }
