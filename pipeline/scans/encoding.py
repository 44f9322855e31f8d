"""A DICOM object as the bytes of a file (PS3.10)."""

from io import BytesIO

from pydicom.dataset import Dataset

from pipeline.scans.boundary import refusing


def encoded(ds: Dataset, what: str) -> bytes:
    """The object as a file, with an empty preamble: one that came from elsewhere may hold anything, a program too.

    Args:
        what: The object's name in the error, such as "the result".

    Raises:
        ScanError: malformed, for what no file can hold.
    """
    stream = BytesIO()
    with refusing(what):
        ds.preamble = b"\0" * 128
        ds.save_as(stream, enforce_file_format=True)
    return stream.getvalue()
