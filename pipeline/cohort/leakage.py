"""What must stay together: scans of one patient, identical images, given groups; and what did not."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from pipeline.cohort.labels import SPLITS

DUPLICATE_COLUMNS = ("group", "scan_id", "patient_id", "path", "labels", "split", "fold", "dropped")
"""Columns of duplicates.csv: one row a scan whose image occurs more than once."""


def patients(table: pd.DataFrame) -> "pd.Series[str]":
    """Who each scan shows: its patient_id, or a key of its own where it has none."""
    return table["patient_id"].where(table["patient_id"] != "", "\0scan:" + table["scan_id"])


def studies(table: pd.DataFrame) -> "pd.Series[str]":
    """Which study of its patient each scan belongs to; a scan that names none is a study of its own."""
    own = table["study_uid"].where(table["study_uid"] != "", table["accession_number"])
    return patients(table) + "\0study:" + own.where(own != "", table["scan_id"])


def together(table: pd.DataFrame, by_content: bool, group_by: str | None = None) -> "pd.Series[str]":
    """The group of each scan, named by its smallest scan_id: scans of one group never part.

    Linked are scans of one patient, scans without patient_id of one study, scans with one value of `group_by`, and
    with `by_content` scans with identical voxels. Links chain: two patients who share an image are one group.
    """
    links = [patients(table), _nameless_studies(table)]
    links += [table["content_sha256"]] if by_content else []
    links += [table[group_by]] if group_by else []
    component = _components(len(table), links)
    ids = table["scan_id"].to_numpy()
    smallest = pd.Series(ids).groupby(component).transform("min")
    return pd.Series(smallest.to_numpy(), index=table.index, name="group")


def _nameless_studies(table: pd.DataFrame) -> "pd.Series[str]":
    """The study of scans without patient_id; anonymised studies of known patients may share a study_uid by mistake."""
    return table["study_uid"].where(table["patient_id"] == "", "")


def _components(n: int, links: Sequence["pd.Series[str]"]) -> np.ndarray:
    """Connected components of scans that share a value in one of the link columns; "" links nothing."""
    from scipy.sparse import coo_array  # here, so that reading processes start without it
    from scipy.sparse.csgraph import connected_components

    rows, nodes, first = [], [], n
    for column in links:
        codes, values = pd.factorize(column.where(column != ""))
        known = codes >= 0
        rows.append(np.flatnonzero(known))
        nodes.append(codes[known] + first)
        first += len(values)
    row, node = np.concatenate(rows), np.concatenate(nodes)
    graph = coo_array((np.ones(len(row), dtype=np.int8), (row, node)), shape=(first, first))
    labels: np.ndarray = connected_components(graph, directed=False)[1][:n]
    return labels


def duplicated(table: pd.DataFrame) -> "pd.Series[bool]":
    """Scans whose voxels are identical to those of another scan."""
    known = table["content_sha256"] != ""
    return known & table["content_sha256"].duplicated(keep=False)


def copies_to_drop(table: pd.DataFrame) -> "pd.Series[bool]":
    """Scans whose image also lies in a more held-out split (test over tune over train): these copies are left out."""
    rank = table["split"].map({name: place for place, name in enumerate(SPLITS)}).fillna(-1)
    image = table["content_sha256"].where(table["content_sha256"] != "", table["scan_id"])
    return (rank >= 0) & (rank < rank.groupby(image).transform("max"))


def leaks(table: pd.DataFrame, group_by: str | None = None) -> list[str]:
    """What lies in two splits or two folds though it must not, one sentence each (counts, no identities)."""
    problems = []
    links = {"patients": patients(table), "identical images": table["content_sha256"]}
    links |= {"studies without patient_id": _nameless_studies(table)} | (
        {f"values of {group_by}": table[group_by]} if group_by else {}
    )
    used = table["split"] != ""
    for column, where in (("split", used), ("fold", used & (table["fold"].astype(str) != ""))):
        for what, link in links.items():
            n = int((table[column][where & (link != "")].groupby(link).nunique() > 1).sum())
            if n:
                problems.append(f"{n} {what} are in more than one {column}")
    return problems


def duplicates_table(table: pd.DataFrame, labels: Sequence[str]) -> pd.DataFrame:
    """One row for every scan whose image occurs more than once, numbered by group (`DUPLICATE_COLUMNS`)."""
    rows = table[duplicated(table)].sort_values(["content_sha256", "path"])
    numbers = pd.factorize(rows["content_sha256"])[0] + 1
    told = rows[list(labels)].agg(";".join, axis=1) if len(labels) and len(rows) else pd.Series("", index=rows.index)
    dropped = rows["warnings"].map(lambda codes: "yes" if "duplicate_dropped" in codes.split(";") else "")
    scan = [rows[column] for column in ("scan_id", "patient_id", "path")]
    columns = [numbers, *scan, told, rows["split"], rows["fold"], dropped]
    return pd.DataFrame(dict(zip(DUPLICATE_COLUMNS, columns, strict=True)))
