"""What a survey found, grouped and counted, in one sentence."""

from collections import Counter

from pipeline.console import count
from pipeline.domain import Scan
from pipeline.scans.find import Survey
from pipeline.scans.instances import RADIOGRAPHS, SINGLE_MODALITIES


def summary_of(found: Survey) -> str:
    """For example "1,204 CT series, 12 radiographs; refused: 3 missing_slices; 57 files are no scans"."""
    parts = [", ".join(_kinds(found.scans)) or "no scans"]
    for word, ones in (("refused", found.rejections), ("not selected", found.not_selected)):
        reasons = Counter(one.reason.value for one in ones)
        if reasons:
            parts.append(f"{word}: " + ", ".join(f"{n:,} {reason}" for reason, n in _by_size(reasons)))
    if found.skipped:
        n = len(found.skipped)
        parts.append(f"{count(n, 'file')} {'is no scan' if n == 1 else 'are no scans'}")
    return "; ".join(parts)


def _kinds(scans: list[Scan]) -> list[str]:
    """What there is and how often, for example "3 MR series (5 volumes)"; the most frequent first."""
    volumes = Counter(map(_kind, scans))
    whole = Counter(kind for kind, _ in {(_kind(scan), _unit(scan)) for scan in scans})
    return [_counted(n, kind, volumes[kind]) for kind, n in _by_size(whole)]


def _counted(n: int, kind: str, volumes: int) -> str:
    return count(n, kind) + (f" ({volumes:,} volumes)" if volumes > n else "")


def _kind(scan: Scan) -> str:
    if scan.kind == "nifti":
        return "NIfTI file"
    if scan.kind == "image":
        return "picture"
    if scan.modality in RADIOGRAPHS:
        return "radiograph"
    return f"{scan.modality[:16] or 'DICOM'} {'image' if scan.modality in SINGLE_MODALITIES else 'series'}"


def _unit(scan: Scan) -> str:
    """What is counted once: a series of slices, or else a file."""
    return scan.series_uid if _kind(scan).endswith("series") and scan.series_uid else str(scan.path)


def _by_size(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
