"""The cohort's page: what was found, what was left out and why, and who is in each split. One self-contained HTML."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.console import count
from pipeline.results.table_one import Columns, Row, categories, numeric, share

SPLITS = ("train", "tune", "test")

MOST_GROUPS = 40
"""Groups of (near-)identical images that the page shows; duplicates.csv has them all."""

LEFT_OUT = {
    "no_label": "without a label",
    "no_split": "no split given",
    "duplicate_dropped": "copy of an image in tune or test",
}
"""Warning codes that explain why a scan is in no split, in the order in which they are looked for."""


@dataclass(frozen=True, slots=True)
class CohortFacts:
    """What the page shows.

    Attributes:
        title: The cohort's name.
        made_by: Program and version.
        table: scans.csv; only scan ids of it are shown, never a patient's id or a path.
        patients: A key of each scan's patient, indexed like `table`.
        targets: One column a finding: 0, 1 or NaN; no columns without labels.
        n_files: Files that were looked at.
        skipped: Why files are no scans -> how many.
        rejected: Reason -> (refused scans, their files).
        duplicates: duplicates.csv.
        subgroups: The user's own columns for Table 1.
        notices: What the user should know, in sentences.
        settings: How the cohort was made.
    """

    title: str
    made_by: str
    table: pd.DataFrame
    patients: "pd.Series[str]"
    targets: pd.DataFrame
    n_files: int
    skipped: Mapping[str, int]
    rejected: Mapping[str, tuple[int, int]]
    duplicates: pd.DataFrame
    subgroups: Sequence[str]
    notices: Sequence[str]
    settings: Mapping[str, object]


def cohort_page(facts: CohortFacts) -> str:
    """The page: no script, no request to anywhere, every text escaped, no patient named."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    columns = _columns(facts)
    return environment.get_template("cohort.html").render(
        facts=facts,
        count=count,
        n_scans=len(facts.table),
        n_patients=int(facts.patients.nunique()),
        n_refused=sum(scans for scans, _ in facts.rejected.values()),
        left_out=_left_out(facts.table) if len(facts.targets.columns) else {},
        n_used=int((facts.table["split"] != "").sum()),
        splits=[_split(facts, name) for name in SPLITS if (facts.table["split"] == name).any()],
        heads=[(name, int(rows.sum())) for name, rows in columns],
        sections=_table_one(facts, columns),
        groups=_duplicate_groups(facts.duplicates),
        n_groups=int(facts.duplicates["group"].nunique()),
        warnings=_warnings(facts.table),
    )


def _columns(facts: CohortFacts) -> Columns:
    """All scans, then each split that there is."""
    split = facts.table["split"]
    parts = [(name, split == name) for name in SPLITS if (split == name).any()]
    return [("all", pd.Series(True, index=facts.table.index)), *parts]


def _left_out(table: pd.DataFrame) -> dict[str, int]:
    """Why scans that were read are in no split; each scan counts once."""
    out = table["split"] == ""
    found = {}
    for code, words in LEFT_OUT.items():
        here = out & table["warnings"].str.split(";").map(lambda codes, code=code: code in codes)
        out &= ~here
        found[words] = int(here.sum())
    return {words: n for words, n in {**found, "for another reason": int(out.sum())}.items() if n}


def _split(facts: CohortFacts, name: str) -> dict[str, object]:
    rows = facts.table["split"] == name
    used = int((facts.table["split"] != "").sum())
    y = facts.targets[rows]
    bars = [
        {"finding": str(finding), "positive": int((y[finding] == 1).sum()), "known": int(y[finding].notna().sum())}
        for finding in y
    ]
    n = int(rows.sum())
    return {"name": name, "scans": n, "patients": int(facts.patients[rows].nunique()), "share": n / used, "bars": bars}


def _table_one(facts: CohortFacts, columns: Columns) -> list[tuple[str, list[Row]]]:
    """Sections of Table 1: (heading, rows of (name, one cell a column))."""
    table = facts.table
    first = ~facts.patients.duplicated()
    sections = [("", [("Patients", [f"{facts.patients[rows].nunique():,}" for _, rows in columns])])]
    sections[0][1].append(("Scans", [f"{int(rows.sum()):,}" for _, rows in columns]))
    if len(facts.targets.columns):
        sections.append(
            ("Scans with the finding", [_positive(facts.targets[f], str(f), columns) for f in facts.targets])
        )
    sections.append(("Age in years, by patient", numeric(pd.to_numeric(table["age"], errors="coerce"), columns, first)))
    sections.append(("Sex, by patient", categories(table["sex"], columns, first)))
    for column, heading in (("modality", "Modality"), ("manufacturer", "Manufacturer")):
        sections.append((heading, categories(table[column], columns)))
    spacing = table["spacing_mm"].str.split("x", expand=True).reindex(columns=range(3)).astype(float)
    shape = table["shape"].str.split("x", expand=True).reindex(columns=range(3)).astype(float)
    sections.append(("Spacing within the slice (left to right), mm", numeric(spacing[0], columns)))
    if (shape[2] > 1).any():
        sections.append(("Distance of slices (foot to head), mm", numeric(spacing[2].where(shape[2] > 1), columns)))
        sections.append(("Slices (foot to head)", numeric(shape[2], columns)))
    shown = {"age", "sex", "modality", "manufacturer"}
    sections += [(c, categories(table[c], columns)) for c in facts.subgroups if c not in shown]
    return [(heading, rows) for heading, rows in sections if rows]


def _positive(y: "pd.Series[float]", finding: str, columns: Columns) -> Row:
    return finding, [share(int((y[rows] == 1).sum()), int(y[rows].notna().sum())) for _, rows in columns]


def _duplicate_groups(duplicates: pd.DataFrame) -> list[dict[str, object]]:
    groups: list[dict[str, object]] = []
    for number, rows in duplicates.groupby("group"):
        if len(groups) == MOST_GROUPS:
            break
        members = [
            {"scan_id": scan_id, "split": split or "not used", "dropped": dropped == "yes"}
            for scan_id, split, dropped in zip(rows["scan_id"], rows["split"], rows["dropped"], strict=True)
        ]
        people = rows["patient_id"].where(rows["patient_id"] != "", rows["scan_id"]).nunique()
        groups.append({"number": number, "members": members, "patients": people, "labels": sorted(set(rows["labels"]))})
    return groups


def _warnings(table: pd.DataFrame) -> list[tuple[str, int]]:
    """Warning codes, the most frequent first."""
    codes = table["warnings"].str.split(";").explode()
    counts = codes[codes.notna() & (codes != "")].value_counts()
    return [(str(code), int(n)) for code, n in counts.items()]
