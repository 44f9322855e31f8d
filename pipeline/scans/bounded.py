"""A file that may be read so often, so much at a time, and no more."""

from typing import BinaryIO

from pipeline.domain import Reason, ScanError
from pipeline.scans.elements import MAX_VALUE

MAX_READS = 3_000_000
"""Reads of one header: a multi-frame file of 10,000 frames takes a third of them."""


class Bounded:
    """A file for a parser: one damaged length makes it look for elements in the pixels, eight bytes at a time.

    Attributes:
        name: The file's name, where it has one.
    """

    def __init__(self, file: BinaryIO, reads: int) -> None:
        self.seek, self.tell, self.name = file.seek, file.tell, getattr(file, "name", "")
        self._read, self._left = file.read, reads

    def read(self, count: int = -1) -> bytes:
        """The next bytes.

        Raises:
            ScanError: too_large, if the file was read too often, or is read in too large a piece.
        """
        self._left -= 1
        if self._left < 0:
            raise ScanError(Reason.TOO_LARGE, "the header has more elements than any scan's")
        if count > MAX_VALUE:
            raise ScanError(
                Reason.TOO_LARGE, f"the header has an element of {count} bytes; at most {MAX_VALUE} are read"
            )
        return self._read(count)
