"""What may stand beside a scan: the other views of its study, and the patient's earlier studies."""

from collections.abc import Iterable

from pipeline.domain import Scan
from pipeline.scans.instances import RADIOGRAPHS

VIEWED = RADIOGRAPHS | {"RF", "XA"}
"""Modalities whose studies hold several views of the same thing."""


def other_views(scans: Iterable[Scan], scan: Scan) -> list[Scan]:
    """The other radiographs of the scan's study; the same view of the other side first, for the two are compared."""
    if not scan.study_uid or scan.modality not in VIEWED:
        return []
    others = [one for one in scans if one.study_uid == scan.study_uid and one.scan_id != scan.scan_id]
    return sorted(others, key=lambda one: not (one.view == scan.view and {one.side, scan.side} == {"L", "R"}))


def earlier_studies(scans: Iterable[Scan], scan: Scan) -> list[Scan]:
    """Scans of the same patient and modality from before, the newest first; none where the file names no patient."""
    if not scan.patient_id or not scan.acquired:
        return []
    before = [
        one for one in scans
        if one.patient_id == scan.patient_id and one.modality == scan.modality
        and one.study_uid != scan.study_uid and one.acquired and one.acquired < scan.acquired
    ]  # fmt: skip
    return sorted(before, key=lambda one: one.acquired, reverse=True)
