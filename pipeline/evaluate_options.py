"""The options of `pipeline.evaluate`: what they are, which go together, what they change."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from pydantic import ValidationError

from pipeline.config import problems
from pipeline.domain import OperatingPoint, UsageError
from pipeline.evaluation.operating_point import parse_target
from pipeline.sections import EvaluateSection

USAGE = """usage: python -m pipeline.evaluate RUN [--split test]
       python -m pipeline.evaluate RUN --against RUN2
       python -m pipeline.evaluate --predictions P.csv --labels L.csv --out DIR
       python -m pipeline.evaluate --model MODEL --scans SCANS --labels L.csv --out DIR [--recalibrate COPY]

Says how good a model is, with intervals: evaluation.json, report.html, and the model card.
The demo:  python -m pipeline.evaluate runs/demo/run
Options:   python -m pipeline.evaluate --help"""


SETTINGS = ("prevalence", "coverage", "unit", "aggregate", "level", "interval", "resamples", "seed")
"""Options that replace a setting of the section `evaluate`."""


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
    "specificity >= 0.9", "cost ratio 5" (a miss costs as much as five false alarms)."""
    prevalence: float | None = None
    """Share of patients with the finding where the model is to be used: PPV and NPV are also given for it."""
    coverage: float | None = None
    """Share of scans whose prediction set is to hold the truth. Default: the run's, else 0.9."""
    unit: Literal["scan", "study", "patient"] | None = None
    """What is judged: each scan, or the scans of a study or a patient together. Default: the run's, else scan."""
    aggregate: Literal["max", "mean"] | None = None
    """How the probabilities of a unit's scans become one. Default: the run's, else max."""
    level: float | None = None
    """Confidence level of the intervals, above 0.5 and below 1. Default: the run's, else 0.95."""
    interval: Literal["student", "percentile", "bca"] | None = None
    """How the bootstrap gives an interval: Student's from its standard error, or its quantiles, plain or bias-corrected
    and accelerated (BCa). Default: the run's, else student, which covers best with few patients."""
    resamples: int | None = None
    """Bootstrap resamples, drawn by patient. Default: the run's, else 2000."""
    seed: int | None = None
    """Seed of the bootstrap. Default: the run's, else 0."""
    allow_shared_patients: bool = False
    """Go on although the same patients or images are in the test split and in another one. The report says so."""
    robustness: bool = False
    """RUN: predict the test scans again under noise, blur, less contrast, coarser voxels, rotation and lost slices,
    into RUN/robustness.json; needs the scans, and about twenty predictions a scan."""
    gallery: bool = False
    """RUN: show the most confident errors and the least certain test scans in the report, with where the model looked,
    into RUN/gallery.json; needs the scans. Pictures may hold burned-in text: look before you hand the report on."""
    recalibrate: Path | None = None
    """With --model: folder for a copy of the model whose calibration and thresholds are fitted on these scans."""
    language: Literal["en", "es", "pt", "it"] = "en"
    """Language of the report: English, Spanish, Portuguese or Italian."""
    pdf: bool = False
    """Also write report.pdf. Without it, that of an earlier evaluation is removed: it would contradict the report."""
    figures: bool = False
    """Also write every figure as PNG and SVG, and its numbers as CSV, into the folder figures/. Without it, those of an
    earlier evaluation are removed."""


def check(options: Evaluate) -> None:
    """Refuse options that do not belong together, all of them at once."""
    names = ("run", "predictions", "labels", "model", "scans", "out", "against", "split", "threshold", "target",
             "robustness", "gallery", "recalibrate")  # fmt: skip
    given = {name for name in names if getattr(options, name)}
    modes = sorted(given & {"run", "predictions", "model"})
    one = f"give one of RUN, --predictions or --model; found {', '.join(modes) or 'none'}"
    found = [] if len(modes) == 1 else [one]
    found += ["give one RUN folder; compare two with --against"] if len(options.run) > 1 else []
    needed: dict[str, set[str]] = {"run": set(), "predictions": {"labels", "out"}, "model": {"scans", "labels", "out"}}
    allowed = {
        "run": {"split", "against", "robustness", "gallery"},
        "predictions": {"split", "threshold", "target"},
        "model": {"split", "recalibrate"},
    }
    for mode in modes[:1] if len(modes) == 1 else []:
        shown = "RUN" if mode == "run" else f"--{mode}"
        found += [f"{shown} needs --{name}" for name in sorted(needed[mode] - given)]
        foreign = sorted(given - {mode} - needed[mode] - allowed[mode])
        found += [f"--{name} does not go with {shown}" for name in foreign]
    if options.out and options.scans and options.out.resolve().is_relative_to(options.scans.resolve()):
        found.append("--out lies inside --scans; inputs are never altered, choose another folder")
    copy, inputs = options.recalibrate, (options.scans, options.model)
    if copy and any(one and copy.resolve().is_relative_to(one.resolve()) for one in inputs):
        found.append("--recalibrate lies inside --scans or --model, which are never altered; choose another folder")
    if copy and copy.exists():
        found.append(f"--recalibrate {copy} exists already; give a folder that does not")
    if found:
        raise UsageError("the options can't be used:\n" + "\n".join(f"  {problem}" for problem in found) + "\n" + USAGE)


def section_of(options: Evaluate, base: EvaluateSection) -> EvaluateSection:
    """The settings of a run, or the defaults, with those that the options replace.

    Raises:
        UsageError: If a value can't be used.
    """
    given = {k: v for k in SETTINGS if (v := getattr(options, k)) is not None}
    given |= {"target": options.target} if options.target else {}
    try:
        section = EvaluateSection.model_validate(base.model_dump() | given)
    except ValidationError as error:
        raise UsageError(f"the options can't be used:\n{problems(error)}") from None
    parse_target(section.target)
    return section


def thresholds(options: Evaluate, findings: Sequence[str]) -> dict[str, OperatingPoint]:
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


def splits_of(options: Evaluate) -> tuple[str, ...]:
    """The split that was asked for; none for all that were held out."""
    return (options.split,) if options.split else ()


def required(path: Path | None) -> Path:
    """A path that an earlier check has made sure of."""
    if path is None:  # `check` has refused this already; this tells the type checker
        raise UsageError(USAGE)
    return path
