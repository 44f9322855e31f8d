"""Which scans the read rules accept, and which series of a study they choose. Headers only."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from pipeline.console import count
from pipeline.domain import ReadRules, Reason, Scan, ScanError

TOLERANCE_MM = 1e-3
"""Slice spacings come from positions that are written with few decimals."""


@dataclass(frozen=True, slots=True)
class Unchosen:
    """A scan that the read rules leave out because its study holds another that they choose."""

    scan: Scan
    reason: Reason
    detail: str


def check_accepted(scan: Scan, rules: ReadRules) -> None:
    """Refuse a scan that the rules exclude, before it is read.

    Raises:
        ScanError: modality, body_part, view, too_few_slices, slice_spacing, description.
    """
    if not scan.modality:
        if not rules.allow_unknown_modality:
            raise ScanError(Reason.MODALITY, "the scan names no modality; read.allow_unknown_modality is off")
    elif rules.modalities and scan.modality not in rules.modalities:
        raise ScanError(Reason.MODALITY, f"expected {' or '.join(rules.modalities)}, found {scan.modality[:16]}")
    if scan.body_part and rules.body_parts and scan.body_part not in map(str.upper, rules.body_parts):
        found = scan.body_part[:16]  # the length of DICOM's CS
        raise ScanError(Reason.BODY_PART, f"expected {' or '.join(rules.body_parts)}, found {found}")
    if scan.view and rules.views and scan.view not in map(str.upper, rules.views):
        raise ScanError(Reason.VIEW, f"expected {' or '.join(rules.views)}, found {scan.view[:16]}")
    if scan.n_slices:
        check_slices(scan.n_slices, rules)
    if rules.slice_spacing_mm is not None:
        _check_slice_spacing(scan.slice_spacing_mm, *rules.slice_spacing_mm)
    if scan.kind == "dicom" and not re.search(rules.description, scan.description, re.IGNORECASE):
        raise ScanError(Reason.DESCRIPTION, "SeriesDescription does not match read.description")


def _check_slice_spacing(found_mm: float | None, smallest_mm: float, largest_mm: float) -> None:
    expected = f"read.slice_spacing_mm asks for {smallest_mm:g} to {largest_mm:g} mm"
    if found_mm is None:
        raise ScanError(Reason.SLICE_SPACING, f"{expected}, and the scan has no slice spacing")
    if not smallest_mm - TOLERANCE_MM <= found_mm <= largest_mm + TOLERANCE_MM:
        raise ScanError(Reason.SLICE_SPACING, f"{expected}, found {found_mm:.4g} mm")


def check_slices(n: int, rules: ReadRules) -> None:
    """Refuse a volume of fewer slices than the rules ask for.

    Raises:
        ScanError: too_few_slices.
    """
    if n < rules.min_slices:
        found, wanted = count(n, "slice"), rules.min_slices
        raise ScanError(Reason.TOO_FEW_SLICES, f"{found}; read.min_slices asks for at least {wanted}")


def choose(scans: Sequence[Scan], rules: ReadRules) -> tuple[list[Scan], list[Unchosen]]:
    """The scans to read, and the others with the reason for each.

    A scan that the rules exclude is left out if its study holds one that they accept. A study of which they accept
    nothing stays whole: reading refuses each of its scans, so that no study goes missing in silence. A scan that
    names no study is a study of its own.
    """
    studies: dict[str, list[Scan]] = defaultdict(list)
    for scan in scans:
        studies[scan.study_uid or f"scan {scan.scan_id}"].append(scan)
    chosen: list[Scan] = []
    others: list[Unchosen] = []
    for study in studies.values():
        excluded: list[Unchosen] = []
        accepted: list[Scan] = []
        for scan in study:
            if one := _excluded(scan, rules):
                excluded.append(one)
            else:
                accepted.append(scan)
        if not accepted:
            chosen += study
            continue
        others += excluded
        if rules.select == "one":
            best, *rest = sorted(accepted, key=lambda scan: _rank(scan, rules))
            accepted = [best]
            others += [Unchosen(scan, Reason.NOT_PREFERRED, _preferred(best, scan)) for scan in rest]
        chosen += accepted
    return chosen, others


def _excluded(scan: Scan, rules: ReadRules) -> Unchosen | None:
    try:
        check_accepted(scan, rules)
    except ScanError as error:
        return Unchosen(scan, error.reason, error.detail)
    return None


def _rank(scan: Scan, rules: ReadRules) -> tuple[float, float, str]:
    """Small for a good scan; ties go to the smaller scan id, which is the same on every machine."""
    spacing = inf if scan.slice_spacing_mm is None else round(scan.slice_spacing_mm / TOLERANCE_MM)
    thinnest, most = float(spacing), -float(scan.n_slices)
    return (most, thinnest, scan.scan_id) if rules.prefer == "most_slices" else (thinnest, most, scan.scan_id)


def _preferred(best: Scan, scan: Scan) -> str:
    """Why `best` was chosen instead, in words."""
    return f"read.select is one: {best.scan_id} of the same study is preferred ({_extent(best)}; here {_extent(scan)})"


def _extent(scan: Scan) -> str:
    spacing = "" if scan.slice_spacing_mm is None else f", {scan.slice_spacing_mm:.4g} mm apart"
    return (count(scan.n_slices, "slice") if scan.n_slices else "an unknown number of slices") + spacing
