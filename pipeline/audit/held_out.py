"""The scans of a run's test split, found again on disk, for what must look at them a second time."""

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from pipeline.cohort.manifest import read_cohort
from pipeline.console import count, progress
from pipeline.domain import Scan, ScanError, UsageError, Volume
from pipeline.evaluation.run_folder import Run
from pipeline.model.package import Model, load_model
from pipeline.scans.find import read_volume, survey

SPLIT = "test"
"""Out-of-fold scans are left out: the ensemble that is kept has seen each of them."""


@dataclass(frozen=True)
class HeldOut:
    """A run's model and what it was tested on.

    Attributes:
        rows: The scored rows of predictions.csv, in its order.
        scans: One a row.
    """

    model: Model
    rows: pd.DataFrame
    scans: list[Scan]

    def volumes(self, what: str) -> Iterator[tuple[int, Volume]]:
        """(position, volume) of every scan that can still be read, one in memory at a time, with a progress bar."""
        with progress(what) as report:
            for position, scan in enumerate(self.scans):
                report(position, len(self.scans))
                try:
                    yield position, read_volume(scan, self.model.read_rules)
                except ScanError:
                    continue
            report(len(self.scans), len(self.scans))


def held_out_of(run: Run) -> HeldOut:
    """The test split of a run, with its model and its scans.

    Raises:
        UsageError: If there is no test split, or the cohort or its scans are no longer where training read them.
    """
    rows = run.table[(run.table["split"] == SPLIT) & (run.table["status"] == "ok")].reset_index(drop=True)
    if rows.empty:
        raise UsageError(f"{run.folder}: no scored scan is in the split {SPLIT}; only that one is looked at again")
    if run.config.cohort.folder is None:
        raise UsageError("cohort.folder: the run does not say which COHORT it was trained on")
    model = load_model(run.folder / "model")
    with progress("Finding scans") as report:
        found = survey(read_cohort(run.config.cohort.folder).scans_root, report, model.read_rules).scans
    known = {scan.scan_id: scan for scan in found}
    gone = [scan_id for scan_id in rows["scan_id"] if scan_id not in known]
    if gone:
        raise UsageError(
            f"no longer under the cohort's scans folder: {len(gone)} of {count(len(rows), 'test scan')} "
            f"(first: {gone[0]}); put them back, or leave out --robustness and --gallery"
        )
    return HeldOut(model, rows, [known[scan_id] for scan_id in rows["scan_id"]])
