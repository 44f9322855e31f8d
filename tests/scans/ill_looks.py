"""Looking at files at its worst. Child processes import this: nothing heavy here."""

import ctypes
import tempfile
import time
from pathlib import Path

from pipeline.scans.archives import within_reach
from pipeline.scans.look import Seen


def look_or_fall_ill(path: Path, root: Path) -> Seen:
    """The file's name, except for files called after an ill."""
    if path.stem == "crash":
        ctypes.string_at(0)
    if path.stem == "hang":
        time.sleep(60)
    if path.stem == "fault":
        raise KeyError("DOE^JANE")
    return path.name


def unpack_and_hang(path: Path, temporary: str) -> str:
    """Never an answer, while a member of an archive lies unpacked in the temporary folder."""
    tempfile.tempdir = temporary
    with within_reach([path]):
        time.sleep(60)
    return path.name
