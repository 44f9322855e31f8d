"""Writing files whole or not at all, and their hashes. Knows nothing of scans."""

import csv
import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from pipeline.domain import UsageError

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\0")
"""First characters that make a spreadsheet run a cell as a formula (CWE-1236)."""

UNWRITABLE = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ENOENT,
     errno.ELOOP, errno.ENAMETOOLONG}
)  # fmt: skip
"""Errors of a place that can't be written to."""


@contextmanager
def writing(what: str) -> Iterator[None]:
    """Say what can't be written, and why, where the system does not allow it.

    Args:
        what: Begins the message, for example "--out scores: can't be made or written to".

    Raises:
        UsageError: In place of the system's error. A full disk, or a broken one, passes.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        raise UsageError(f"{what} ({error.strerror}); choose a place that you may write to") from None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary file beside `path`; on success it is fsynced and renamed onto `path`, else removed.

    A reader sees the old file or the new one, never a half; a full disk leaves the old one as it was.

    Raises:
        UsageError: If the folder can't be written to.
    """
    told = f"{path.parent}: {path.name} can't be written there"
    with writing(told):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o644)
        with writing(told):
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(out: Path, name: str = "--out") -> None:
    """Refuse a folder that can't be made, or written to; nothing is left there.

    Args:
        out: The folder, there or not.
        name: What the help calls it.

    Raises:
        UsageError: If nothing can be written there.
    """
    with writing(f"{name} {out}: can't be made or written to"):
        there = out.absolute()
        while not (there.exists() or there.is_symlink()):
            there = there.parent
        with tempfile.TemporaryFile(dir=there):
            pass


def make_folder(out: Path, name: str = "--out") -> None:
    """Make a folder that is to be written to, and those above it, where they are not there.

    Raises:
        UsageError: As `check_writable`.
    """
    check_writable(out, name)
    with writing(f"{name} {out}: can't be made or written to"):
        out.mkdir(parents=True, exist_ok=True)


def check_apart(out: Path, inputs: Mapping[str, Path]) -> None:
    """Refuse to write into what is read.

    Args:
        inputs: What a command reads, by the name that its help gives it.

    Raises:
        UsageError: If `out` is one of them or lies in one.
    """
    for name, folder in inputs.items():
        if out.resolve().is_relative_to(folder.resolve()):
            raise UsageError(f"--out {out} lies in {name} ({folder}), which is never written to; choose another folder")


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: Path, content: bytes | memoryview) -> None:
    """Write bytes, atomically; a full disk is an OSError, whatever library made the bytes."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, value: object) -> None:
    """Write JSON (no NaN), atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=str) + "\n")


def read_json(path: Path) -> dict[str, object]:
    """The object in a JSON file.

    Raises:
        ValueError: If it holds no JSON object.
    """
    value = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        raise ValueError(f"{path.name}: expected a JSON object, found {type(value).__name__}")
    return value


def write_table(path: Path, table: pd.DataFrame, float_format: str | None = None) -> None:
    """Write a table as CSV (UTF-8, RFC 4180), atomically; text that a spreadsheet would run gets a leading quote."""
    safe, lone = table.copy(), False
    for column in safe.columns:
        if not pd.api.types.is_numeric_dtype(safe[column]):
            safe[column] = safe[column].map(lambda cell: plain_cell(cell) if isinstance(cell, str) else cell)
            lone = lone or any("\r" in cell for cell in safe[column] if isinstance(cell, str))
    with replacing(path) as temporary:
        safe.to_csv(
            temporary, index=False, float_format=float_format, lineterminator="\n", errors="backslashreplace",
            quoting=csv.QUOTE_ALL if lone else csv.QUOTE_MINIMAL,  # a bare CR ends a line for readers
        )  # fmt: skip


def read_table(path: Path) -> pd.DataFrame:
    """A table that `write_table` wrote: every cell as text, "" where empty, leading quotes of `plain_cell` undone.

    Raises:
        ValueError: If it is no CSV in UTF-8.
    """
    table = pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False, encoding="utf-8")
    return table.map(original_cell)


def plain_cell(text: str) -> str:
    """The text with a leading quote where a spreadsheet would take it for a formula; numbers stay as they are."""
    if not text.startswith(FORMULA_STARTS):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def original_cell(text: str) -> str:
    """What `plain_cell` was given."""
    return text[1:] if text.startswith("'") and text[1:].startswith(FORMULA_STARTS) else text


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_sums(folder: Path) -> None:
    """Write SHA256SUMS over every other file below `folder` (format of sha256sum)."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "SHA256SUMS" and p.suffix != ".part")
    lines = [f"{sha256_of(p)}  {p.relative_to(folder).as_posix()}" for p in files]
    write_text(folder / "SHA256SUMS", "\n".join(lines) + "\n")
