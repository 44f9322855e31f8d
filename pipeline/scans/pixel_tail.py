"""What stands behind the last pixel: no program shows it, and anything may have been hidden or forgotten there."""

from pydicom.dataset import Dataset
from pydicom.pixels.utils import get_expected_length

from pipeline.scans.elements import PIXEL_TAGS


def cut_pixel_tail(ds: Dataset) -> bool:
    """Cut what native pixels hold beyond those that the header counts; whether there was anything but padding.

    Compressed pixels (PS3.5 A.4) are left as they are, their length can't be told from the header.

    Raises:
        AttributeError: If the header does not say how many pixels there are.
    """
    if ds.file_meta.TransferSyntaxUID.is_compressed and not ds.file_meta.TransferSyntaxUID.is_deflated:
        return False
    found = False
    for tag in PIXEL_TAGS & ds.keys():
        length, value = get_expected_length(ds), ds[tag].value or b""
        if value[length:].strip(b"\0"):
            found = True
            ds[tag].value = value[:length] + b"\0" * (length % 2)
    return found
