"""Class E, second part: where slices lie."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.domain import ReadRules
from tests.bad_input.case import OK, Truth, case, reject, warn
from tests.bad_input.phantoms import at, ct, dicom_affine, radiograph, setting
from tests.scans.phantoms import AXIAL, ORIGIN, SPACING, STEP, pixels, put_pixels
from tests.scans.test_enhanced import enhanced

STORED = pixels()
CORONAL, SAGITTAL, PRONE = (1, 0, 0, 0, 0, -1), (0, 1, 0, 0, 0, -1), (-1, 0, 0, 0, -1, 0)
OBLIQUE = (1, 0, 0, 0, 0.8660254, 0.5)
NO_PLACE = setting(ImagePositionPatient=None, ImageOrientationPatient=None)


def laid(orientation: Sequence[float], step: Sequence[float]):
    """The series, its slices lying and following each other so."""
    return lambda folder: ct(folder, orientation=orientation, step=step)


def oriented(orientation: Sequence[float]):
    """An ImageOrientationPatient that is none."""
    return lambda folder: ct(folder, setting(ImageOrientationPatient=list(orientation)))


def turned(degrees: float):
    """One slice turned around the rows."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return lambda folder: ct(folder, at(2, setting(ImageOrientationPatient=[1, 0, 0, 0, round(c, 7), round(s, 7)])))


def thick(folder: Path) -> Truth:
    """SliceThickness says nothing of the distance: it changes, and slices overlap."""
    return ct(folder, lambda ds, k: setattr(ds, "SliceThickness", str(3 + 2 * k)))


def long_voxels(folder: Path) -> Truth:
    def change(ds, k: int) -> None:
        ds.PixelSpacing, ds.ImagePositionPatient = [0.5, 0.5], [*ORIGIN[:2], ORIGIN[2] + 10 * k]

    ct(folder, change)
    return Truth(STORED - 1024.0, dicom_affine(step=(0, 0, 10), spacing=(0.5, 0.5)))


def multi_frame(folder: Path) -> Truth:
    enhanced(folder / "a.dcm")
    return Truth(STORED - 1024.0, dicom_affine())


def frames_without_place(folder: Path) -> None:
    enhanced(folder / "a.dcm", lambda ds: delattr(ds, "PerFrameFunctionalGroupsSequence"))


def of_slices(count: int):
    return lambda folder: ct(folder, slices=count)


DETECTOR = setting(PixelSpacing=None, ImagerPixelSpacing=list(SPACING))
SHIFTED = [[0.0, 0.0], [0.0, 1.0], [5.0, 0.0], [0.0, 0.0], [0.0, 3.0], [0.0, 0.0]]

CASES = (
    case("E11", "a tilted gantry: the shear stays in the affine", warn("gantry_tilt"), laid(AXIAL, (0, 0.5, STEP))),
    case("E12", "positions across the normal, zigzag, all at one height", reject("bad_geometry"),
         laid(SAGITTAL, (0, 0, STEP)),
         lambda folder: ct(folder, lambda ds, k: setattr(ds, "ImagePositionPatient", [*SHIFTED[k], k * STEP])),
         lambda folder: ct(folder, lambda ds, k: setattr(ds, "ImagePositionPatient", [k, 0, 0]))),
    case("E19", "a slice of another PixelSpacing", reject("mixed_geometry"),
         lambda folder: ct(folder, at(2, setting(PixelSpacing=[1, 1])))),
    case("E20", "a slice of other Rows, of other Columns", reject("mixed_geometry"),
         lambda folder: ct(folder, at(2, lambda ds, k: put_pixels(ds, STORED[0, :4]))),
         lambda folder: ct(folder, at(2, lambda ds, k: put_pixels(ds, STORED[0, :, :4])))),
    case("E21", "a slice turned by 0.01 degrees: within the tolerance", OK, turned(0.01)),
    case("E21", "a slice turned by 5 degrees", reject("mixed_geometry"), turned(5)),
    case("E23", "a CT without PixelSpacing, with ImagerPixelSpacing or without", reject("no_spacing"),
         lambda folder: ct(folder, DETECTOR), lambda folder: ct(folder, setting(PixelSpacing=None))),
    case("E23", "a radiograph with ImagerPixelSpacing only", warn("detector_spacing"),
         lambda folder: radiograph(folder, DETECTOR)),
    case("E24", "a series without positions, without orientations, without both", reject("no_geometry"),
         lambda folder: ct(folder, setting(ImagePositionPatient=None)),
         lambda folder: ct(folder, setting(ImageOrientationPatient=None)), lambda folder: ct(folder, NO_PLACE)),
    case("E24", "a radiograph without them", OK, radiograph),
    case("E25", "an orientation that is not of unit length, not at right angles, no number", reject("bad_geometry"),
         oriented((2, 0, 0, 0, 1, 0)), oriented((1, 0, 0, 0.1, 1, 0)), oriented((0, 0, 0, 0, 0, 0))),
    case("E26", "SliceThickness other than the distance, and varying", OK, thick),
    case("E27", "axial, feet first, prone, sagittal, coronal, oblique; forwards and backwards", OK,
         laid(AXIAL, (0, 0, STEP)), laid(AXIAL, (0, 0, -STEP)), laid(PRONE, (0, 0, STEP)), laid(SAGITTAL, (3, 0, 0)),
         laid(SAGITTAL, (-3, 0, 0)), laid(CORONAL, (0, 3, 0)), laid(CORONAL, (0, -3, 0)),
         laid(OBLIQUE, (0, -1.5, 2.598076))),
    case("E28", "an enhanced multi-frame file", OK, multi_frame),
    case("E28", "a multi-frame file that does not say where its frames lie", reject("no_geometry"),
         frames_without_place),
    case("E29", "1 and 2 slices for a model that needs 3", reject("too_few_slices"), of_slices(1), of_slices(2),
         rules=ReadRules(min_slices=3)),
    case("E30", "voxels of 0.5 x 0.5 x 10 mm", warn("anisotropy"), long_voxels),
)  # fmt: skip
