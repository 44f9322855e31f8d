"""Deflated DICOM files, for libraries that inflate them whole before anybody can stop them."""

import zlib
from typing import BinaryIO

from pydicom.filereader import _read_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian

from pipeline.scans.boundary import check_inflation
from pipeline.scans.values import text_in

PIECE = 2**20
"""Bytes that are inflated at once, to be counted and dropped."""


def check_deflated(file: BinaryIO) -> None:
    """Refuse a deflated DICOM file that grows out of all proportion; others pass unread. `file` then stands at 0.

    Raises:
        ScanError: too_large.
        Exception: What pydicom raises on a malformed file (callers stand behind `boundary.refusing`).
    """
    size = file.seek(0, 2)
    file.seek(132)
    if text_in(_read_file_meta_info(file), "TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        engine, inflated = zlib.decompressobj(-zlib.MAX_WBITS), 0
        while not engine.eof and (chunk := engine.unconsumed_tail or file.read(PIECE)):
            inflated += len(engine.decompress(chunk, PIECE))
            check_inflation(size, inflated)
    file.seek(0)
