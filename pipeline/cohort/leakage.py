"""What must stay together: scans of one patient, (near-)identical images, given groups; and what did not."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from pipeline.cohort.labels import SPLITS

DUPLICATE_COLUMNS = ("group", "scan_id", "patient_id", "path", "labels", "split", "fold", "dropped", "identical")
"""Columns of duplicates.csv: one row a scan whose image occurs more than once, to the voxel (`identical`) or nearly."""


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
    with `by_content` scans with identical or near-identical images. Links chain: two patients who share an image are
    one group.
    """
    links = [patients(table), _nameless_studies(table)]
    links += [table["content_sha256"], table["near_identical"]] if by_content else []
    links += [table[group_by]] if group_by else []
    return _linked(table, links).rename("group")


def images(table: pd.DataFrame) -> "pd.Series[str]":
    """The image of each scan, named by its smallest scan_id: identical and near-identical ones are one image."""
    return _linked(table, [table["content_sha256"], table["near_identical"]]).rename("image")


def _linked(table: pd.DataFrame, links: Sequence["pd.Series[str]"]) -> "pd.Series[str]":
    return table["scan_id"].groupby(_components(len(table), links)).transform("min")


def _nameless_studies(table: pd.DataFrame) -> "pd.Series[str]":
    """The study of scans without patient_id; anonymised studies of known patients may share a study_uid by mistake."""
    return table["study_uid"].where(table["patient_id"] == "", "")


def _components(n: int, links: Sequence["pd.Series[str]"]) -> np.ndarray:
    """Connected components of scans that share a value in one of the link columns; "" links nothing."""
    rows, nodes, first = [], [], n
    for column in links:
        codes, values = pd.factorize(column.where(column != ""))
        known = codes >= 0
        rows.append(np.flatnonzero(known))
        nodes.append(codes[known] + first)
        first += len(values)
    return components(first, np.stack([np.concatenate(rows), np.concatenate(nodes)]))[:n]


def components(n: int, pairs: np.ndarray) -> np.ndarray:
    """The connected component of each of `n` nodes that `pairs` [2, pair] link."""
    from scipy.sparse import coo_array  # here, so that reading processes start without it
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(pairs.shape[1], dtype=np.int8), (pairs[0], pairs[1])), shape=(n, n))
    labels: np.ndarray = connected_components(graph, directed=False)[1]
    return labels


def duplicated(table: pd.DataFrame) -> "pd.Series[bool]":
    """Scans whose voxels are identical to those of another scan."""
    known = table["content_sha256"] != ""
    return known & table["content_sha256"].duplicated(keep=False)


def copies(table: pd.DataFrame) -> "pd.Series[bool]":
    """Scans whose image is identical or nearly so to that of another scan."""
    return images(table).duplicated(keep=False)


def copies_to_drop(table: pd.DataFrame) -> "pd.Series[bool]":
    """Scans whose image also lies in a more held-out split (test over tune over train): these copies are left out."""
    rank = table["split"].map({name: place for place, name in enumerate(SPLITS)}).fillna(-1)
    return (rank >= 0) & (rank < rank.groupby(images(table)).transform("max"))


def leaks(table: pd.DataFrame, group_by: str | None = None) -> list[str]:
    """What lies in two splits or two folds though it must not, one sentence each (counts, no identities)."""
    problems = []
    links = {"patients": patients(table), "identical images": table["content_sha256"]}
    links |= {"near-identical images": table["near_identical"]}
    links |= {"studies without patient_id": _nameless_studies(table)} | (
        {f"values of {group_by}": table[group_by]} if group_by else {}
    )
    used = table["split"] != ""
    for column, where in (("split", used), ("fold", used & (table["fold"].astype(str) != ""))):
        for what, link in links.items():
            n = int((table[column][where & (link != "")].groupby(link).nunique() > 1).sum())
            if n:
                problems.append(f"{what} in more than one {column}: {n}")
    return problems


def duplicates_table(table: pd.DataFrame, labels: Sequence[str]) -> pd.DataFrame:
    """One row for every scan whose image occurs more than once, numbered by group (`DUPLICATE_COLUMNS`)."""
    rows = table.assign(image=images(table), identical=duplicated(table).map({True: "yes", False: ""}))
    rows = rows[rows["image"].duplicated(keep=False)].sort_values(["image", "path"])
    numbers = pd.factorize(rows["image"])[0] + 1
    told = rows[list(labels)].agg(";".join, axis=1) if len(labels) and len(rows) else pd.Series("", index=rows.index)
    dropped = rows["warnings"].map(lambda codes: "yes" if "duplicate_dropped" in codes.split(";") else "")
    scan = [rows[column] for column in ("scan_id", "patient_id", "path")]
    columns = [numbers, *scan, told, rows["split"], rows["fold"], dropped, rows["identical"]]
    return pd.DataFrame(dict(zip(DUPLICATE_COLUMNS, columns, strict=True)))
