"""The files below a folder, in order of their names, and what is passed over there."""

import os
from collections.abc import Iterator
from pathlib import Path
from stat import S_ISDIR, S_ISREG

from pipeline.domain import UsageError

HIDDEN = ("Thumbs.db", "desktop.ini", "__MACOSX")
"""What systems leave beside a user's files, besides names that begin with a dot."""

UNLISTED = "folder can't be listed"
"""Note of a folder below SCANS that the system does not open: it may hold scans."""


class UnlistedError(UsageError):
    """SCANS itself is not there, or can't be listed now."""


def files_below(root: Path) -> Iterator[tuple[Path, str]]:
    """(file, "") for each regular file below `root` in order of names, (entry, why it is skipped) for all else.

    Raises:
        UnlistedError: If `root` itself does not exist or can't be listed.
    """
    try:
        mode = root.stat().st_mode
        entries = sorted(os.scandir(root), key=lambda entry: os.fsencode(entry.name)) if S_ISDIR(mode) else None
    except OSError as error:
        raise UnlistedError(
            f"{root}: can't be read ({type(error).__name__}); expected a scan or a folder of scans"
        ) from None
    if entries is None:
        yield root, "" if S_ISREG(mode) else "no regular file"
        return
    yield from _walk_entries(entries, root.resolve())


def _walk_entries(entries: list[os.DirEntry[str]], top: Path) -> Iterator[tuple[Path, str]]:
    for entry in entries:
        path = Path(entry.path)
        if is_hidden(entry.name):
            yield path, "hidden"
        elif entry.is_symlink():
            yield path, _link_note(path, top)
        elif entry.is_dir(follow_symlinks=False):
            try:
                below = sorted(os.scandir(path), key=lambda one: os.fsencode(one.name))
            except OSError:
                yield path, UNLISTED
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


def is_hidden(name: str) -> bool:
    """Whether a file or folder is passed over for its name."""
    return name.startswith(".") or name in HIDDEN


def relative_path(path: Path, root: Path) -> str:
    """A path relative to SCANS, with "/", as in tables; a file that is SCANS itself goes by its name."""
    if path == root:
        return path.name if path.is_file() else "."
    return path.relative_to(root).as_posix()
