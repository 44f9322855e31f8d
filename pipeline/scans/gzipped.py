"""Gzip files, inflated piece by piece and checked to their end."""

import zlib
from collections.abc import Iterator
from pathlib import Path

from pipeline.domain import Reason, ScanError

GZIP = b"\x1f\x8b"

CHUNK = 2**20
"""Compressed bytes that are read at once."""

MAX_DRAINED = 64 * 2**20
"""Inflated bytes up to which a refused file is searched for damage."""


def is_gzip(path: Path) -> bool:
    """Whether the file is a gzip stream."""
    with path.open("rb") as file:
        return file.read(2) == GZIP


def inflated(path: Path, chunk: int = CHUNK, piece: int = 4 * CHUNK) -> Iterator[bytes]:
    """The content in pieces; several members count as one stream (RFC 1952 2.2), the checksum of each is verified.

    Raises:
        ScanError: truncated; checksum, for a damaged member; size_mismatch, for bytes behind that are no member.
    """
    engine = zlib.decompressobj(wbits=31)
    with path.open("rb") as file:
        raw = file.read(chunk)
        while raw:
            try:
                part = engine.decompress(raw, piece)
            except zlib.error:
                raise ScanError(Reason.CHECKSUM, "the gzip stream is damaged: its checksum doesn't match") from None
            if part:
                yield part
            if not engine.eof:
                raw = engine.unconsumed_tail or file.read(chunk)
                continue
            raw = engine.unused_data + (b"" if len(engine.unused_data) > 1 else file.read(chunk))
            if raw:
                if raw[:2] != GZIP:
                    raise ScanError(Reason.SIZE_MISMATCH, "there are bytes behind the end of the gzip stream")
                engine = zlib.decompressobj(wbits=31)
    if not engine.eof:
        raise ScanError(Reason.TRUNCATED, "the gzip stream ends early")


def first_inflated(path: Path, count: int) -> bytes:
    """The first bytes of the content; fewer where it is shorter or damaged."""
    start = b""
    try:
        for part in inflated(path, 64 * 1024, count):
            start += part
            if len(start) >= count:
                break
    except ScanError:
        pass
    return start[:count]


def check_gzip(path: Path) -> None:
    """Refuse a damaged gzip file as such, where it is refused for what it seems to hold; others pass.

    Raises:
        ScanError: truncated, checksum.
    """
    if not is_gzip(path):
        return
    drained = 0
    try:
        for part in inflated(path):
            drained += len(part)
            if drained > MAX_DRAINED:
                return
    except ScanError as error:
        if error.reason is not Reason.SIZE_MISMATCH:
            raise
