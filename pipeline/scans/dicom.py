"""DICOM files of one Scan -> Volume."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.domain import Affine, ReadRules, Reason, Scan, ScanError, Volume, Voxels
from pipeline.scans.boundary import check_voxels
from pipeline.scans.codecs import in_parallel
from pipeline.scans.enhanced import Frame, frames_of, mosaic_of, unpack
from pipeline.scans.frames import is_native, stored_frames
from pipeline.scans.geometry import PICTURE, plane_affine, same_place, spread_evenly, stack, to_closest_ras
from pipeline.scans.headers import Header, read_header
from pipeline.scans.instances import Instance, Plane, instance_of, plane_of
from pipeline.scans.pixels import PixelFormat, Stored, fill_padding, pixel_format, rescale_of, rgb, to_unit
from pipeline.scans.select import check_slices
from pipeline.scans.separate import volumes_of


@dataclass(frozen=True)
class Slice:
    """One slice of a Scan: a file, or a frame of one.

    Attributes:
        rescale: (slope, intercept), None where it has none.
        rescale_type: Unit of the rescaled values, in capitals.
        thickness_mm: SliceThickness, 0 where unknown.
    """

    header: Header
    form: PixelFormat
    plane: Plane
    rescale: tuple[float, float] | None
    rescale_type: str
    thickness_mm: float


def read_instance(path: Path) -> Instance:
    """What the search keeps of a DICOM file, the volumes in it named.

    Raises:
        NotAScan: If the file holds no image.
        ScanError: If it lacks what every image must have.
    """
    header = read_header(path)
    instance = instance_of(header)
    if instance.frames == 1 or not header.elements.get("PerFrameFunctionalGroupsSequence"):
        return instance
    volumes, _ = volumes_of(frames_of(header), _frame_plane)
    return instance_of(header, tuple(volumes))


def read_dicom(scan: Scan, rules: ReadRules) -> Volume:
    """The Volume of a DICOM scan: true order, spacing and unit.

    Raises:
        ScanError: With the reason, wherever geometry, pixels or unit can't be trusted.
    """
    headers = [read_header(path) for path in scan.paths]
    instance = instance_of(headers[0])
    if len(headers) == 1 and "MOSAIC" in instance.image_type and instance.frames == 1:
        return _mosaic(_slice(headers[0], rules), rules)
    if len(headers) == 1 and headers[0].elements.get("PerFrameFunctionalGroupsSequence"):
        slices = _slices_of_frames(headers[0], scan.group, rules)
    else:
        slices = [_slice(header, rules) for header in headers]
        if any(one.form.frames > 1 for one in slices):
            raise ScanError(Reason.NO_GEOMETRY, "the frames of this file don't say where they lie")
    check_slices(len(slices), rules)
    check_voxels(sum(one.form.rows * one.form.columns for one in slices), rules.max_voxels)
    if len({one.plane.size for one in slices}) > 1:
        raise ScanError(Reason.MIXED_GEOMETRY, "slices of one scan differ in Rows or Columns")
    if instance.is_single or any(one.plane.position is None or one.plane.orientation is None for one in slices):
        return _picture(slices)
    return _series(slices, rules)


def _slice(header: Header, rules: ReadRules) -> Slice:
    form = pixel_format(header, rules.max_voxels)
    rescale = rescale_of(header.text("RescaleSlope"), header.text("RescaleIntercept"))
    kind = "/".join((header.text("RescaleType"), header.text("Units"))).upper().strip("/")
    return Slice(header, form, plane_of(header), rescale, kind, header.number("SliceThickness") or 0.0)


def _slices_of_frames(header: Header, group: str, rules: ReadRules) -> list[Slice]:
    """The slices of one volume in a multi-frame file."""
    form = pixel_format(header, rules.max_voxels)
    volumes, _ = volumes_of(frames_of(header), _frame_plane)
    # the group may begin with the file's own name among the files of its series
    names = [name for name in volumes if len(volumes) == 1 or f";{group}".endswith(f";{name}")]
    if not names:
        raise ScanError(Reason.AMBIGUOUS_VOLUME, f"the file holds {len(volumes)} volumes; choose one")
    return [
        Slice(header, form, frame.plane, rescale_of(*frame.rescale_words), frame.rescale_type, frame.thickness_mm)
        for frame in volumes[max(names, key=len)]
    ]


def _frame_plane(frame: Frame) -> Plane:
    return frame.plane


def _mosaic(picture: Slice, rules: ReadRules) -> Volume:
    """The Volume in a Siemens mosaic."""
    mosaic = mosaic_of(picture.header, picture.plane)
    check_slices(mosaic.count, rules)
    return _volume([picture], unpack(_voxels([picture])[0], mosaic.count), mosaic.affine, ())


def _picture(slices: Sequence[Slice]) -> Volume:
    """A one-slice Volume of a picture that has no place in the patient."""
    if len(slices) != 1:
        raise ScanError(Reason.NO_GEOMETRY, "slices without ImagePositionPatient can't be put in order")
    spacing = slices[0].plane.spacing
    affine = plane_affine(PICTURE, spacing or (1.0, 1.0), (0, 0, 0), (0, 0, 1))
    at_patient = slices[0].header.numbers("PixelSpacing")
    warnings = () if at_patient else ("detector_spacing",) if spacing else ("no_spacing",)
    return _volume(slices, _voxels(slices), affine, warnings)


def _series(slices: Sequence[Slice], rules: ReadRules) -> Volume:
    """The Volume of slices that each have a place in the patient."""
    slices, warnings = _without_duplicates(slices)
    plane = slices[0].plane
    if plane.spacing is None or plane.orientation is None:
        raise ScanError(Reason.NO_SPACING, "PixelSpacing is missing; distances can't be known")
    thickness = slices[0].thickness_mm
    grid = stack(
        plane.orientation,
        [one.plane.position or () for one in slices],
        plane.spacing,
        thickness if 0 < thickness < 1000 else 1.0,
        rules.allow_gaps,
    )
    ordered = [slices[i] for i in grid.order]
    voxels = _voxels(ordered)
    if grid.places is not None:
        check_voxels(len(grid.places) * voxels[0].size, rules.max_voxels)
        voxels = spread_evenly(voxels, grid.places)
    return _volume(ordered, voxels, grid.affine, (*warnings, *grid.warnings))


def _without_duplicates(slices: Sequence[Slice]) -> tuple[list[Slice], tuple[str, ...]]:
    """One slice a place; further ones must hold equal pixels.

    Raises:
        ScanError: conflicting_slices.
    """
    kept = []
    for first, *others in same_place([one.plane.position or () for one in slices]):
        kept.append(slices[first])
        if others and len({frame.tobytes() for frame in _stored([slices[i] for i in (first, *others)])}) > 1:
            raise ScanError(
                Reason.CONFLICTING_SLICES,
                f"{len(others) + 1} slices with different pixels lie at one position; nothing tells them apart",
            )
    return kept, ("duplicate_slices",) if len(kept) < len(slices) else ()


def _stored(slices: Sequence[Slice]) -> Iterator[Stored]:
    """The stored frame of each slice; compressed ones are decoded several at a time."""
    first = slices[0].header
    if all(one.header is first for one in slices):
        return stored_frames(first, slices[0].form, [one.plane.frame for one in slices])
    if all(is_native(one.header) for one in slices):
        return map(_one_frame, slices)
    return in_parallel(_one_frame, slices)


def _one_frame(one: Slice) -> Stored:
    return next(stored_frames(one.header, one.form, [one.plane.frame]))


def _voxels(slices: Sequence[Slice]) -> Voxels:
    """Values in their unit: float32 [slice, row, column], or [slice, row, column, 3]."""
    form = slices[0].form
    voxels = np.empty((len(slices), form.rows, form.columns) + ((3,) if form.colour else ()), dtype=np.float32)
    padded = False
    for one, values, out in zip(slices, _stored(slices), voxels, strict=True):
        if one.form.colour != form.colour:
            raise ScanError(Reason.MIXED_UNITS, "colour and grey slices in one scan")
        if form.colour:
            out[...] = rgb(one.header, one.form, values)
        else:
            padded |= to_unit(one.header, one.form, one.rescale, values, out)
        if one.form.floating and not np.isfinite(out).all():
            raise ScanError(Reason.NON_FINITE, "pixels that are no finite numbers")
    if padded:
        fill_padding(voxels)
    return voxels


def _volume(slices: Sequence[Slice], voxels: Voxels, affine: Affine, warnings: tuple[str, ...]) -> Volume:
    """The Volume of voxels [slice, row, column(, 3)] whose affine maps (column, row, slice)."""
    unit, codes = _unit(slices)
    columns_first = voxels.transpose(2, 1, 0, *range(3, voxels.ndim))
    turned, affine, code = to_closest_ras(columns_first, affine)
    first = voxels[0].flat[0]
    blank = ("blank",) if all((one == first).all() for one in voxels) else ()
    return Volume(turned, affine, unit, code).with_warnings(*warnings, *codes, *blank)


def _unit(slices: Sequence[Slice]) -> tuple[str, tuple[str, ...]]:
    """The unit of the values, and a warning where a CT has no rescale.

    Raises:
        ScanError: mixed_units.
    """
    kinds = {(one.rescale_type, one.rescale is None) for one in slices}
    if len(kinds) > 1:
        raise ScanError(Reason.MIXED_UNITS, "slices differ in RescaleType or Units")
    ((kind, bare),) = kinds
    first = slices[0].header
    if first.text("Modality").upper() != "CT":
        return "a.u.", ()
    if bare and not first.elements.get("ModalityLUTSequence"):
        return "a.u.", ("no_rescale",)
    return ("HU" if kind in ("", "HU", "US") else "a.u."), ()
