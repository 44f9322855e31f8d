"""`python -m pipeline.evaluate`: predictions and labels -> evaluation.json, report.html and the model card."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import tyro
from pydantic import TypeAdapter, ValidationError

from pipeline.config import problems
from pipeline.console import DONE, WITH_REJECTIONS, WRONG_USE, guarded, stdout
from pipeline.domain import OperatingPoint, ReadRules, UsageError
from pipeline.evaluation.assess import Evaluation, assess, choose_points
from pipeline.evaluation.cases import cases_of
from pipeline.evaluation.compare import compare_all
from pipeline.evaluation.curves import curves_of
from pipeline.evaluation.join import join
from pipeline.evaluation.operating_point import parse_target
from pipeline.evaluation.run_folder import Run, read_frozen, read_run
from pipeline.evaluation.table import check_predictions, findings_of, read_table, shared_patients
from pipeline.files import sha256_of, write_json, write_sums, write_text
from pipeline.results import figures
from pipeline.results.model_card import model_card
from pipeline.results.report import Report, write_report
from pipeline.results.words import NAMES, headline, plain
from pipeline.sections import EvaluateSection

USAGE = """usage: python -m pipeline.evaluate RUN [--split test]
       python -m pipeline.evaluate RUN --against RUN2
       python -m pipeline.evaluate --predictions P.csv --labels L.csv --out DIR
       python -m pipeline.evaluate --model MODEL --scans SCANS --labels L.csv --out DIR

Says how good a model is, with intervals: evaluation.json, report.html, and the model card.
The demo:  python -m pipeline.evaluate runs/demo/run
Options:   python -m pipeline.evaluate --help"""


@dataclass(frozen=True)
class Evaluate:
    """How good is it, for whom, and how sure are we? Give a RUN, or predictions with labels, or a model with scans.

    Every interval counts patients, not scans. Thresholds are those that training froze; they are never chosen on the
    scans that they are judged on. Research use only, not a medical device.
    """

    run: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """RUN folder that training wrote; its evaluation.json, report.html and model card are written again."""
    split: str = ""
    """Only this split (test, tune, oof). Default: all that were held out from training."""
    against: Path | None = None
    """Second RUN folder on the same scans: is RUN better than that one? Writes RUN/comparison.json."""
    predictions: Path | None = None
    """Table (CSV) with scan_id and p_<finding>, for example the predictions.csv of pipeline.score."""
    labels: Path | None = None
    """Table (CSV) of labels: scan_id and a column a finding; with --model any key column of pipeline.prepare."""
    model: Path | None = None
    """Model folder to score --scans with; its frozen thresholds are used."""
    scans: Path | None = None
    """Folder of scans for --model."""
    out: Path | None = None
    """Folder for evaluation.json and report.html of --predictions and --model."""
    workers: int = 2
    """Processes that read scans for --model."""
    threshold: tuple[str, ...] = ()
    """With --predictions: positive from this probability on, as 0.5 or as finding=0.5 (several may be given)."""
    target: str = ""
    """With --predictions and a tune split: how the threshold is chosen there: "youden", "sensitivity >= 0.95",
    "specificity >= 0.9"."""
    level: float | None = None
    """Confidence level of the intervals, above 0.5 and below 1. Default: the run's, else 0.95."""
    resamples: int | None = None
    """Bootstrap resamples, drawn by patient. Default: the run's, else 2000."""
    seed: int | None = None
    """Seed of the bootstrap. Default: the run's, else 0."""
    allow_shared_patients: bool = False
    """Go on although the same patients are in the test split and in another one. The report says so."""


@dataclass(frozen=True)
class Work:
    """Everything that the files are written from."""

    name: str
    table: pd.DataFrame
    section: EvaluateSection
    points: Mapping[str, OperatingPoint]
    splits: Sequence[str] = ()
    notes: Sequence[str] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    intended_use: str = ""


def main(argv: Sequence[str] | None = None) -> int:
    """The command's exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments:
        stdout.print(USAGE, markup=False)
        return WRONG_USE
    options = tyro.cli(Evaluate, args=arguments, prog="python -m pipeline.evaluate")
    return guarded(lambda: _run(options))


def _run(options: Evaluate) -> int:
    _check(options)
    if options.predictions is not None:
        return evaluate_predictions(options)
    if options.model is not None:
        return evaluate_model(options)
    run = read_run(options.run[0])
    return compare_runs(run, read_run(options.against), options) if options.against else evaluate_run(run, options)


def _check(options: Evaluate) -> None:
    """Refuse options that do not belong together, all of them at once."""
    names = ("run", "predictions", "labels", "model", "scans", "out", "against", "split", "threshold", "target")
    given = {name for name in names if getattr(options, name)}
    modes = sorted(given & {"run", "predictions", "model"})
    one = f"give one of RUN, --predictions or --model; found {', '.join(modes) or 'none'}"
    found = [] if len(modes) == 1 else [one]
    found += ["give one RUN folder; compare two with --against"] if len(options.run) > 1 else []
    needed: dict[str, set[str]] = {"run": set(), "predictions": {"labels", "out"}, "model": {"scans", "labels", "out"}}
    allowed = {"run": {"split", "against"}, "predictions": {"split", "threshold", "target"}, "model": {"split"}}
    for mode in modes[:1] if len(modes) == 1 else []:
        shown = "RUN" if mode == "run" else f"--{mode}"
        found += [f"{shown} needs --{name}" for name in sorted(needed[mode] - given)]
        foreign = sorted(given - {mode} - needed[mode] - allowed[mode])
        found += [f"--{name} does not go with {shown}" for name in foreign]
    if options.out and options.scans and options.out.resolve().is_relative_to(options.scans.resolve()):
        found.append("--out lies inside --scans; inputs are never altered, choose another folder")
    if found:
        raise UsageError("the options can't be used:\n" + "\n".join(f"  {problem}" for problem in found) + "\n" + USAGE)


def _section(options: Evaluate, base: EvaluateSection) -> EvaluateSection:
    given = {k: v for k in ("level", "resamples", "seed") if (v := getattr(options, k)) is not None}
    given |= {"target": options.target} if options.target else {}
    try:
        section = EvaluateSection.model_validate(base.model_dump() | given)
    except ValidationError as error:
        raise UsageError(f"the options can't be used:\n{problems(error)}") from None
    parse_target(section.target)
    return section


def evaluate_run(run: Run, options: Evaluate) -> int:
    """Evaluate a run folder; its model folder gets evaluation.json, the card, and new hashes."""
    model = run.folder / "model"
    facts = {"model.json (SHA-256)": sha256_of(model / "model.json"), "software": str(run.settings.get("software", ""))}
    facts |= {str(key): str(value) for key, value in run.settings.get("training", {}).items()}
    notes = shared_patients(run.table, options.allow_shared_patients)
    work = Work(
        run.config.name, run.table, _section(options, run.config.evaluate), run.points, _splits(options), notes,
        run.config.model_dump(mode="json"), facts, run.config.intended_use,
    )  # fmt: skip
    evaluation = _write(run.folder, work)
    write_json(model / "evaluation.json", evaluation)
    write_text(model / "MODEL_CARD.md", model_card(run.settings, evaluation, next(iter(evaluation))))
    write_sums(model)
    stdout.print(f"model card    {model / 'MODEL_CARD.md'}", markup=False)
    stdout.print(f"next: python -m pipeline.score {model} SCANS --out OUT", markup=False)
    return DONE


def evaluate_predictions(options: Evaluate) -> int:
    """Evaluate a table of predictions against a table of labels."""
    predictions, labels, out = _given(options.predictions), _given(options.labels), _given(options.out)
    joined = join(read_table(predictions), read_table(labels))
    table = check_predictions(joined.table, str(predictions))
    section = _section(options, EvaluateSection())
    points = _thresholds(options, findings_of(table.columns)) or choose_points(table, section.target)
    notes = (*joined.notes, *shared_patients(table, options.allow_shared_patients))
    work = Work(predictions.stem, table, section, points, _splits(options), notes, {"evaluate": section.model_dump()})
    _write(out, work)
    return DONE


def evaluate_model(options: Evaluate) -> int:
    """Score a folder with a model and judge it there at its frozen operating points."""
    from pipeline.scoring.local import score  # torch is loaded only where a network runs

    model, scans, out = _given(options.model), _given(options.scans), _given(options.out)
    settings, points = read_frozen(model)
    findings = [str(finding) for finding in settings["findings"]]
    rules = TypeAdapter(ReadRules).validate_python(settings["read"])
    labels, told = labels_of_scans(scans, _given(options.labels), findings, rules)
    summary = score(model, scans, out / "scores", options.workers)
    joined = join(read_table(summary.predictions), labels)
    table = check_predictions(joined.table, "the scores")
    facts = {"model.json (SHA-256)": sha256_of(model / "model.json"), "software": str(settings.get("software", ""))}
    section, intended = _section(options, EvaluateSection()), str(settings.get("intended_use", ""))
    notes = (*told, *joined.notes, *shared_patients(table, options.allow_shared_patients))
    _write(out, Work(str(settings["name"]), table, section, points, _splits(options), notes, {}, facts, intended))
    return DONE if summary.complete else WITH_REJECTIONS


def labels_of_scans(
    scans: Path, labels: Path, findings: Sequence[str], rules: ReadRules
) -> tuple[pd.DataFrame, list[str]]:
    """Label rows, by scan_id, of the scans chosen in a folder, joined like `pipeline.prepare` does; and notes."""
    from pipeline.cohort.join import join as join_labels
    from pipeline.cohort.labels import read_labels
    from pipeline.scans.find import survey

    found = survey(scans, rules=rules)
    read = read_labels(labels, sorted({finding.partition("=")[0] for finding in findings}))
    joined = join_labels(read, found.scans, found.rejections, scans)
    table = joined.values.reset_index(names="scan_id")
    own = {"patient_id": "patient", "sex": "sex", "manufacturer": "manufacturer", "modality": "modality"}
    for attribute, column in own.items():
        says = pd.Series([str(getattr(scan, attribute)) for scan in found.scans], dtype=str)
        given = table[attribute] if attribute in table.columns else ""
        table[column] = says.where(says != "", given)
    return table.drop(columns="patient_id", errors="ignore"), [
        n.removesuffix(" (unmatched.csv)") for n in joined.notices
    ]


def compare_runs(run: Run, other: Run, options: Evaluate) -> int:
    """Compare two runs on the same scans; writes RUN/comparison.json."""
    split, found = compare_all(run, other, options.split, _section(options, run.config.evaluate))
    for finding, results in found.items():
        for name, result in results.items():
            stdout.print(f"{split} {finding} {NAMES[name]} difference {_difference(result)}", markup=False)
    path = run.folder / "comparison.json"
    write_json(path, {"against": other.config.name, "split": split, "findings": found})
    stdout.print(f"comparison    {path}", markup=False)
    return DONE


def _difference(result: Mapping[str, Any]) -> str:
    if result["value"] is None or result["low"] is None:
        return f"{plain(result['value'], 3)}: {result['reason']}"
    p = "" if result["p"] is None else f", p = {max(result['p'], 1e-4):.4f}"
    return (
        f"{plain(result['value'], 3)} ({plain(result['low'], 3)} to {plain(result['high'], 3)}{p}; {result['method']})"
    )


def _scored(table: pd.DataFrame, split: str) -> pd.DataFrame:
    return table[(table["split"] == split) & (table["status"] == "ok")].reset_index(drop=True)


def _write(folder: Path, work: Work) -> Evaluation:
    """Compute, write evaluation.json and report.html, and say what they hold."""
    evaluation = assess(work.table, work.section, work.points, work.splits)
    split, drawn = next(iter(evaluation)), {}
    rows = _scored(work.table, split)
    for finding, found in evaluation[split]["findings"].items():
        curves = curves_of(cases_of(rows, finding, work.points, work.section.target))
        drawn[finding] = {} if curves is None else figures.of_finding(finding, found, curves)
    write_json(folder / "evaluation.json", evaluation)
    notes = [f"{note[:1].upper()}{note[1:]}." for note in work.notes]
    report = Report(work.name, evaluation, split, drawn, work.settings, work.facts, notes, work.intended_use)
    write_report(folder / "report.html", report)
    for line in [*work.notes, *headline(evaluation[split], split)]:
        stdout.print(line, markup=False)
    stdout.print(f"evaluation    {folder / 'evaluation.json'}\nreport        {folder / 'report.html'}", markup=False)
    return evaluation


def _thresholds(options: Evaluate, findings: Sequence[str]) -> dict[str, OperatingPoint]:
    """The thresholds of --threshold, one for all findings or one each."""
    points: dict[str, OperatingPoint] = {}
    for text in options.threshold:
        name, _, number = text.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            value = -1.0
        if not 0 <= value <= 1 or (name and name not in findings):
            expected = f"0.5, or FINDING=0.5 for one of: {', '.join(findings)}"
            raise UsageError(f"--threshold {text}: expected a probability, as {expected}")
        points |= {f: OperatingPoint(f, value, f"p >= {value:g}", "given") for f in ([name] if name else findings)}
    return points


def _splits(options: Evaluate) -> tuple[str, ...]:
    return (options.split,) if options.split else ()


def _given(path: Path | None) -> Path:
    if path is None:  # _check has refused this already; this tells the type checker
        raise UsageError(USAGE)
    return path


if __name__ == "__main__":
    sys.exit(main())
