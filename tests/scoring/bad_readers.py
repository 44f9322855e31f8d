"""A reader that fails on some scans. Child processes import this, and the readers: before their clock starts."""

import ctypes
import time

import pipeline.scans.dicom
import pipeline.scans.nifti  # noqa: F401
from pipeline.domain import ReadRules, Scan
from pipeline.scoring.worker import Timed, read_timed
from pipeline.sections import PreprocessSection


def read_or_hang(scan: Scan, read: ReadRules, rules: PreprocessSection, channels: int) -> Timed:
    """As `read_timed`, but one scan hangs and one kills its reader."""
    if scan.path.name == "v05.nii.gz":
        time.sleep(60)
    if scan.path.name == "v06.nii.gz":
        ctypes.string_at(0)
    return read_timed(scan, read, rules, channels)
