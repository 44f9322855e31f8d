"""Files that readers have uploaded: kept in memory, on disk only while they are read, under names of our own."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol
from weakref import WeakSet

from pipeline.console import count
from pipeline.domain import ReadRules, Reason, Scan, ScanError
from pipeline.scans.find import Survey, survey
from pipeline.scans.temporary import own_folder

MAX_FILE_MB = 500
"""One file of an upload; Streamlit's server refuses larger ones by itself."""
MAX_UPLOAD_MB = 1000
"""All files of one upload."""
MAX_FILES = 5000
"""Files of one upload."""
ZIP = b"PK\3\4"
PAIR = (".hdr", ".img")
"""The only endings that are kept: the two files of a NIfTI pair find each other by name."""


class File(Protocol):
    """An uploaded file, as Streamlit holds it in memory."""

    name: str
    size: int

    def getvalue(self) -> bytes:
        """The content."""


@dataclass(eq=False)
class Upload:
    """What a reader has uploaded at once.

    Attributes:
        files: Name on disk (ours, never the reader's) -> file.
        found: What they hold, paths relative to the folder that they are written to.
    """

    files: dict[str, File] = field(repr=False)
    found: Survey

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files.values())


held: WeakSet[Upload] = WeakSet()
"""The uploads that some browser tab holds: their bytes count towards what all tabs together may upload."""


def receive(files: Sequence[File], rules: ReadRules) -> Upload:
    """What the files hold. They lie on disk only while their headers are read, where no other user can enter.

    Args:
        files: As uploaded.
        rules: Which scans are chosen.

    Raises:
        ScanError: If they are too many or too large.
    """
    total = sum(file.size for file in files)
    if len(files) > MAX_FILES or total > MAX_UPLOAD_MB * 2**20:
        raise ScanError(
            Reason.TOO_LARGE, f"the upload has {count(len(files), 'file')} and {total / 2**20:.0f} MB; accepted: "
            f"{MAX_FILES} files and {MAX_UPLOAD_MB} MB. Start the viewer with --scans on the folder instead",
        )  # fmt: skip
    named = _named(files)
    with own_folder() as folder:
        write(named, named, folder)
        found = survey(folder, rules=rules)
    upload = Upload(named, _moved(found, folder))
    held.add(upload)
    return upload


def key_of(upload: Upload, scan: Scan) -> str:
    """Opaque, and the same whenever the same files are uploaded: opinions find their scan again."""
    digest = hashlib.sha256(scan.group.encode())
    files = (upload.files[name] for name in {path.parts[0] for path in scan.paths})
    for content in sorted(hashlib.sha256(file.getvalue()).digest() for file in files):
        digest.update(content)
    digest.update(
        "\n".join(path.as_posix().partition("/")[2] for path in scan.paths).encode("utf-8", "surrogateescape")
    )
    return f"upload-{digest.hexdigest()[:16]}"


def _named(files: Sequence[File]) -> dict[str, File]:
    """Our own names for the files: numbers, and the ending of a .zip or of a NIfTI pair."""
    stems: dict[str, int] = {}
    named: dict[str, File] = {}
    for file in files:
        stem, ending = file.name, file.name[-4:].lower()
        if ending in PAIR:
            stem = file.name[:-4]
        number = stems.setdefault(stem, len(stems))
        if ending not in PAIR:
            ending = ".zip" if file.getvalue()[:4] == ZIP else ""
        name = f"{number:05d}{ending}"
        named[name if name not in named else f"{len(named):05d}-again{ending}"] = file
    return named


def write(files: dict[str, File], names: Iterable[str], folder: Path) -> None:
    """Write the files of these names into a folder."""
    wanted = set(names)
    for name, file in files.items():
        if name in wanted:
            (folder / name).write_bytes(file.getvalue())


def _moved(found: Survey, folder: Path) -> Survey:
    """The same survey with paths relative to the folder, which is gone by now."""

    def moved(scan: Scan) -> Scan:
        aliases = tuple(path.relative_to(folder) for path in scan.aliases)
        paths = tuple(path.relative_to(folder) for path in scan.paths)
        return replace(scan, path=scan.path.relative_to(folder), paths=paths, aliases=aliases)

    return replace(
        found, root=Path(), scans=[moved(scan) for scan in found.scans], skipped=[],
        rejections=[replace(one, path=one.path.relative_to(folder), files=()) for one in found.rejections],
        not_selected=[replace(one, scan=moved(one.scan)) for one in found.not_selected],
    )  # fmt: skip


def room_for(size: int, stored: int, coming: int, most: int) -> bool:
    """Whether another upload of this size fits into what all browser tabs together may hold, in bytes.

    Args:
        size: Of the upload that asks.
        stored: What Streamlit holds for its upload controls.
        coming: Uploads that are under way.
        most: What all together may hold.
    """
    kept = sum(upload.size for upload in held)
    return max(stored, kept) + coming + size <= most
