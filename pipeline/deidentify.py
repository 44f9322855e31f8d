"""Copy DICOM images without their patients: `python -m pipeline.deidentify SCANS OUT`."""

import hashlib
import os
import secrets
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import pandas as pd
import tyro

from pipeline.console import DONE, WITH_REJECTIONS, WRONG_USE, count, guarded, progress, stderr, stdout
from pipeline.domain import ScanError, UsageError
from pipeline.files import check_apart, check_writable, sha256_of, write_bytes, write_table, writing

if TYPE_CHECKING:
    from pipeline.scans.deidentify import Key

DEMO = "python -m pipeline.deidentify data/demo/scans deidentified"
REPORT = "deidentified.csv"
KEY = Path("~/.scanline/deidentify.key")


@dataclass(frozen=True)
class Options:
    """Copy every DICOM image in a folder without its patient: headers by the basic profile of DICOM PS3.15.

    Names, numbers and free text go; UIDs, patients and dates get pseudonyms that agree among all files and runs with
    the same key. Pixels are copied as they are: pictures that may have text burned in are held back. Look at some of
    the files before you give them away: no program can promise that nothing is left. Exit code 3: something was held
    back or refused.
    """

    scans: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SCANS")]
    """A folder of DICOM files, searched to its full depth, or a file. Never altered."""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """Folder for the copies and deidentified.csv, which names no patient and no input file."""
    key: Path = KEY
    """File with the secret that makes pseudonyms; made if it is not there. Whoever has it can link copies to patients:
    keep it, and give it to nobody."""
    keep_characteristics: tyro.conf.FlagCreatePairsOff[bool] = False
    """Keep sex, age (90 and above as 90), size and weight; standardized uptake values need the weight."""
    allow_burned_in: tyro.conf.FlagCreatePairsOff[bool] = False
    """Copy pictures that may have text burned in, too."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command's exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments:
        stderr.print(f"deidentify needs scans and a folder for the copies, for example:\n  {DEMO}", markup=False)
        return WRONG_USE
    options = tyro.cli(Options, args=arguments, prog="python -m pipeline.deidentify")
    return guarded(lambda: _run(options))


def _run(options: Options) -> int:
    from pipeline.scans.archives import is_archive
    from pipeline.scans.folders import files_below

    check_apart(options.out, {"SCANS": options.scans})
    check_writable(options.out, "OUT")
    key = read_key(options.key.expanduser(), {"SCANS": options.scans, "OUT": options.out})
    rows, written = [], dict[Path, bytes]()
    files = [path for path, note in files_below(options.scans) if not note]
    with progress("De-identifying") as report:
        for done, path in enumerate(files, 1):
            rows.append(_archive_row(path) if is_archive(path) else _row(path, key, options, written))
            report(done, len(files))
    table = pd.DataFrame(rows, columns=["file", "input_sha256", "status", "detail", "modality", *_COUNTS])
    table[list(_COUNTS)] = table[list(_COUNTS)].astype("Int64")  # whole numbers, empty for what was refused
    write_table(options.out / REPORT, table.sort_values(["status", "file", "input_sha256"]))
    statuses = Counter(table["status"])
    stdout.print(
        f"{count(len(files), 'file')}: {', '.join(f'{n} {status}' for status, n in statuses.items())}", markup=False
    )
    for why, n in Counter(table["detail"][table["status"] == "rejected"]).most_common():
        stdout.print(f"  rejected {n}: {why}", markup=False)
    stdout.print(f"written: {options.out / REPORT} and the copies beside it; the key is in {options.key}", markup=False)
    stdout.print("pixels are copied unchanged; look at the copies before you give them away", markup=False)
    return DONE if statuses["ok"] and statuses["ok"] == len(files) else WITH_REJECTIONS


_COUNTS = ("removed", "emptied", "replaced", "uids", "dates", "words")


def _row(path: Path, key: "Key", options: Options, written: dict[Path, bytes]) -> dict[str, object]:
    """Write the copy of one file; what becomes of it. The input goes by its hash: its name may be a patient's.

    Args:
        written: Copies of this run -> SHA-256; two files may bear one SOPInstanceUID and differ.
    """
    from pipeline.scans.boundary import refusing
    from pipeline.scans.deidentify import deidentified

    row: dict[str, object] = {}
    try:
        with refusing():
            row["input_sha256"] = sha256_of(path)
        cleaned = deidentified(path, key, options.keep_characteristics)
    except ScanError as error:
        return row | {"status": "rejected", "detail": f"{error.reason}: {error.detail}"}
    row |= {"modality": cleaned.modality, "detail": cleaned.burned_in, **cleaned.counts}
    if cleaned.burned_in and not options.allow_burned_in:
        return row | {"status": "held_back"}
    digest = hashlib.sha256(cleaned.encoded).digest()
    if written.setdefault(cleaned.name, digest) != digest:
        return row | {"status": "rejected", "detail": "another file with the same SOPInstanceUID differs from this one"}
    write_bytes(options.out / cleaned.name, cleaned.encoded)
    return row | {"status": "ok", "file": cleaned.name.as_posix()}


def _archive_row(path: Path) -> dict[str, object]:
    return {"input_sha256": sha256_of(path), "status": "rejected", "detail": "bad_archive: an archive; unpack it first"}


def read_key(path: Path, elsewhere: dict[str, Path]) -> "Key":
    """The key in a file, which is made (mode 0600) if it is not there.

    Args:
        path: The file.
        elsewhere: Folders that it may not lie in, by the names that the help gives them: they are given away.

    Raises:
        UsageError: If it lies there, can't be made, is open to others, or is no key.
    """
    from pipeline.scans.deidentify import Key

    for name, folder in elsewhere.items():
        if path.resolve().is_relative_to(folder.resolve()):
            raise UsageError(f"--key {path} lies in {name}, and would be given away with it; choose another place")
    with writing(f"--key {path}: can't be made"):
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_hex(32) + "\n")
    if path.stat().st_mode & 0o077:
        raise UsageError(f"--key {path} can be read by others; run: chmod 600 {path}")
    try:
        secret = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except ValueError:
        secret = b""
    if len(secret) < 32:
        raise UsageError(f"--key {path} holds no key (64 hex digits); name another file, and it will be made")
    return Key(secret)


if __name__ == "__main__":
    sys.exit(main())
