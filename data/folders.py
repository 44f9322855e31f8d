"""Folders that a command writes whole: a stamp tells what they hold, a half-written one is never seen."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pipeline.files import read_json, write_json

STAMP = "made.json"
"""Settings that a folder was made with, and the number of its files."""


def problem_with(folder: Path) -> str:
    """Why a folder can't be written, or nothing: only a new, an empty or one of our own folders can."""
    if folder.exists() and not folder.is_dir():
        return f"out: expected a folder, {folder} is a file"
    if folder.is_dir() and any(folder.iterdir()) and not (folder / STAMP).is_file():
        return f"out: {folder} holds other files; give an empty or a new folder"
    return ""


def is_current(folder: Path, settings: Mapping[str, object]) -> bool:
    """Whether the folder was written whole, with these settings."""
    try:
        found = read_json(folder / STAMP)
    except (OSError, ValueError):
        return False
    return found == {**settings, "files": _count_files(folder)}


@contextmanager
def rewriting(folder: Path, content: tuple[str, ...], settings: Mapping[str, object]) -> Iterator[Path]:
    """Yield an empty folder beside `folder`; on success its `content` takes the place of the old one.

    Args:
        folder: Where the content is to lie.
        content: Names of the files and folders that are ours.
        settings: What `is_current` is asked about later.
    """
    staging = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        yield staging
        stamp = {**settings, "files": _count_files(staging)}
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / STAMP, {})  # ours, but out of date until the last step
        for name in content:
            _move(staging / name, folder / name)
        write_json(folder / STAMP, stamp)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _move(source: Path, target: Path) -> None:
    if target.is_dir():
        shutil.rmtree(target)
    if source.exists():
        source.replace(target)


def _count_files(folder: Path) -> int:
    """Files at any depth, the stamp not counted."""
    return sum(name != STAMP for _, _, files in os.walk(folder) for name in files)
