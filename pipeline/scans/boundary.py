"""The one border that no library's exception crosses, and the limits that hold before anything is allocated."""

import logging
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EINVAL

from pydicom.errors import BytesLengthException, InvalidDicomError

from pipeline.domain import Reason, ScanError

# pydicom's log messages quote values of the header, and so the patient
logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)

MAX_RATIO = 200
"""A compressed file may grow by this factor without question..."""

MAX_INFLATED = 256 * 2**20
"""...or to this many bytes; beyond both it is taken for a bomb."""

MAX_HEADER = 64 * 2**20
"""Bytes of header that are read at the most."""


@contextmanager
def refusing(what: str = "the file") -> Iterator[None]:
    """Turn whatever a library raises on a bad file into a ScanError; its text is dropped, for it may quote the header.

    The list of exceptions was measured by fuzzing pydicom, nibabel, pillow and the decoders.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's and nibabel's warnings quote values of the header
            yield
    except ScanError:
        raise
    except MemoryError:
        raise ScanError(Reason.TOO_LARGE, f"{what} needs more memory than there is") from None
    except (EOFError, zlib.error) as error:
        reason = Reason.TRUNCATED if isinstance(error, EOFError) else Reason.CHECKSUM
        raise ScanError(reason, f"{what} ends early or was damaged") from None
    except InvalidDicomError:
        raise ScanError(Reason.NOT_DICOM, f"{what} has no DICOM header") from None
    except OSError as error:
        if error.errno in (None, EINVAL):  # the system refuses a place in the file that only a damaged header names
            raise ScanError(Reason.MALFORMED, f"{what} can't be decoded ({type(error).__name__})") from None
        raise ScanError(Reason.IO_ERROR, f"{what} can't be read ({type(error).__name__})") from None
    except (
        RuntimeError,
        ValueError,
        AttributeError,
        TypeError,
        LookupError,
        ArithmeticError,
        SyntaxError,
        AssertionError,
        struct.error,
        BytesLengthException,
    ) as error:
        raise ScanError(Reason.MALFORMED, f"{what} is malformed ({type(error).__name__})") from None


def check_inflation(compressed: int, inflated: int) -> None:
    """Refuse a compressed file that claims to grow out of all proportion.

    Raises:
        ScanError: too_large.
    """
    if inflated > MAX_INFLATED and inflated > MAX_RATIO * compressed:
        raise ScanError(
            Reason.TOO_LARGE,
            f"{compressed} bytes would grow to {inflated}; accepted: {MAX_RATIO} times, or {MAX_INFLATED} bytes",
        )


def check_voxels(count: int, limit: int) -> None:
    """Refuse more voxels than the rules allow.

    Raises:
        ScanError: bad_dimensions for none, too_large for too many.
    """
    if count <= 0:
        raise ScanError(Reason.BAD_DIMENSIONS, "the image has no pixels")
    if count > limit:
        raise ScanError(Reason.TOO_LARGE, f"{count} voxels; read.max_voxels allows {limit}")
