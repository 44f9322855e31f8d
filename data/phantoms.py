"""Write the embedded demo: synthetic chest CT, half of it with a lung nodule, as real DICOM and NIfTI files.

    python -m data.phantoms --out data/demo [--seed 0] [--patients 120]

The same settings give the same bytes. A stamp file makes a second run with the same settings end at once.
"""

import multiprocessing
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import tyro

from data.folders import is_current, problem_with, rewriting
from data.plan import Patient, labels_of, plan
from data.series import write_patient
from pipeline.console import DONE, WRONG_USE, Report, count, guarded, progress, stderr, stdout
from pipeline.domain import UsageError
from pipeline.files import sha256_of, write_table

CONTENT = ("scans", "masks", "labels.csv", "masks.csv")
"""All that a demo folder holds."""
SOURCES = ("anatomy.py", "lesion.py", "shapes.py", "plan.py", "series.py", "phantoms.py")
"""A change in any of them makes a demo folder out of date."""
NO_SCAN = "README.dcm"
MOST_WORKERS = 8


@dataclass(frozen=True)
class Settings:
    """Write synthetic chest CT with and without lung nodules, as DICOM series and NIfTI files."""

    out: Path
    """Folder to write: scans/, labels.csv, masks/, masks.csv."""
    seed: int = 0
    """Seed of everything that is drawn."""
    patients: int = 120
    """Number of patients; half of them carry one nodule."""
    small: bool = False
    """Tiny grids (about 48x48x16 voxels), for tests."""
    workers: int = 0
    """Processes that write in parallel; 0: as many as there are cores, at most 8."""


def make_demo(out: Path, seed: int = 0, patients: int = 120, small: bool = False) -> None:
    """Write the demo folder in this process, unless it is there already with the same settings.

    `small` asks for tiny grids (about 48x48x16 voxels) that are written in milliseconds, for tests.
    """
    _make(Settings(out=out, seed=seed, patients=patients, small=small, workers=1))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; its exit code."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    if not arguments:
        stderr.print("error: needs a folder to write to: python -m data.phantoms --out data/demo", style="red")
        return WRONG_USE
    settings = tyro.cli(Settings, args=arguments, prog="python -m data.phantoms")
    return guarded(lambda: _run(settings))


def _run(settings: Settings) -> int:
    state = "written" if _make(settings) else "there already, nothing to do"
    scans, table = settings.out / "scans", settings.out / "labels.csv"
    labels = pd.read_csv(table)
    stdout.print(
        f"{settings.out}: {state}. {count(len(labels), 'scan')} of {count(settings.patients, 'patient')}, "
        f"{labels['nodule'].sum()} with a nodule; 2 series and 1 file are broken on purpose.",
        markup=False,
    )
    stdout.print(f"scans: {scans}   labels: {table}   lesion masks: {settings.out / 'masks.csv'}", markup=False)
    stdout.print(
        f"next: python -m pipeline.prepare {scans} --labels {table} --label nodule --out runs/demo/cohort", markup=False
    )
    return DONE


def _make(settings: Settings) -> bool:
    """Write the folder if need be; whether it was."""
    _check(settings)
    sums = {name: sha256_of(Path(__file__).with_name(name)) for name in SOURCES}
    made_with = {"seed": settings.seed, "patients": settings.patients, "small": settings.small, "sources": sums}
    if is_current(settings.out, made_with):
        return False
    with rewriting(settings.out, CONTENT, made_with) as staging, progress("writing demo scans") as report:
        _write_content(settings, staging, report)
    return True


def _check(settings: Settings) -> None:
    """Refuse settings that can't work, all of them at once."""
    bounds = (("patients", settings.patients, 2), ("seed", settings.seed, 0), ("workers", settings.workers, 0))
    problems = [f"{name}: expected {least} or more, got {value}" for name, value, least in bounds if value < least]
    if problem := problem_with(settings.out):
        problems.append(problem)
    if problems:
        raise UsageError("\n".join(problems))


def _write_content(settings: Settings, folder: Path, report: Report) -> None:
    planned = plan(settings.seed, settings.patients, settings.small)
    labels = labels_of(settings.seed, settings.patients)
    rows = _write_all(settings, folder, list(zip(planned, labels, strict=True)), report)
    (folder / "scans" / NO_SCAN).write_text("A text file with the wrong name: the demo shows how it is passed over.\n")
    scans = [
        {
            **row,
            "nodule": int(nodule),
            "sex": patient.sex,
            "age": patient.age(visit),
            "site": patient.site,
        }
        for patient, nodule in zip(planned, labels, strict=True)
        for visit, row in zip(patient.visits, rows[patient.number], strict=True)
    ]
    table = pd.DataFrame(scans)
    write_table(folder / "labels.csv", table[["path", "nodule", "sex", "age", "site"]])
    write_table(folder / "masks.csv", table.loc[table["nodule"] == 1, ["path", "mask", "volume_ml"]])


def _write_all(
    settings: Settings, folder: Path, jobs: list[tuple[Patient, bool]], report: Report
) -> dict[int, list[dict[str, object]]]:
    """Write every patient, in parallel where asked; patient number -> rows of `write_patient`."""
    rows: dict[int, list[dict[str, object]]] = {}
    workers = settings.workers or min(os.cpu_count() or 1, MOST_WORKERS)
    if workers == 1:
        for patient, nodule in jobs:
            rows[patient.number] = write_patient(patient, nodule, settings.seed, folder)
            report(len(rows), len(jobs))
        return rows
    # spawn: the progress bar runs a thread, and a fork of a process with threads may hang.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        running = {
            pool.submit(write_patient, patient, nodule, settings.seed, folder): patient for patient, nodule in jobs
        }
        for future in as_completed(running):
            rows[running[future].number] = future.result()
            report(len(rows), len(jobs))
    return rows


if __name__ == "__main__":
    sys.exit(main())
