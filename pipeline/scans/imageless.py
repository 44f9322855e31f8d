"""DICOM files without an image: objects of other kinds, and slices that lost theirs."""

from functools import lru_cache

from pydicom.uid import UID

from pipeline.domain import Reason, ScanError
from pipeline.scans.headers import Header

DIRECTORY = "1.2.840.10008.1.3.10"


class LostSliceError(ScanError):
    """A refused file that names its series, which without it may lack a slice.

    Attributes:
        series_uid: Of that series.
    """

    def __init__(self, reason: Reason, detail: str, series_uid: str) -> None:
        super().__init__(reason, detail)
        self.series_uid = series_uid

    def __reduce__(self) -> tuple[type["LostSliceError"], tuple[Reason, str, str]]:  # type: ignore[override]
        """Rebuild from all arguments, so that the error crosses process borders."""
        return type(self), (self.reason, self.detail, self.series_uid)


class NotAScan(Exception):  # noqa: N818 - no error: a reason to skip
    """A file that is well but no scan; its text says what it is."""


def check_is_image(header: Header) -> None:
    """Pass over what holds no image, refuse what has lost it.

    Raises:
        NotAScan: For a DICOM object of another kind.
        ScanError: truncated; missing_attribute for objects of private classes, which may hold no image by nature.
    """
    if DIRECTORY in (header.text("SOPClassUID"), header.media_class):
        raise NotAScan("DICOM directory")
    name = class_name(header)
    if name and "Image Storage" not in name and "US Volume" not in name:
        raise NotAScan(f"DICOM without image ({name})")
    if header.pixel_tag:
        return
    if not header.text("Rows") and not name and header.text("Modality"):
        raise NotAScan("DICOM without image")
    if not name and header.text("Rows"):
        raise ScanError(Reason.MISSING_ATTRIBUTE, "PixelData is missing")
    raise ScanError(Reason.TRUNCATED, "the file ends before its pixels")


def class_name(header: Header) -> str:
    """The standard's name of the file's object class, empty for private ones."""
    return _name_of(header.text("SOPClassUID"))


@lru_cache
def _name_of(sop_class: str) -> str:
    name = UID(sop_class).name
    return "" if name == sop_class else name
