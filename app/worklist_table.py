"""The worklist as a table: a row for every scan and every refused one, the likeliest first. No Streamlit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from app import panels
from app.catalog import Catalog, Score
from pipeline.domain import Prediction, Rejection, Scan, ScanError
from pipeline.scans.find import relative_path

STATUSES = ("scored", "waiting", "no_result", "refused", "not_selected", "vanished")
"""scored; not scored yet; read, but the model refused it; refused before it was a scan; left out by the read rules;
scored once, and no longer in the folder."""
SEARCHED = ("patient", "patient_id", "study", "what", "modality", "view", "positive", "reason")
"""Columns of text, beside the scan id, that the reader's words are looked for in."""
SHORTEST, LONGEST = 0.001, 0.999
"""Probabilities are shown within these: 0 and 1 would claim certainty."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the reader wants to see of the worklist.

    Attributes:
        words: Parts of a patient's name or id, a path, a modality or a reason, all of which must be there.
        statuses: None of them: every status.
        positives: Only scans that are positive for some finding.
    """

    words: str = ""
    statuses: Sequence[str] = ()
    positives: bool = False


def worklist(
    catalog: Catalog, scores: Mapping[str, Score], findings: Sequence[str], root: Path, hidden: bool
) -> pd.DataFrame:
    """Every scan as a row, the highest probability first, those without one after them.

    Columns: scan_id (empty where there is nothing to open), patient, patient_id, study, what, modality, view (of a
    radiograph, as coded), side (L, R, B), status, p_<finding> ..., positive, uncertainty, unlike (out of distribution),
    scored, reason. Without identities the first three are empty, and `what` is a number.

    Args:
        catalog: The folder.
        scores: Scan id -> what the model says.
        findings: The model's.
        root: SCANS, which paths are shown relative to.
        hidden: Leave out whatever tells the patient.
    """
    rows = [_of_scan(scan, scores.get(scan.scan_id), catalog, root) for scan in catalog.scans.values()]
    rows += [_of_rejection(one, root, "refused") for one in catalog.found.rejections]
    rows += [
        _of_rejection(Rejection(one.scan.path, one.reason, one.detail, one.scan.scan_id), root, "not_selected")
        for one in catalog.found.not_selected
    ]
    known = {*catalog.scans, *(one.scan_id for one in catalog.found.rejections)}
    known |= {one.scan.scan_id for one in catalog.found.not_selected}
    rows += [_of_vanished(scan_id, score) for scan_id, score in scores.items() if scan_id not in known]
    if hidden:
        for number, row in enumerate(rows, 1):
            row |= {"patient": "", "patient_id": "", "study": "", "what": f"{number:05d}"}
    columns = ["scan_id", "patient", "patient_id", "study", "what", "modality", "view", "side", "status"]
    columns += [f"p_{finding}" for finding in findings]
    columns += ["positive", "uncertainty", "unlike", "scored", "reason"]
    table = pd.DataFrame(rows, columns=columns)
    numbers = [f"p_{finding}" for finding in findings]
    table[[*numbers, "uncertainty"]] = table[[*numbers, "uncertainty"]].astype(float)
    table["scored"] = pd.to_datetime(table["scored"], utc=True)
    order = table[numbers].max(axis=1).sort_values(ascending=False, kind="stable", na_position="last").index
    return table.loc[order].reset_index(drop=True)


def narrowed(table: pd.DataFrame, wanted: Wanted) -> pd.DataFrame:
    """The rows that the reader wants, in the same order."""
    kept = pd.Series(True, index=table.index)
    if wanted.statuses:
        kept &= table["status"].isin(list(wanted.statuses))
    if wanted.positives:
        kept &= table["positive"] != ""
    if words := wanted.words.casefold().split():
        text = table["scan_id"].str.cat(table[list(SEARCHED)], sep=" ").str.casefold()
        for word in words:
            kept &= text.str.contains(word, regex=False)
    return table[kept].reset_index(drop=True)


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """The table with probabilities that claim no certainty."""
    numbers = [column for column in table.columns if column.startswith("p_")]
    return table.assign(**{column: table[column].clip(SHORTEST, LONGEST) for column in numbers})


def _of_scan(scan: Scan, score: Score | None, catalog: Catalog, root: Path) -> dict[str, object]:
    who = catalog.identities[scan.scan_id]
    outcome = score.outcome if score is not None else None
    row: dict[str, object] = {
        "scan_id": scan.scan_id,
        "patient": panels.readable_name(who.patient_name),
        "patient_id": who.patient_id or scan.patient_id,
        "study": panels.readable_date(who.study_date or scan.acquired),
        "what": " · ".join(filter(None, [_path(scan.path, root), scan.group])),
        "modality": panels.kind_of(scan),
        "view": scan.view,
        "side": scan.side,
        "status": "waiting",
        "scored": score.scored if score is not None else None,
    }
    return _completed(row | _said(outcome))


def _of_rejection(one: Rejection, root: Path, status: str) -> dict[str, object]:
    reason = f"{one.reason.value}: {one.detail}"
    return _completed({"what": _path(one.path, root), "status": status, "reason": reason})


def _of_vanished(scan_id: str, score: Score) -> dict[str, object]:
    said = _said(score.outcome) | {"status": "vanished"}
    return _completed({"what": scan_id, "scored": score.scored, **said})


def _said(outcome: Prediction | ScanError | None) -> dict[str, object]:
    """What the model says, as cells."""
    if outcome is None:
        return {}
    if isinstance(outcome, ScanError):
        return {"status": "no_result", "reason": f"{outcome.reason.value}: {outcome.detail}"}
    return {
        "status": "scored",
        **{f"p_{finding}": p for finding, p in outcome.probabilities.items()},
        "positive": ", ".join(finding for finding, yes in outcome.positive.items() if yes),
        "uncertainty": outcome.uncertainty,
        "unlike": outcome.in_distribution is False,
    }


def _completed(row: dict[str, object]) -> dict[str, object]:
    blank = dict.fromkeys(("scan_id", "side", *SEARCHED), "")
    return blank | {"unlike": False, "uncertainty": None, "scored": None} | row


def _path(path: Path, root: Path) -> str:
    return relative_path(path, root).encode("utf-8", "backslashreplace").decode()
