"""The list of all bad inputs: classes A to G of the project's catalogue."""

from tests.bad_input import (
    cases_codecs,
    cases_content,
    cases_files,
    cases_geometry,
    cases_intensity,
    cases_nifti,
    cases_nifti_header,
    cases_pixels,
    cases_series,
    cases_structure,
)
from tests.bad_input.case import Case

MODULES = (
    *(cases_files, cases_structure, cases_codecs, cases_pixels, cases_intensity, cases_series, cases_geometry),
    *(cases_content, cases_nifti, cases_nifti_header),
)

LARGE = ("E31",)
"""Cases that take seconds: they run in `make test-slow`."""


def _order(case: Case) -> tuple[str, int]:
    return case.name[0], int(case.name[1:])


CASES = sorted((case for module in MODULES for case in module.CASES), key=_order)
