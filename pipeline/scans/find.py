"""A folder -> its Scans and Rejections; a Scan -> its Volume."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISDIR, S_ISREG

from pipeline.console import Report
from pipeline.domain import Identity, ReadRules, Reason, Rejection, Scan, ScanError, UsageError, Volume
from pipeline.scans.boundary import refusing
from pipeline.scans.headers import IDENTITY, read_header
from pipeline.scans.instances import Instance, NotAScan
from pipeline.scans.select import check_accepted
from pipeline.scans.series import Found, assemble, scan_id_of
from pipeline.scans.sniff import kind_of

ANISOTROPY = 10.0
"""Voxels that are more than so many times as long as wide give the warning `anisotropy`."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What a folder holds.

    Attributes:
        root: The folder, or the file.
        scans: What can be read, sorted by path, then scan_id.
        rejections: What claims to be a scan and is refused, sorted likewise.
        skipped: (file, why it is no scan), sorted.
    """

    root: Path
    scans: list[Scan]
    rejections: list[Rejection]
    skipped: list[tuple[Path, str]]


def survey(file_or_folder: Path, report: Report | None = None) -> Survey:
    """Everything that a folder (or file) holds: scans, refused scans, and files that are no scans. Headers only.

    Links that lead out of the folder are not followed.

    Args:
        file_or_folder: Where to look.
        report: Called with (files done, files in all).

    Raises:
        UsageError: If the path does not exist or can't be listed.
    """
    found, files = Found(), []
    for path, note in _walk(file_or_folder):
        if note:
            found.skipped.append((path, note))
        else:
            files.append(path)
    instances: list[Instance] = []
    for done, path in enumerate(files, 1):
        _look_at(path, file_or_folder, instances, found)
        if report:
            report(done, len(files))
    series = assemble(instances, _fingerprint)
    return Survey(
        file_or_folder,
        sorted(found.scans + series.scans, key=lambda scan: (os.fsencode(scan.path), scan.scan_id)),
        sorted(found.rejections + series.rejections, key=lambda one: (os.fsencode(one.path), one.scan_id)),
        sorted(found.skipped + series.skipped, key=lambda one: os.fsencode(one[0])),
    )


def find_scans(file_or_folder: str | Path) -> tuple[list[Scan], list[Rejection]]:
    """The scans in a folder (or file), and what was refused; see `survey`."""
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
    scan = path_or_scan if isinstance(path_or_scan, Scan) else _only_scan(Path(path_or_scan))
    check_accepted(scan, rules)
    with refusing("the scan"):
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
    with refusing("the scan"):
        header = read_header(scan.paths[0], extra=IDENTITY)
        return Identity(*(header.text(keyword) for keyword in IDENTITY))


def relative_path(path: Path, root: Path) -> str:
    """A path relative to SCANS, with "/", as in tables; a file that is SCANS itself goes by its name."""
    if path == root:
        return path.name if path.is_file() else "."
    return path.relative_to(root).as_posix()


def _shape_warnings(volume: Volume) -> tuple[str, ...]:
    uneven = min(volume.shape) > 1 and max(volume.spacing_mm) > ANISOTROPY * min(volume.spacing_mm)
    return ("anisotropy",) if uneven else ()


def _only_scan(path: Path) -> Scan:
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
    if path.is_file() and found.skipped:
        reason = Reason.NON_IMAGE if "DICOM" in found.skipped[0][1] else Reason.NOT_AN_IMAGE
        raise ScanError(reason, f"the file is no scan: {found.skipped[0][1]}")
    raise ScanError(Reason.NO_SCANS, "no scan was found")


def _walk(root: Path) -> Iterator[tuple[Path, str]]:
    """(file, "") for each regular file below `root` in order of names, (entry, why it is skipped) for all else.

    Raises:
        UsageError: If `root` itself does not exist or can't be listed.
    """
    try:
        mode = root.stat().st_mode
        entries = sorted(os.scandir(root), key=lambda entry: os.fsencode(entry.name)) if S_ISDIR(mode) else None
    except OSError as error:
        raise UsageError(
            f"{root}: can't be read ({type(error).__name__}); expected a scan or a folder of scans"
        ) from None
    if entries is None:
        yield root, "" if S_ISREG(mode) else "no regular file"
        return
    yield from _walk_entries(entries, root.resolve())


def _walk_entries(entries: list[os.DirEntry[str]], top: Path) -> Iterator[tuple[Path, str]]:
    for entry in entries:
        path = Path(entry.path)
        if entry.name.startswith(".") or entry.name in ("Thumbs.db", "desktop.ini", "__MACOSX"):
            yield path, "hidden"
        elif entry.is_symlink():
            yield path, _link_note(path, top)
        elif entry.is_dir(follow_symlinks=False):
            try:
                below = sorted(os.scandir(path), key=lambda one: os.fsencode(one.name))
            except OSError:
                yield path, "folder can't be listed"
                continue
            yield from _walk_entries(below, top)
        else:
            yield path, "" if entry.is_file(follow_symlinks=False) else "no regular file"


def _link_note(path: Path, top: Path) -> str:
    """Why a link is skipped; "" for one to a regular file within the folder."""
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError):
        return "broken link"
    if not target.is_relative_to(top):
        return "link out of the folder"
    return "" if target.is_file() else "link to a folder"


def _look_at(path: Path, root: Path, instances: list[Instance], found: Found) -> None:
    """Sort one file into instances, scans, rejections or skipped."""
    try:
        with refusing():
            kind = kind_of(path)
            if kind == "dicom":
                from pipeline.scans.dicom import read_instance

                instances.append(read_instance(path))
            elif kind == "nifti":
                found.scans += _nifti_scans(path, root)
            else:
                found.scans.append(_picture_scan(path, root))
    except NotAScan as note:
        found.skipped.append((path, str(note)))
    except ScanError as error:
        found.rejections.append(Rejection(path, error.reason, error.detail, files=(path,)))


def _nifti_scans(path: Path, root: Path) -> list[Scan]:
    from pipeline.scans.nifti import read_nifti_header, volume_names

    opened = read_nifti_header(path)
    name, size = relative_path(path, root), str(path.stat().st_size)
    paths = tuple(sorted({path, opened.voxels_in}))
    return [Scan(scan_id_of(name, size, group), path, paths, "nifti", group=group) for group in volume_names(opened)]


def _picture_scan(path: Path, root: Path) -> Scan:
    from pipeline.scans.image import check_picture

    check_picture(path)
    return Scan(scan_id_of(relative_path(path, root), str(path.stat().st_size)), path, (path,), "image")


def _fingerprint(path: Path) -> str:
    """SHA-256 of a DICOM file's stored pixels, whatever their transfer syntax."""
    from pipeline.scans.frames import stored_frames
    from pipeline.scans.pixels import pixel_format

    with refusing():
        header = read_header(path)
        form = pixel_format(header, ReadRules().max_voxels)
        digest = hashlib.sha256(f"{form.rows} {form.columns} {form.dtype}".encode())
        for frame in stored_frames(header, form, range(form.frames)):
            digest.update(frame.tobytes())
        return digest.hexdigest()
