"""`python -m pipeline.evaluate`: predictions and labels -> evaluation.json, report.html and the model card."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import tyro
from pydantic import TypeAdapter

from pipeline.audit.local_check import card_of, local_check, sentences
from pipeline.console import DONE, WITH_REJECTIONS, WRONG_USE, guarded, stdout
from pipeline.domain import ReadRules
from pipeline.evaluate_options import USAGE, Evaluate, check, required, section_of, splits_of, thresholds
from pipeline.evaluation.assess import Evaluation, choose_points
from pipeline.evaluation.compare import compare_all
from pipeline.evaluation.join import join
from pipeline.evaluation.run_folder import Run, read_frozen, read_run
from pipeline.evaluation.table import check_predictions, findings_of, read_table, read_tables, shared_patients
from pipeline.evaluation.units import per_unit
from pipeline.files import check_writable, read_json, sha256_of, write_json, write_sums, write_text
from pipeline.publish import Work, publish
from pipeline.results.claim import claim
from pipeline.results.cohort_flow import flow_of
from pipeline.results.model_card import model_card
from pipeline.results.robustness import gate_sentences
from pipeline.results.words import NAMES, plain
from pipeline.sections import EvaluateSection

UNCHECKED_MAPS = "Whether the model's heat maps can be trusted was not measured (python -m pipeline.explain --check)."


def main(argv: Sequence[str] | None = None) -> int:
    """The command's exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments:
        stdout.print(USAGE, markup=False)
        return WRONG_USE
    options = tyro.cli(Evaluate, args=arguments, prog="python -m pipeline.evaluate")
    return guarded(lambda: _run(options))


def _run(options: Evaluate) -> int:
    for folder, name in ((options.out, "--out"), (options.recalibrate, "--recalibrate")):
        if folder is not None:
            check_writable(folder, name)
    check(options)
    if options.predictions is not None:
        return evaluate_predictions(options)
    if options.model is not None:
        return evaluate_model(options)
    run = read_run(options.run[0])
    check_writable(run.folder, "RUN")
    return compare_runs(run, read_run(options.against), options) if options.against else evaluate_run(run, options)


def evaluate_run(run: Run, options: Evaluate) -> int:
    """Evaluate a run folder; its model folder gets evaluation.json, the card, and new hashes.

    One split alone, or other units than the run's own, are a view: it is written to a folder beside, for the model
    folder keeps all that was held out, judged at its frozen points.
    """
    model = run.folder / "model"
    asked, options = options, replace(options, split="", unit=None, aggregate=None)
    _look_again(run, section_of(options, run.config.evaluate), asked)
    refused, unused, changed = _prepared(run)
    facts = _facts(model, run.settings) | {str(k): str(v) for k, v in run.settings.get("training", {}).items()}
    shared = shared_patients(run.table, options.allow_shared_patients)
    disturbed = _kept(run, "robustness.json")
    gate, (maps, bad_maps) = disturbed.get("gate", {}), _maps(model)
    notes = [*changed, *shared, *gate_sentences(gate), *bad_maps]
    work = Work(
        run.config.name, run.table, section_of(options, run.config.evaluate), run.points, splits_of(options), notes,
        run.config.model_dump(mode="json"), facts, run.config.intended_use, refused, unused,
        probes=_kept(run, "shortcuts.json"), robustness=disturbed.get("findings", {}),
        gallery=_kept(run, "gallery.json").get("findings", {}), gate=gate, maps=maps,
    )  # fmt: skip
    if view := _view(asked):
        section = section_of(asked, run.config.evaluate)
        seen = _as_asked(replace(work, section=section, splits=splits_of(asked)), asked)
        publish(run.folder / view, seen, seen.assessed())
    work = _as_asked(work, options)
    evaluation = work.assessed()
    publish(run.folder, work, evaluation)
    write_json(model / "evaluation.json", evaluation)
    split, flow = next(iter(evaluation)), flow_of(run.table, refused, unused)
    write_text(run.folder / "claim.md", claim(run.settings, work.settings, evaluation, split, flow, shared))
    write_text(model / "MODEL_CARD.md", model_card(run.settings, evaluation, split, maps))
    write_sums(model)
    stdout.print(f"model card    {model / 'MODEL_CARD.md'}", markup=False)
    stdout.print(f"checklist     {run.folder / 'claim.md'} (CLAIM, TRIPOD+AI, STARD-AI)", markup=False)
    stdout.print(f"next: python -m pipeline.score {model} SCANS --out OUT", markup=False)
    return DONE


def _view(options: Evaluate) -> str:
    """Folder in RUN for numbers of one split or of other units than the run's own; "" for the evaluation itself."""
    parts = [options.split, f"by_{options.unit}" if options.unit else "", options.aggregate or ""]
    return "_".join(["evaluation", *filter(None, parts)]) if any(parts) else ""


def _look_again(run: Run, section: EvaluateSection, options: Evaluate) -> None:
    """Write RUN/robustness.json and RUN/gallery.json where they are asked for: only these need the scans again."""
    if not (options.robustness or options.gallery):
        return
    from pipeline.audit.held_out import held_out_of  # torch is loaded only where a network runs

    held, model = held_out_of(run), {"model_sha256": sha256_of(run.folder / "model" / "model.json")}
    if options.robustness:
        from pipeline.audit.gate_check import gate_check
        from pipeline.audit.robustness import robustness

        found = robustness(held, section) | {"gate": gate_check(held, section)}
        write_json(run.folder / "robustness.json", model | found)
    if options.gallery:
        from pipeline.audit.gallery import gallery

        write_json(run.folder / "gallery.json", model | gallery(held))


def _kept(run: Run, name: str) -> dict[str, Any]:
    """What an earlier look at the scans found; nothing where there was none, or at another model."""
    path = run.folder / name
    if not path.is_file():
        return {}
    found = read_json(path)
    if name == "shortcuts.json":
        return found
    own = sha256_of(run.folder / "model" / "model.json")
    return found if found.get("model_sha256") == own and isinstance(found.get("findings"), dict) else {}


def _maps(model: Path) -> tuple[str, list[str]]:
    """What `explain --check` found out about the heat maps of this very model; again as a caution where that is bad."""
    if not (model / "explanation.json").is_file():
        return UNCHECKED_MAPS, []
    from pipeline.explanation.trust import map_trust  # torch is loaded only where it is needed

    trust = map_trust(model)
    if trust is None:
        return UNCHECKED_MAPS, []
    return trust.sentence, [trust.sentence.removesuffix(".")] if trust.trusted is False else []


def _facts(model: Path, settings: Mapping[str, Any]) -> dict[str, str]:
    """Where the numbers come from: hash of the model, and the software that trained it."""
    return {
        "model.json (SHA-256)": sha256_of(model / "model.json"),
        "software": str(settings.get("software", "")),
    }


def _prepared(run: Run) -> tuple[dict[str, int], int, list[str]]:
    """Scans that prepare refused, by reason; how many are in no split; a note. Nothing where the COHORT is elsewhere.

    A COHORT that is no longer the one that was trained on tells nothing about this run, and the report says so.
    """
    folder = run.config.cohort.folder
    if folder is None or not all((folder / name).is_file() for name in ("scans.csv", "rejected.csv")):
        return {}, 0, []
    if sha256_of(folder / "scans.csv") != run.settings.get("training", {}).get("scans_sha256"):
        return {}, 0, ["the COHORT folder has changed since training (hash_mismatch): its counts are left out"]
    lines = (folder / "rejected.csv").read_text(encoding="utf-8").splitlines()
    rejected = read_table(folder / "rejected.csv") if len(lines) > 1 else pd.DataFrame(columns=["scan_id", "reason"])
    own = rejected["scan_id"].where(rejected["scan_id"] != "", "file " + rejected.index.astype(str))
    refused = rejected.assign(own=own).groupby("reason")["own"].nunique()
    unused = int((read_table(folder / "scans.csv")["split"] == "").sum())
    return {str(reason): int(n) for reason, n in refused.items()}, unused, []


def _as_asked(work: Work, options: Evaluate) -> Work:
    """The work in the units, language and files that were asked for."""
    extras = frozenset(name for name in ("pdf", "figures") if getattr(options, name))
    work = replace(work, language=options.language, extras=extras)
    unit, aggregate = work.section.unit, work.section.aggregate
    if unit == "scan":
        return work
    table, points = per_unit(work.table, unit, aggregate), work.points
    notes = [*work.notes, f"each row is a {unit}: the {aggregate} of the probabilities of its scans"]
    for split, where in (("tune", "the tune split"), ("oof", "the other folds")):
        chosen = choose_points(table, work.section.target, split)
        if chosen and not any(point.chosen_on == "given" for point in points.values()):
            points = chosen
            notes.append(f"the thresholds were chosen again on {where}, by {unit}")
            break
    return replace(work, table=table, points=points, notes=notes)


def evaluate_predictions(options: Evaluate) -> int:
    """Evaluate a table of predictions against a table of labels."""
    predictions, labels, out = required(options.predictions), required(options.labels), required(options.out)
    joined = join(*read_tables(predictions, labels))
    table = check_predictions(joined.table, str(predictions))
    section = section_of(options, EvaluateSection())
    points = thresholds(options, findings_of(table.columns)) or choose_points(table, section.target)
    notes = (*joined.notes, *shared_patients(table, options.allow_shared_patients))
    settings = {"evaluate": section.model_dump()}
    work = Work(predictions.stem, table, section, points, splits_of(options), notes, settings)
    work = _as_asked(work, options)
    publish(out, work, work.assessed())
    return DONE


def evaluate_model(options: Evaluate) -> int:
    """Score a folder with a model and judge it there at its frozen operating points."""
    from pipeline.scoring.folder import Request, score  # torch is loaded only where a network runs

    model, scans, out = required(options.model), required(options.scans), required(options.out)
    settings, points = read_frozen(model)
    findings = [str(finding) for finding in settings["findings"]]
    rules = TypeAdapter(ReadRules).validate_python(settings["read"])
    labels, told = labels_of_scans(scans, required(options.labels), findings, rules)
    if options.recalibrate is not None:
        from pipeline.audit.recalibrate import check_enough, recalibrate

        check_enough(findings, _unscored(labels, findings))
    summary = score(Request(model, scans, out / "scores", options.workers))
    joined = join(read_table(summary.predictions), labels)
    table = check_predictions(joined.table, "the scores")
    section, intended = section_of(options, EvaluateSection()), str(settings.get("intended_use", ""))
    notes = [*told, *joined.notes, *shared_patients(table, options.allow_shared_patients)]
    facts, (maps, bad_maps) = _facts(model, settings), _maps(model)
    work = Work(
        str(settings["name"]), table, section, points, splits_of(options), [*notes, *bad_maps], {}, facts, intended,
        maps=maps,
    )  # fmt: skip
    work = _as_asked(work, options)
    evaluation = work.assessed()
    publish(out, replace(work, notes=[*work.notes, *_checked_here(model, work, evaluation, out)]), evaluation)
    if options.recalibrate is not None:
        copy = recalibrate(model, scans, table, options.recalibrate)
        stdout.print(f"recalibrated  {copy} (judge it on other scans: on these it flatters)", markup=False)
    return DONE if summary.complete else WITH_REJECTIONS


def _checked_here(model: Path, work: Work, evaluation: Evaluation, out: Path) -> list[str]:
    """Whether the model holds here, in sentences and in OUT/local_check.json."""
    found = local_check(evaluation, work.table, work.points, *card_of(model, work.section.unit))
    write_json(out / "local_check.json", found)
    return sentences(found)


def _unscored(labels: pd.DataFrame, findings: Sequence[str]) -> pd.DataFrame:
    """The checked table of the labels before there are probabilities; it holds every scan that scoring may give."""
    blank = {"scan_id": labels["scan_id"], "status": "rejected"} | {f"p_{finding}": "" for finding in findings}
    return check_predictions(join(pd.DataFrame(blank), labels).table, "the labels")


def labels_of_scans(
    scans: Path, labels: Path, findings: Sequence[str], rules: ReadRules
) -> tuple[pd.DataFrame, list[str]]:
    """Label rows, by scan_id, of the scans chosen in a folder, joined like `pipeline.prepare` does; and notes."""
    from pipeline.cohort.join import join as join_labels
    from pipeline.cohort.labels import read_labels
    from pipeline.scans.find import survey

    found = survey(scans, rules=rules)
    read = read_labels(labels, sorted({finding.partition("=")[0] for finding in findings}))
    joined = join_labels(read, found.scans, found.rejections, scans, [one.scan for one in found.not_selected])
    table = joined.values.reset_index(names="scan_id")
    table["study"] = [scan.study_uid or scan.accession_number or scan.scan_id for scan in found.scans]
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
    split, found = compare_all(run, other, options.split, section_of(options, run.config.evaluate))
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
    how = "; ".join(filter(None, (result["method"], result.get("test"))))
    return f"{plain(result['value'], 3)} ({plain(result['low'], 3)} to {plain(result['high'], 3)}{p}; {how})"


if __name__ == "__main__":
    sys.exit(main())
