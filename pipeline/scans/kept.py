"""Headers that a search has read, kept for reading the scan that it finds: a folder's headers are read once."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from pipeline.scans.headers import Header, read_header

MOST = 2000
"""Headers that are kept at the most; each takes some 10 KiB."""

_KEPT: ContextVar[dict[Path, Header] | None] = ContextVar("kept", default=None)


@contextmanager
def headers_kept() -> Iterator[None]:
    """Keep the headers that `header_to_keep` reads meanwhile in this thread, until `kept_header` takes them."""
    token = _KEPT.set({})
    try:
        yield
    finally:
        _KEPT.reset(token)


def header_to_keep(path: Path) -> Header:
    """A file's header, read; see `headers.read_header`."""
    header, kept = read_header(path), _KEPT.get()
    if kept is not None and len(kept) < MOST:
        kept[path] = header
    return header


def kept_header(path: Path) -> Header:
    """A file's header, read where none is kept; see `headers.read_header`."""
    kept = _KEPT.get()
    return (kept.pop(path, None) if kept else None) or read_header(path)
