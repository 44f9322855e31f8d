"""Turn a folder of scans and a table of labels into a cohort: `python -m pipeline.prepare SCANS --labels L.csv ...`."""

import hashlib
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated

import pandas as pd
import tyro
from pydantic import ValidationError

import pipeline
from pipeline.cohort.build import Built, build
from pipeline.cohort.explained import explained
from pipeline.cohort.labels import SPLITS, read_labels
from pipeline.cohort.leakage import patients
from pipeline.cohort.manifest import OWN_FILES, subgroups_of, write_cohort
from pipeline.cohort.proposal import gpu_at_hand, propose
from pipeline.cohort.reading import measure_all
from pipeline.cohort.task import targets_of
from pipeline.config import ConfigError, load_config, problems
from pipeline.console import DONE, WITH_REJECTIONS, WRONG_USE, count, guarded, progress, stderr, stdout
from pipeline.domain import ReadRules, UsageError
from pipeline.files import check_writable
from pipeline.results.cohort_page import CohortFacts, cohort_page
from pipeline.scans.find import Survey, relative_path, survey
from pipeline.scans.summary import summary_of
from pipeline.sections import CohortSection

DEMO = "python -m pipeline.prepare data/demo/scans --labels data/demo/labels.csv --label nodule --out runs/demo/cohort"


@dataclass(frozen=True)
class Options:
    """Find and read the scans in a folder, join labels, split by patient, and write a COHORT folder.

    Without --labels: the tables and the quality report, no split. Scans are never altered. COHORT is your own working
    material and holds patient ids; what leaves it later holds pseudonyms. Exit code 3: done, but some scans were
    refused or none was usable. Research use only, not a medical device.
    """

    scans: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SCANS")]
    """A folder of DICOM series, NIfTI files or radiographs, searched to its full depth, .zip archives
    included; or one file."""
    out: Path
    """COHORT folder to write; not inside SCANS. Only its own files are replaced."""
    labels: Path | None = None
    """CSV with a key column (path, accession_number, scan_id, series_uid, study_uid or patient_id), label columns,
    and optionally split, fold and columns to group by (sex, age, site). Empty cells are missing."""
    label: tuple[str, ...] = ()
    """Label columns; empty takes those called label or label_*."""
    config: Path | None = None
    """A run's YAML whose sections `cohort` and `read` are the defaults; options given here win."""
    workers: int = 2
    """Processes that read scans; 0 reads in this one."""
    cohort: CohortSection = field(default_factory=CohortSection)
    read: ReadRules = field(default_factory=ReadRules)


def main(argv: Sequence[str] | None = None) -> int:
    """The command's exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words:
        stderr.print(f"prepare needs a folder of scans and --out. For the demo:\n  {DEMO}", markup=False)
        return WRONG_USE
    return guarded(lambda: _run(parse(words)))


def parse(words: Sequence[str]) -> Options:
    """The options; sections of `--config` are their defaults.

    Raises:
        ConfigError: If the config or a value can't be used.
    """
    words = _joined_labels(words)
    prog = "python -m pipeline.prepare"
    options = tyro.cli(Options, args=words, prog=prog)
    if options.config:
        config = load_config(options.config)
        default = replace(options, cohort=config.cohort, read=config.read)
        options = tyro.cli(Options, default=default, args=words, prog=prog)
    try:
        CohortSection.model_validate(options.cohort.model_dump())
    except ValidationError as error:
        raise ConfigError(f"the options are not valid:\n{problems(error)}") from None
    if options.workers < 0:
        raise UsageError(f"--workers: expected 0 or more, got {options.workers}")
    if options.label and options.labels is None:
        raise UsageError("--label names columns of --labels; give that file too")
    return options


def _joined_labels(words: Sequence[str]) -> list[str]:
    """`--label a --label b` as `--label a b`, so that both ways of writing it mean the same."""
    rest, names, index = [], [], 0
    while index < len(words):
        if words[index] == "--label":
            index += 1
            while index < len(words) and not words[index].startswith("-"):
                names.append(words[index])
                index += 1
        else:
            rest.append(words[index])
            index += 1
    return [*rest, *(["--label", *names] if names else [])]


def _run(options: Options) -> int:
    root, out = options.scans.resolve(), options.out.resolve()
    if out == root or out.is_relative_to(root):
        raise UsageError("--out lies inside SCANS or is SCANS itself; scans are never altered, choose another folder")
    check_writable(options.out)
    if options.labels and options.labels.resolve().parent == out and options.labels.name in OWN_FILES:
        raise UsageError(
            "--labels is a table of the COHORT folder itself, which is written anew; copy it elsewhere first"
        )
    labels = read_labels(options.labels, options.label) if options.labels else None
    with progress("finding scans") as report:
        found = survey(root, report, options.read)
    with progress("reading scans") as report:
        built = build(
            found, labels, options.cohort, options.read,
            lambda scans: measure_all(scans, options.read, min(options.workers, len(scans)), report),
        )  # fmt: skip
    proposed = _write(out, found, built, options)
    _tell(found, built, options, proposed)
    return WITH_REJECTIONS if built.rejections or _nothing_usable(built) else DONE


def _nothing_usable(built: Built) -> bool:
    return built.table.empty or (built.task is not None and not (built.table["split"] != "").any())


def _write(out: Path, found: Survey, built: Built, options: Options) -> bool:
    """Write the cohort; whether its config.yaml is the proposed one."""
    rejected = [
        (relative_path(file, found.root), r.scan_id, r.reason.value, r.detail)
        for r in built.rejections
        for file in r.files or (r.path,)
    ]
    skipped = [(relative_path(path, found.root), why) for path, why in found.skipped]
    unchosen = [
        (relative_path(one.scan.path, found.root), one.scan.scan_id, one.reason.value, one.detail)
        for one in found.not_selected
    ]
    reasons = ["path", "scan_id", "reason", "detail"]
    tables = {
        "scans.csv": built.table,
        "rejected.csv": pd.DataFrame(sorted(rejected), columns=reasons, dtype=str),
        "not_selected.csv": pd.DataFrame(unchosen, columns=reasons, dtype=str),
        "skipped.csv": pd.DataFrame(skipped, columns=["path", "reason"], dtype=str),
        **built.tables,
    }
    config = _proposal(built, options)
    fingerprint = built.fingerprint | {"config_sha256": hashlib.sha256(config.encode()).hexdigest()}
    return write_cohort(out, tables, fingerprint, cohort_page(_facts(found, built, options)), config)


def _proposal(built: Built, options: Options) -> str:
    """config.yaml for the cohort, "" where there is nothing to train on."""
    if not built.task or not (built.table["split"] == "train").any():
        return ""
    gpu = gpu_at_hand()
    found = propose(built.table, built.fingerprint, options.out, options.cohort, options.read, gpu)
    opening = (
        f"Proposed by pipeline.prepare for {count(len(built.table), 'scan')} and {'a GPU' if gpu else 'a CPU'}; "
        "yours to edit.\n"
        f"  python -m pipeline.train {options.out / 'config.yaml'}"
    )
    return explained(found.config, found.reasons, opening)


def _facts(found: Survey, built: Built, options: Options) -> CohortFacts:
    n_files = len(found.skipped) + sum(
        len(scan.paths) + len(scan.aliases) for scan in [*found.scans, *(one.scan for one in found.not_selected)]
    )
    n_files += sum(len(r.files or (r.path,)) for r in found.rejections)
    rejected: dict[str, tuple[int, int]] = {}
    for reason, _ in Counter(r.reason.value for r in built.rejections).most_common():
        files = [len(r.files or (r.path,)) for r in built.rejections if r.reason.value == reason]
        rejected[reason] = (len(files), sum(files))
    labels = built.task.labels if built.task else ()
    y = targets_of(built.table, built.task) if built.task else pd.DataFrame(index=built.table.index)
    settings = options.cohort.model_dump(mode="json", exclude={"folder"}) if built.task else {}
    settings |= {f"read {name}": value for name, value in asdict(options.read).items()}
    return CohortFacts(
        title=options.out.resolve().name,
        made_by=f"scanline {pipeline.__version__}",
        table=built.table,
        patients=patients(built.table),
        targets=y,
        n_files=n_files,
        skipped=dict(Counter(why for _, why in found.skipped).most_common()),
        rejected=rejected,
        duplicates=built.tables["duplicates.csv"],
        subgroups=subgroups_of(built.table, labels),
        notices=[*built.notices, *_left_out(found)],
        settings={k: v if isinstance(v, str) else json.dumps(v) for k, v in settings.items() if v is not None},
    )


def _tell(found: Survey, built: Built, options: Options, proposed: bool) -> None:
    table = built.table
    _say(f"found: {summary_of(found)}")
    read = f"{count(len(table), 'scan')} of {count(patients(table).nunique(), 'patient')} read"
    _say(f"{read}, {len(built.rejections):,} refused")
    for reason, n in Counter(r.reason.value for r in built.rejections).most_common():
        _say(f"  refused   {reason:<24}{n:>7}")
    for line in _split_lines(built):
        _say(f"  {line}")
    for notice in [*built.notices, *_left_out(found)]:
        _say(f"  note: {notice}")
    if table.empty:
        _say("nothing usable was found; rejected.csv and skipped.csv say why")
    _say(f"written: {options.out} (page: {options.out / 'cohort.html'})")
    if built.task and not _nothing_usable(built):
        own = options.out / "config.yaml"
        if own.is_file():
            _say(f"config: {own} ({'proposed from these scans' if proposed else 'edited by you, left as it is'})")
        given = f"{options.config} --cohort.folder {options.out}" if options.config else own
        _say(f"next: python -m pipeline.train {given}")
    elif not table.empty and options.labels is None:
        _say("next: the same command with --labels LABELS.csv --label NAME")


def _left_out(found: Survey) -> list[str]:
    count = len(found.not_selected)
    return [f"scans that the read rules did not select: {count} (not_selected.csv)"] if count else []


def _split_lines(built: Built) -> list[str]:
    """One line a split: scans, patients, and of how many scans with a label each finding is positive."""
    table, lines = built.table, []
    y = targets_of(table, built.task) if built.task else pd.DataFrame(index=table.index)
    for name in (*SPLITS, "") if built.task else ():
        rows = table["split"] == name
        shares = ", ".join(f"{f}: {int((y[f][rows] == 1).sum())} of {int(y[f][rows].notna().sum())}" for f in y)
        scans, people = count(int(rows.sum()), "scan"), count(patients(table)[rows].nunique(), "patient")
        counts = f"{scans:>12}, {people:>14}"
        lines += [f"{name or 'not used':<10}{counts}   {shares}"] if rows.any() else []
    return lines


def _say(text: str) -> None:
    stdout.print(text, markup=False)


if __name__ == "__main__":
    sys.exit(main())
