"""Whether a model folder is what was written: every file known, unchanged, and of a type that can't run code."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from pipeline.files import sha256_of, write_text
from pipeline.model.tensor_files import MAX_BYTES, ModelError

SAFE_SUFFIXES = (".json", ".safetensors", ".md", "")
"""File types a model folder may hold."""
LISTING = "SHA256SUMS"


def verify(folder: Path) -> dict[str, str]:
    """File -> SHA-256 of a model folder, all checked.

    Raises:
        ModelError: Naming the first file that is missing, changed, unlisted or of a type that could run code.
    """
    if folder.is_file():
        raise ModelError("unsafe_model", f"{folder.name} is a file, which is not opened: a model is a folder of "
                         "safetensors and JSON, the `model` folder that training wrote")  # fmt: skip
    if not folder.is_dir():
        raise ModelError("missing", f"{folder} is no folder; give the `model` folder that training wrote")
    if not (folder / LISTING).is_file() and (folder / "model" / LISTING).is_file():
        raise ModelError("manifest", f"{folder} is a run, its model is {folder / 'model'}: give that")
    here = {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*")) if p.is_file()}
    unsafe = sorted(p.name for p in here.values() if p.suffix not in SAFE_SUFFIXES)
    if unsafe:
        raise ModelError("unsafe_model", f"{unsafe[0]} is a type of file that may run code; only safetensors and JSON")
    if not (folder / LISTING).is_file():
        raise ModelError("manifest", f"{folder} has no SHA256SUMS; give the `model` folder that training wrote")
    large = [name for name, path in here.items() if path.stat().st_size > MAX_BYTES]
    if large:
        raise ModelError("too_large", f"{large[0]} has more than {MAX_BYTES >> 30} GiB")
    sums = listing(folder)
    if different := (set(here) - {LISTING}) ^ set(sums):
        raise ModelError("checksum", f"files and SHA256SUMS differ: {', '.join(sorted(different)[:3])}")
    for name, digest in sums.items():
        if sha256_of(folder / name) != digest:
            raise ModelError("checksum", f"{name} was changed after it was written (SHA-256 differs); copy it again")
    return sums


def identity(sums: Mapping[str, str]) -> str:
    """12 hex digits that change when weights or settings do, not when an evaluation is added."""
    own = {name: digest for name, digest in sums.items() if name == "model.json" or name.endswith(".safetensors")}
    return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()[:12]


def listing(folder: Path) -> dict[str, str]:
    """File -> SHA-256 as SHA256SUMS tells, unchecked.

    Raises:
        ModelError: If it is no such list.
    """
    text = (folder / LISTING).read_text(encoding="utf-8", errors="replace")
    lines = [line.split("  ", 1) for line in text.splitlines() if line.strip()]
    if any(len(line) != 2 or ".." in Path(line[1]).parts or Path(line[1]).is_absolute() for line in lines):
        raise ModelError("manifest", "SHA256SUMS is not a list of hashes and files of this folder")
    return {name: digest for digest, name in lines}


def add_report(folder: Path, name: str, report: Mapping[str, object]) -> None:
    """Write a JSON file that is no part of what predicts, and list it; the two renames follow at once.

    Raises:
        ModelError: If SHA256SUMS is no list.
    """
    text = json.dumps(report, indent=2, allow_nan=False) + "\n"
    sums = listing(folder) | {name: hashlib.sha256(text.encode()).hexdigest()}
    write_text(folder / name, text)
    write_text(folder / LISTING, "".join(f"{digest}  {path}\n" for path, digest in sorted(sums.items())))
