"""Scans in .zip archives: listed under limits, unpacked one scan at a time, for as long as it is read."""

import os
import re
import shutil
import stat
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path, PurePosixPath

from pipeline.domain import Reason, ScanError
from pipeline.scans.boundary import check_inflation, refusing
from pipeline.scans.folders import is_hidden
from pipeline.scans.temporary import own_folder

MAX_MEMBERS = 200_000
"""Files in one archive."""
MAX_DIRECTORY = 24 * 2**20
"""Bytes of an archive's list of members, which has to be held in memory."""
MAX_BYTES = 256 * 2**30
"""Bytes of all members of an archive; `boundary.check_inflation` holds for each of them and for all together."""

PAIRS = re.compile(r"\.(hdr|img)(\.gz)?$", re.IGNORECASE)
"""A NIfTI pair is read together."""

TRICKS = re.compile(r"^/|^[A-Za-z]:|\\|\0|(^|/)\.{1,2}(/|$)|//")
"""Names that lead out of a folder, or that two systems understand in two ways."""

END, END_64, LOCATOR_64 = b"PK\5\6", b"PK\6\6", b"PK\6\7"
"""Signatures of the records at the end of an archive (APPNOTE 4.3.14 to 4.3.16)."""


def is_archive(path: Path) -> bool:
    """Whether a file calls itself a .zip."""
    return path.suffix.lower() == ".zip"


def archive_of(path: Path) -> Path | None:
    """The archive in which a file lies, None for a file of its own."""
    if ".zip/" not in os.fspath(path).lower():
        return None
    return next((above for above in reversed(path.parents) if is_archive(above) and above.is_file()), None)


def members_of(archive: Path) -> Iterator[tuple[Path, str]]:
    """(path as if the archive were a folder, "") for each member, or why it is passed over, in order of their names.

    Raises:
        ScanError: bad_archive, too_large, io_error: nothing of the archive can be trusted.
    """
    for info in _checked(archive):
        name = PurePosixPath(info.filename)
        yield archive / name, "hidden" if any(map(is_hidden, name.parts)) else ""


def stamped(path: Path) -> Path:
    """The file whose size and date change when the file at `path` does: itself, or the archive around it."""
    return archive_of(path) or path


@contextmanager
def within_reach(paths: Sequence[Path]) -> Iterator[tuple[Path, ...]]:
    """The same files where they can be opened: in place, or unpacked into a folder that is removed in the end.

    Raises:
        ScanError: If a member is damaged or too large.
    """
    homes = [archive_of(path) for path in paths]
    archives = sorted({home for home in homes if home})
    if not archives:
        yield tuple(paths)
        return
    with own_folder() as folder:
        places = {archive: folder / str(number) for number, archive in enumerate(archives)}
        for archive, place in places.items():
            _unpack(archive, [path for path, home in zip(paths, homes, strict=True) if home == archive], place)
        yield tuple(
            places[home] / path.relative_to(home) if home else path for path, home in zip(paths, homes, strict=True)
        )


def _checked(archive: Path) -> list[zipfile.ZipInfo]:
    """The members of an archive that is harmless by its own words, sorted by name."""
    with refusing("the archive"):
        _check_directory(archive)
        members = [info for info in _opened(archive).infolist() if not info.is_dir()]
        members.sort(key=lambda info: info.filename)
        names = {info.filename for info in members}
        if len(members) > MAX_MEMBERS:
            raise ScanError(Reason.TOO_LARGE, f"the archive has {len(members)} members; accepted: {MAX_MEMBERS}")
        if len(names) < len(members) or any(str(above) in names for name in names for above in _above(name)):
            raise ScanError(Reason.BAD_ARCHIVE, "several members of the archive share one name")
        for info in members:
            _check_member(info)
        total = sum(info.file_size for info in members)
        check_inflation(archive.stat().st_size, total)
        if total > MAX_BYTES:
            raise ScanError(Reason.TOO_LARGE, f"the archive would unpack to {total} bytes; accepted: {MAX_BYTES}")
        return members


def _above(name: str) -> Sequence[PurePosixPath]:
    return PurePosixPath(name).parents


def _check_member(info: zipfile.ZipInfo) -> None:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if TRICKS.search(info.orig_filename):
        raise ScanError(Reason.BAD_ARCHIVE, "a member's name leads out of the archive, or is no plain relative path")
    if kind not in (0, stat.S_IFREG):
        raise ScanError(Reason.BAD_ARCHIVE, "a member is a link or a device")
    if info.flag_bits & 1:
        raise ScanError(Reason.BAD_ARCHIVE, "the archive is encrypted; unpack it first")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ScanError(
            Reason.BAD_ARCHIVE, f"compression method {info.compress_type} is not supported; unpack it first"
        )
    check_inflation(info.compress_size, info.file_size)


def _check_directory(archive: Path) -> None:
    """Refuse a list of members that is too long, before anything of it is held."""
    with archive.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 2**16 - 22))
        tail = file.read()
        at = tail.rfind(END)
        if at < 0 or len(tail) < at + 22:
            raise ScanError(Reason.BAD_ARCHIVE, "the file is no zip archive, or ends early")
        count, length = int.from_bytes(tail[at + 10 : at + 12], "little"), _number(tail[at + 12 : at + 16])
        if at >= 20 and tail[at - 20 : at - 16] == LOCATOR_64:
            file.seek(min(_number(tail[at - 12 : at - 4]), size))
            record = file.read(56)
            if record[:4] != END_64:
                raise ScanError(Reason.BAD_ARCHIVE, "the archive's end record is damaged")
            count, length = _number(record[32:40]), _number(record[40:48])
    if count > MAX_MEMBERS or length > MAX_DIRECTORY:
        raise ScanError(Reason.TOO_LARGE, f"the archive has {count} members; accepted: {MAX_MEMBERS}")


def _number(value: bytes) -> int:
    return int.from_bytes(value, "little")


def _opened(archive: Path) -> zipfile.ZipFile:
    status = archive.stat()
    return _open(archive, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4)
def _open(archive: Path, size: int, mtime_ns: int) -> zipfile.ZipFile:  # noqa: ARG001 - a changed file is opened anew
    try:
        return zipfile.ZipFile(archive)
    except (zipfile.BadZipFile, NotImplementedError):  # the latter for a member of a zip version yet to come
        raise ScanError(Reason.BAD_ARCHIVE, "the file is no zip archive, or is damaged") from None


def _unpack(archive: Path, paths: Sequence[Path], folder: Path) -> None:
    """Write members below `folder`, and the other halves of NIfTI pairs."""
    opened = _opened(archive)
    names = {path.relative_to(archive).as_posix() for path in paths}
    stems = {PAIRS.sub("", name) for name in names if PAIRS.search(name)}
    if stems:
        names |= {name for name in opened.namelist() if PAIRS.search(name) and PAIRS.sub("", name) in stems}
    for name in names:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with opened.open(name) as source, target.open("xb") as file:
                shutil.copyfileobj(source, file, 2**20)  # zipfile reads no more than the size it was checked by
        except zipfile.BadZipFile:
            raise ScanError(Reason.CHECKSUM, "the archive's member is damaged: its checksum doesn't match") from None
