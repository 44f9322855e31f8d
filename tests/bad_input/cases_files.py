"""Class A: no scans, and what a file system can hold."""

import os
import random
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from unittest.mock import patch

import numpy as np
from PIL import Image

from tests.bad_input.case import OK, Truth, case, reject, skip
from tests.bad_input.phantoms import CANARY, content, ct, lone, nii, written


def png() -> bytes:
    file = BytesIO()
    Image.fromarray(np.arange(120, dtype=np.uint8).reshape(10, 12)).save(file, "PNG")
    return file.getvalue()


def junk(folder: Path) -> None:
    for name in ("readme.txt", ".DS_Store", "Thumbs.db", "DICOMDIR", "scan.zip.part"):
        (folder / name).write_bytes(f"{CANARY} is no scan".encode())


@contextmanager
def mode_obeyed(folder: Path) -> Iterator[None]:
    """Files of mode 000 can't be opened, not even by root."""
    opened = Path.open

    def open_obediently(path: Path, *more: object, **named: object) -> object:
        if path.exists() and not stat.S_IMODE(path.stat().st_mode):
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *more, **named)  # type: ignore[arg-type]

    with patch.object(Path, "open", open_obediently):
        yield


def unreadable(folder: Path) -> None:
    lone(folder)
    (folder / "a.dcm").chmod(0)


def loops(folder: Path) -> None:
    (folder / "a.dcm").symlink_to(folder / "b.dcm")
    (folder / "b.dcm").symlink_to(folder / "a.dcm")
    (folder / "again").symlink_to(folder)


def links_out(folder: Path) -> None:
    outside = folder.parents[1] / f"outside-{folder.parent.name}"
    outside.mkdir()
    lone(outside)
    (folder / "a.dcm").symlink_to(outside / "a.dcm")
    (folder / "folder").symlink_to(outside)


def special_files(folder: Path) -> None:
    os.mkfifo(folder / "fifo.dcm")
    with suppress(PermissionError):  # only root makes device nodes
        os.mknod(folder / "device.dcm", stat.S_IFCHR | 0o600, os.makedev(1, 5))
    descriptor = os.open(folder, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as bound:  # by descriptor: a socket's path may have 107 characters
        bound.bind(f"/proc/self/fd/{descriptor}/socket.dcm")
    os.close(descriptor)


def deep(folder: Path) -> Truth:
    while len(str(folder)) < 3900:
        folder /= "d" * min(200, 3999 - len(str(folder)))
    folder.mkdir(parents=True)
    return nii(folder)


def named(name: str | bytes):
    return lambda folder: nii(folder, os.fsdecode(name))


def remove_first(folder: Path) -> None:
    sorted(folder.iterdir())[0].unlink()


def cut_first(folder: Path) -> None:
    path = sorted(folder.iterdir())[0]
    os.truncate(path, path.stat().st_size - 40)


NOISE = random.Random(1).randbytes(2048)

CASES = (
    case(
        "A1", "an empty file, named .dcm, .nii, .png", reject("not_an_image"),
        content("a.dcm", b""), content("a.nii", b""), content("a.png", b""),
    ),
    case("A2", "2 kB of noise named .dcm", reject("not_an_image"), content("a.dcm", NOISE)),
    case("A3", "text named .nii", reject("not_an_image"), content("a.nii", f"{CANARY} ".encode() * 99)),
    case("A4", "a PNG picture named .nii.gz", reject("not_an_image"), content("a.nii.gz", png())),
    case("A5", "a plain NIfTI named .nii.gz", OK, lambda folder: nii_as(folder, "a.nii", "b.nii.gz")),
    case("A6", "a gzipped NIfTI named .nii", OK, lambda folder: nii_as(folder, "a.nii.gz", "b.nii")),
    case("A7", "an empty folder", reject("no_scans"), lambda folder: None),
    case("A8", "readme, .DS_Store, Thumbs.db, a DICOMDIR of junk", skip(""), junk),
    case("A9", "a file of mode 000", reject("io_error"), unreadable, around=mode_obeyed),
    case("A10", "links in a circle, a link to its own folder", skip("link"), loops),
    case("A11", "links out of the folder, to a file and to a folder", skip("link out of the folder"), links_out),
    case("A12", "a FIFO, a device, a socket named .dcm", skip("no regular file"), special_files),
    case(
        "A13", "a path of 4,000 characters; a line break, an emoji, bytes that are no UTF-8 in the name", OK,
        deep, named("new\nline.nii"), named("🫁.nii"), named(b"latin-\xe9.nii"),
    ),
    case(
        "A14", "a file removed after it was found: DICOM, a slice of a series, NIfTI", reject("io_error"),
        lone, ct, nii, between=remove_first,
    ),
    case(
        "A14", "a file cut after it was found: DICOM, a slice of a series, NIfTI", reject("truncated"),
        lone, ct, nii, between=cut_first,
    ),
    case(
        "A14", "a file still being written when it is found: DICOM, NIfTI", reject("truncated"),
        written(lone, edit=lambda raw: raw[:-80]), written(nii, "a.nii", lambda raw: raw[:-80]),
    ),
)  # fmt: skip


def nii_as(folder: Path, name: str, other: str) -> Truth:
    truth = nii(folder, name)
    (folder / name).rename(folder / other)
    return truth
