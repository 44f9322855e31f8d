"""claim.md: what a paper has to report, filled from the run where the software knows it, marked open where it does not.

Topics follow CLAIM (2024 update), TRIPOD+AI and STARD(-AI). Their item numbers are left out on purpose: take them from
the checklist that the journal asks for.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.console import count
from pipeline.results import words
from pipeline.results.cohort_flow import Flow

OPEN = "**OPEN, to be written by the authors:**"
HEAD = """# Reporting checklist

Filled from the run by scanline where it knows the answer; `OPEN` marks what only the authors know. Research use only.
Topics of CLAIM (2024 update), TRIPOD+AI and STARD-AI; look the item numbers up in the checklist your journal asks for.
Every number with its method stands in report.html and evaluation.json."""


def claim(
    settings: Mapping[str, Any], config: Mapping[str, Any], evaluation: Mapping[str, Any], split: str,
    flow: Flow | None, shared: Sequence[str] = (),
) -> str:  # fmt: skip
    """The checklist as Markdown.

    Args:
        settings: Content of model.json.
        config: The run's settings, nested.
        evaluation: Content of evaluation.json.
        split: The split of the headline.
        flow: How scans became the evaluated ones.
        shared: Which splits share patients, in sentences.
    """
    parts = [
        ("Study", _study(settings)),
        ("Participants and scans", _scans(settings, config, evaluation, flow, shared)),
        ("Reference standard", _reference()),
        ("Model and training", _model(settings, config)),
        ("Evaluation", _evaluation(settings, evaluation[split])),
        ("Results", _results(evaluation, split)),
        ("Discussion and availability", _rest(settings)),
    ]
    lines = [HEAD]
    for heading, rows in parts:
        lines.append(f"## {heading}")
        lines.append("\n".join(f"* **{topic}.** {text}" for topic, text in rows))
    return "\n\n".join(lines) + "\n"


Rows = list[tuple[str, str]]


def _open(text: str) -> str:
    return f"{OPEN} {text}"


def _study(settings: Mapping[str, Any]) -> Rows:
    intended = str(settings.get("intended_use") or "") or _open("for which patients, question and reader.")
    return [
        ("Intended use", intended),
        ("Background and aim", _open("clinical problem, what exists, what this study adds.")),
        ("Design, ethics, registration", _open("retrospective or prospective; approval; consent; protocol.")),
        ("Sample size", _open("how it was chosen. The width of the intervals below says what it allows.")),
    ]


def _scans(
    settings: Mapping[str, Any], config: Mapping[str, Any], evaluation: Mapping[str, Any], flow: Flow | None,
    shared: Sequence[str],
) -> Rows:  # fmt: skip
    cohort, modalities = config.get("cohort", {}), ", ".join(settings.get("read", {}).get("modalities", ())) or "any"
    disjoint = "; ".join(shared) or "no patient is in two splits"
    counts = "; ".join(
        f"{name}: {count(n['n_patients'], 'patient')}, {count(n['n_scans'], 'scan')}" for name, n in evaluation.items()
    )
    rows = [
        ("Where the scans come from", _open("sites, dates, scanners, how they were chosen.")),
        ("Eligibility", _open("inclusion and exclusion.") + f" Accepted modalities: {modalities}."),
    ]  # fmt: skip
    if flow is not None:
        lost = "; ".join(f"{reason} {n}" for reason, n in flow.left_out.items()) or "none"
        parts = "; ".join(
            f"{name} {count(scans, 'scan')} of {count(p, 'patient')}" for name, (scans, p) in flow.splits.items()
        )
        rows.append(
            ("Flow", f"{count(flow.found, 'scan')} found; left out: {lost}; predicted {flow.predicted} ({parts}).")
        )
    rows += [
        ("Who is in it", "Table 1 of report.html, by split."),
        ("Partition", f"by patient: {disjoint}; seed {cohort.get('seed', 0)}; evaluated: {counts}."),
        ("De-identification", "patients are pseudonyms outside the cohort folder. " + _open("what was done before.")),
        ("Missing values", "scans without a label are counted and left out, of each finding by itself."),
    ]  # fmt: skip
    return rows


def _reference() -> Rows:
    return [
        ("Definition", _open("what makes a scan positive, and why that is the truth.")),
        ("Annotators", _open("how many, their experience, blinding, agreement, how disputes were settled.")),
    ]


def _model(settings: Mapping[str, Any], config: Mapping[str, Any]) -> Rows:
    network, grid, rules = settings.get("model", {}), settings.get("preprocess", {}), config.get("train", {})
    calibration = settings.get("calibration", {}).get("method", "none")
    names = ("epochs", "batch_size", "learning_rate", "weight_decay", "seed")
    kept = {name: rules[name] for name in names if name in rules}
    augment = {k: v for k, v in config.get("augment", {}).items() if v}
    return [
        ("Network", f"{network.get('backbone', '')}, {network.get('dimensions', '')}D; members: "
                    f"{settings.get('members', 1)}; first weights: {network.get('weights', '')}."),
        ("Preprocessing", "; ".join(f"{key} {value}" for key, value in grid.items()) + "."),
        ("Training", f"{_listed(kept)}; augmentation: {_listed(augment) or 'none'}."),
        ("Choice of the model", "the epoch with the best tune score; the test split had no part in it."),
        ("Calibration", f"{calibration}, fitted on held-out scans other than the test split."),
        ("Software", f"{settings.get('software', '')}; all versions in environment.json."),
        ("Explanation", "Heat maps in the scan's space. " + _open("whether and how readers saw it.")),
    ]  # fmt: skip


def _evaluation(settings: Mapping[str, Any], numbers: Mapping[str, Any]) -> Rows:
    points = settings.get("operating_points", {})
    fixed = "; ".join(
        f"{f}: p >= {p['threshold']:.4g} for {p['target']}, chosen on {p['chosen_on']}" for f, p in points.items()
    )
    level = next(iter(numbers["findings"].values()))["auroc"]["level"]
    methods = sorted({found[k]["method"] for found in numbers["findings"].values()
                      for k in ("auroc", "sensitivity") if found[k]["method"] != "none"})  # fmt: skip
    frozen = "; frozen in the model folder before the test scans were opened."
    return [
        ("Thresholds", fixed + frozen if fixed else _open("no operating point was fixed.")),
        ("Unit of analysis", f"{numbers.get('unit', 'scan')}; intervals count patients."),
        ("Uncertainty", f"{words.percent(level)} intervals: {'; '.join(methods) or 'none'}."),
        ("Subgroup tests", "Wald, clustered by patient, Holm-corrected over all of them."),
        ("Clinical usefulness", "decision curve (net benefit) with intervals in report.html."),
        ("Internal or external", _open("whether the test split comes from other places or times than the training.")),
    ]  # fmt: skip


def _results(evaluation: Mapping[str, Any], split: str) -> Rows:
    rows: Rows = []
    for finding, found in evaluation[split]["findings"].items():
        shown = ("auroc", "sensitivity", "specificity", "ppv", "npv")
        numbers = "; ".join(f"{words.NAMES[key]} {words.with_interval(found[key])}" for key in shown)
        slope, cells = found["calibration"]["slope"], found["confusion"]
        table = "; TP {tp}, FP {fp}, TN {tn}, FN {fn}".format(**cells) if cells else ""
        rows.append((f"{split}, {finding}", f"{numbers}; calibration slope {words.with_interval(slope)}{table}."))
        sets = found.get("abstention", {})
        if "coverage" in sets:
            referred, error = (words.with_interval(sets[key]) for key in ("referred", "error_among_decided"))
            rows.append((f"{split}, {finding}, abstention", f"{referred} referred; error among the others {error}."))
    groups = ", ".join(evaluation[split]["subgroups"]) or "no columns to group by"
    rows.append(("Subgroups", f"{groups}: tables, tests and forest plot in report.html."))
    rows.append(("Failures", _open("look at the wrong and the least certain scans, and say what they have in common.")))
    return rows


def _rest(settings: Mapping[str, Any]) -> Rows:
    facts = settings.get("training", {})
    return [
        ("Limits", _open("spectrum, labels, shortcuts, what was not tested.")),
        ("Availability", f"trained on scans.csv with SHA-256 {facts.get('scans_sha256', 'unknown')}; the model: "
                         "SHA256SUMS of its folder. " + _open("where code, model and scans can be had.")),
        ("Funding, interests", _open("who paid, who gains.")),
    ]  # fmt: skip


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in values.items())
