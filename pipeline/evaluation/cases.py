"""One finding in one split as arrays, and which scans count as positive there."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.console import count
from pipeline.domain import OperatingPoint
from pipeline.evaluation.intervals import distinct
from pipeline.evaluation.operating_point import choose

Array: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Cases:
    """The labelled scans of one finding.

    Attributes:
        y: 0 or 1 a scan.
        p: Calibrated probability a scan.
        patients: The patient of each scan, numbered 0 .. n-1 by sorted name.
        positive: What the operating point says of each scan; None where there is no point.
        point: The operating point as it goes into evaluation.json.
        reason: Why there is no point.
    """

    y: Array
    p: Array
    patients: NDArray[np.intp]
    positive: NDArray[np.bool_] | None = None
    point: dict[str, object] | None = None
    reason: str = ""

    @property
    def n(self) -> int:
        """Number of scans."""
        return len(self.y)

    @property
    def clustered(self) -> bool:
        """Whether a patient has more than one scan."""
        return len(self.patients) > distinct(self.patients)

    def patients_with(self, label: float) -> int:
        """Number of patients that have a scan of this label."""
        return distinct(self.patients[self.y == label])

    @property
    def one_class(self) -> str:
        """Why ranking is undefined, "" where both classes are there."""
        positives = int((self.y == 1).sum())
        if self.n == 0:
            return "no labelled scans"
        if positives in (0, self.n):
            return f"only one class: {positives} of {count(self.n, 'scan')} {'is' if self.n == 1 else 'are'} positive"
        return ""

    def subset(self, rows: NDArray[np.bool_]) -> "Cases":
        """The cases of these rows, patients numbered anew."""
        positive = None if self.positive is None else self.positive[rows]
        return replace(self, y=self.y[rows], p=self.p[rows], patients=numbered(self.patients[rows]), positive=positive)


def numbered(names: "pd.Series[Any] | NDArray[Any]") -> NDArray[np.intp]:
    """0 .. n-1 by sorted name, so that a seed draws the same patients whatever the order of the rows."""
    return np.asarray(pd.factorize(names, sort=True)[0], dtype=np.intp)


def labelled(rows: pd.DataFrame, finding: str) -> pd.DataFrame:
    """The rows whose label of this finding is known."""
    return rows[rows[f"y_{finding}"].notna()]


def cases_of(rows: pd.DataFrame, finding: str, points: Mapping[str, OperatingPoint], target: str) -> Cases:
    """The cases of a finding in one split, decided at its operating point.

    Args:
        rows: The scored rows of one split of a checked table.
        finding: One of the table's findings.
        points: The frozen operating points; a finding may have none.
        target: What out-of-fold thresholds are chosen for.
    """
    known = labelled(rows, finding)
    cases = Cases(
        known[f"y_{finding}"].to_numpy(float), known[f"p_{finding}"].to_numpy(float),
        numbered(known["patient"]),
    )  # fmt: skip
    point = points.get(finding)
    if len(known) and (known["split"] == "oof").all() and known["fold"].nunique() > 1 and point is not None:
        return _cross_fitted(cases, known["fold"].to_numpy(str), point, target)
    if point is not None:
        stored: dict[str, object] = {"threshold": point.threshold, "target": point.target}
        stored["chosen_on"] = point.chosen_on
        return replace(cases, positive=cases.p >= point.threshold, point=stored)
    if f"positive_{finding}" in known:
        given: dict[str, object] = {"threshold": None, "target": f"column positive_{finding}", "chosen_on": "given"}
        return replace(cases, positive=known[f"positive_{finding}"].to_numpy(float) == 1, point=given)
    return replace(cases, reason="no operating point: no tune split with both classes, no threshold given")


def _cross_fitted(cases: Cases, folds: NDArray[np.str_], point: OperatingPoint, target: str) -> Cases:
    """Out-of-fold scans are decided by the threshold that the other folds choose; the stored point is that of all.

    A threshold chosen on the same scans that it is then judged on looks better than it is.
    """
    positive = np.zeros(cases.n, dtype=bool)
    for fold in np.unique(folds):
        here = folds == fold
        chosen = choose(point.finding, cases.y[~here], cases.p[~here], target, "oof")
        if chosen is None:
            return replace(cases, reason=f"no operating point: the folds other than {fold} hold one class only")
        positive[here] = cases.p[here] >= chosen.threshold
    stored = {"threshold": point.threshold, "target": target, "chosen_on": point.chosen_on, "cross_fitted": True}
    return replace(cases, positive=positive, point=stored)
