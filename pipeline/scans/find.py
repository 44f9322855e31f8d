"""A folder -> its Scans and Rejections; a Scan -> its Volume."""

import hashlib
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipeline.console import Report
from pipeline.domain import Identity, ReadRules, Reason, Rejection, Scan, ScanError, Volume
from pipeline.scans.archives import is_archive, members_of, within_reach
from pipeline.scans.boundary import refusing
from pipeline.scans.folders import UNLISTED, files_below, relative_path
from pipeline.scans.headers import IDENTITY, read_header
from pipeline.scans.imageless import LostSliceError
from pipeline.scans.instances import Instance
from pipeline.scans.kept import headers_kept
from pipeline.scans.look import LookAtAll, look_at_all
from pipeline.scans.select import Unchosen, check_accepted, choose
from pipeline.scans.series import Found, assemble
from pipeline.scans.shared import Pool

__all__ = ["Survey", "find_scans", "only_scan", "read_identity", "read_volume", "relative_path", "survey"]

ANISOTROPY = 10.0
"""Voxels that are more than so many times as long as wide give the warning `anisotropy`."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What a folder holds.

    Attributes:
        root: The folder, or the file.
        scans: What can be read, sorted by path; volumes at one path in their own order.
        rejections: What claims to be a scan and is refused, sorted by path, then scan_id.
        skipped: (file, why it is no scan), sorted.
        not_selected: Scans that the read rules leave out, with the reason, sorted like `scans`.
    """

    root: Path
    scans: list[Scan]
    rejections: list[Rejection]
    skipped: list[tuple[Path, str]]
    not_selected: list[Unchosen] = field(default_factory=list)


def survey(
    file_or_folder: Path,
    report: Report | None = None,
    rules: ReadRules = ReadRules(),  # noqa: B008 - frozen
    workers: int | None = None,
    look: LookAtAll = look_at_all,
) -> Survey:
    """Everything that a folder (or file) holds: scans, refused scans, and files that are no scans. Headers only.

    A .zip is taken like a folder; links that lead out of the folder are not followed. Preparing, training, scoring
    and the viewer all choose their scans here, by their rules.

    Args:
        file_or_folder: Where to look.
        report: Called with (files done, files in all).
        rules: What is left out where a study holds something better (`pipeline.scans.select.choose`).
        workers: Processes that read headers where there is much to read; by default one a processor, 0 for none.
        look: Tells what each file is; one that remembers makes a later survey of the same folder short.

    Raises:
        UsageError: If the path does not exist or can't be listed.
    """
    found, files = Found(), []
    for path, note in files_below(file_or_folder):
        if note == UNLISTED:
            detail = "the folder can't be listed, so that scans in it are missing here; grant access to it"
            found.rejections.append(Rejection(path, Reason.IO_ERROR, detail, files=(path,)))
        elif note:
            found.skipped.append((path, note))
        elif is_archive(path):
            files += _members(path, found)
        else:
            files.append(path)
    instances: list[Instance] = []
    lost: dict[str, ScanError] = {}
    pool = Pool()
    for done, (path, seen) in enumerate(look(files, file_or_folder, workers), 1):
        if isinstance(seen, Instance):
            instances.append(pool.share(seen))
        else:
            if isinstance(seen, LostSliceError):
                lost.setdefault(seen.series_uid, seen)
            _sort_in(path, seen, found)
        if report:
            report(done, len(files))
    series = assemble(instances, _fingerprint, lost)
    chosen, others = choose(found.scans + series.scans, rules)
    return Survey(
        file_or_folder,
        sorted(chosen, key=_by_path),
        sorted(found.rejections + series.rejections, key=lambda one: (os.fsencode(one.path), one.scan_id)),
        sorted(found.skipped + series.skipped, key=lambda one: os.fsencode(one[0])),
        sorted(others, key=lambda one: _by_path(one.scan)),
    )


def _by_path(scan: Scan) -> bytes:
    return os.fsencode(scan.path)  # and no more: volumes at one path stay in their own order


def _members(archive: Path, found: Found) -> list[Path]:
    """The files in an archive; why it, or one in it, is refused goes to `found`."""
    files = []
    try:
        for path, note in members_of(archive):
            if note:
                found.skipped.append((path, note))
            elif is_archive(path):
                detail = "an archive within an archive; unpack the outer one first"
                found.rejections.append(Rejection(path, Reason.BAD_ARCHIVE, detail, files=(path,)))
            else:
                files.append(path)
    except ScanError as error:
        found.rejections.append(Rejection(archive, error.reason, error.detail, files=(archive,)))
    return files


def _sort_in(path: Path, seen: tuple[Scan, ...] | ScanError | str, found: Found) -> None:
    if isinstance(seen, tuple):
        found.scans += seen
    elif isinstance(seen, ScanError):
        found.rejections.append(Rejection(path, seen.reason, seen.detail, files=(path,)))
    else:
        found.skipped.append((path, seen))


def find_scans(file_or_folder: str | Path) -> tuple[list[Scan], list[Rejection]]:
    """All scans in a folder (or file), whatever a model would choose, and what was refused; see `survey`."""
    found = survey(Path(file_or_folder))
    return found.scans, found.rejections


def read_volume(path_or_scan: str | Path | Scan, rules: ReadRules = ReadRules()) -> Volume:  # noqa: B008 - frozen
    """The Volume of a Scan, or of a path that holds exactly one.

    Args:
        path_or_scan: A Scan, a file, or a folder.
        rules: What is accepted, and what may be assumed.

    Raises:
        ScanError: If the scan is refused, or the path holds none or several.
        UsageError: If the path does not exist.
    """
    if isinstance(path_or_scan, Scan):
        return _read(path_or_scan, rules)
    with headers_kept():
        return _read(only_scan(path_or_scan), rules)


def _read(scan: Scan, rules: ReadRules) -> Volume:
    check_accepted(scan, rules)
    with refusing("the scan"), within_reach(scan.paths) as paths:
        scan = replace(scan, paths=paths)
        if scan.kind == "dicom":
            from pipeline.scans.dicom import read_dicom

            volume = read_dicom(scan, rules)
        elif scan.kind == "nifti":
            from pipeline.scans.nifti import read_nifti

            volume = read_nifti(scan, rules)
        else:
            from pipeline.scans.image import read_picture

            volume = read_picture(scan, rules)
    return volume.with_warnings(*scan.warnings, *_shape_warnings(volume))


def read_identity(scan: Scan) -> Identity:
    """Who a scan shows, for the reader's banner; empty for files that don't say.

    Raises:
        ScanError: If the file can't be read.
    """
    if scan.kind != "dicom":
        return Identity()
    with refusing("the scan"), within_reach(scan.paths[:1]) as (path,):
        header = read_header(path, extra=IDENTITY)
        return Identity(*(header.text(keyword) for keyword in IDENTITY))


def _shape_warnings(volume: Volume) -> tuple[str, ...]:
    uneven = min(volume.shape) > 1 and max(volume.spacing_mm) > ANISOTROPY * min(volume.spacing_mm)
    return ("anisotropy",) if uneven else ()


def only_scan(path: str | Path) -> Scan:
    """The one scan that a file or folder holds.

    Raises:
        ScanError: If there is none, or several.
        UsageError: If the path does not exist.
    """
    path = Path(path)
    found = survey(path)
    if len(found.scans) == 1:
        return found.scans[0]
    if found.scans:
        groups = ", ".join(scan.group or scan.modality or scan.kind for scan in found.scans[:5])
        raise ScanError(
            Reason.AMBIGUOUS_VOLUME, f"expected one volume, found {len(found.scans)} ({groups}); choose one"
        )
    if found.rejections:
        raise ScanError(found.rejections[0].reason, found.rejections[0].detail)
    if found.skipped and found.skipped[0][0] == path:
        reason = Reason.NON_IMAGE if "DICOM" in found.skipped[0][1] else Reason.NOT_AN_IMAGE
        raise ScanError(reason, f"the file is no scan: {found.skipped[0][1]}")
    raise ScanError(Reason.NO_SCANS, "no scan was found")


def _fingerprint(path: Path) -> str:
    """SHA-256 of a DICOM file's stored pixels, whatever their transfer syntax."""
    from pipeline.scans.frames import stored_frames
    from pipeline.scans.pixels import pixel_format

    with refusing(), within_reach([path]) as (real,):
        header = read_header(real)
        form = pixel_format(header, ReadRules().max_voxels)
        digest = hashlib.sha256(f"{form.rows} {form.columns} {form.dtype}".encode())
        for frame in stored_frames(header, form, range(form.frames)):
            digest.update(frame.tobytes())
        return digest.hexdigest()
