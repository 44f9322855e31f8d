"""DICOM files of one Scan -> Volume."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from pipeline.domain import Affine, ReadRules, Reason, Scan, ScanError, Volume, Voxels
from pipeline.scans.boundary import check_voxels
from pipeline.scans.codecs import in_parallel
from pipeline.scans.content import is_magnified
from pipeline.scans.enhanced import Frame, frames_of
from pipeline.scans.extent import extent_of
from pipeline.scans.frames import each_frame, is_native
from pipeline.scans.geometry import PICTURE, plane_affine, same_place, spread_evenly, stack, to_closest_ras
from pipeline.scans.headers import Header, read_header
from pipeline.scans.instances import Instance, Plane, instance_of, place_of
from pipeline.scans.kept import header_to_keep, kept_header
from pipeline.scans.mosaic import mosaic_of, unpack
from pipeline.scans.nuclear import EXTRA, is_tomogram, tomogram_frames
from pipeline.scans.pixels import (
    PixelFormat,
    Stored,
    fill_padding,
    pixel_format,
    real_world_map,
    rescale_of,
    rgb,
    to_unit,
)
from pipeline.scans.select import check_slices
from pipeline.scans.separate import volumes_of
from pipeline.scans.straighten import straighten
from pipeline.scans.suv import suv_factor

T = TypeVar("T")


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
    header = header_to_keep(path)
    instance = instance_of(header)
    frames = _frames(header)
    if frames is None:
        return instance
    volumes, _ = volumes_of(frames, _frame_plane)
    planes = [list(map(_frame_plane, members)) for members in volumes.values()]
    return replace(instance, plane=frames[0].plane, volumes=tuple(volumes), extents=tuple(map(extent_of, planes)))


def read_dicom(scan: Scan, rules: ReadRules) -> Volume:
    """The Volume of a DICOM scan: true order, spacing and unit.

    Raises:
        ScanError: With the reason, wherever geometry, pixels or unit can't be trusted.
    """
    headers = [kept_header(path) for path in scan.paths]
    instance = instance_of(headers[0])
    if len(headers) == 1 and instance.is_mosaic:
        return _mosaic(_slice(headers[0], rules), rules)
    slices = [one for header in headers for one in _slices(header, scan.group, rules)]
    check_slices(len(slices), rules)
    check_voxels(sum(one.form.rows * one.form.columns for one in slices), rules.max_voxels)
    if len({one.plane.size for one in slices}) > 1:
        raise ScanError(Reason.MIXED_GEOMETRY, "slices of one scan differ in Rows or Columns")
    placed = all(one.plane.position is not None and one.plane.orientation is not None for one in slices)
    if not placed or (instance.is_single and _frames(headers[0]) is None):
        return _picture(slices)
    return _series(slices, rules)


def _frames(header: Header) -> list[Frame] | None:
    """The frames of a file that says where they lie, None for a single picture and for films."""
    if header.items("PerFrameFunctionalGroupsSequence"):
        return frames_of(header)
    return tomogram_frames(read_header(header.path, EXTRA)) if is_tomogram(header) else None


def _slices(header: Header, group: str, rules: ReadRules) -> list[Slice]:
    """The slices of one volume that a file holds."""
    frames = _frames(header)
    if frames is not None:
        return _slices_of_frames(header, frames, group, rules)
    one = _slice(header, rules)
    if one.form.frames > 1:
        raise ScanError(Reason.NO_GEOMETRY, "the frames of this file don't say where they lie")
    return [one]


def _slice(header: Header, rules: ReadRules) -> Slice:
    form = pixel_format(header, rules.max_voxels)
    rescale = rescale_of(header.text("RescaleSlope"), header.text("RescaleIntercept"))
    kind = "/".join((header.text("RescaleType"), header.text("Units"))).upper().strip("/")
    if rescale is None and not header.items("ModalityLUTSequence"):
        slope, intercept, unit = real_world_map(header.items("RealWorldValueMappingSequence"))
        rescale, kind = rescale_of(slope, intercept), unit or kind
    return Slice(header, form, place_of(header), rescale, kind, header.number("SliceThickness") or 0.0)


def _slices_of_frames(header: Header, frames: list[Frame], group: str, rules: ReadRules) -> list[Slice]:
    """The slices of one volume in a multi-frame file."""
    form = pixel_format(header, rules.max_voxels)
    volumes, _ = volumes_of(frames, _frame_plane)
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
    """The Volume in a mosaic."""
    mosaic = mosaic_of(picture.header, picture.plane)
    check_slices(len(mosaic.order), rules)
    return _volume([picture], unpack(_voxels([picture])[0], mosaic), mosaic.affine, mosaic.warnings)


def _picture(slices: Sequence[Slice]) -> Volume:
    """A one-slice Volume of a picture that has no place in the patient."""
    if len(slices) != 1:
        raise ScanError(Reason.NO_GEOMETRY, "slices without ImagePositionPatient can't be put in order")
    spacing = slices[0].plane.spacing
    affine = plane_affine(PICTURE, spacing or (1.0, 1.0), (0, 0, 0), (0, 0, 1))
    if not spacing:
        warnings: tuple[str, ...] = ("no_spacing",)
    else:
        warnings = ("detector_spacing",) if is_magnified(slices[0].header) else ()
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
    affine, warnings = grid.affine, (*warnings, *grid.warnings)
    if rules.straighten_tilt and "gantry_tilt" in warnings:
        voxels, affine = straighten(voxels, affine, rules.max_voxels)
        warnings += ("tilt_straightened",)
    return _volume(ordered, voxels, affine, warnings)


def _without_duplicates(slices: Sequence[Slice]) -> tuple[list[Slice], tuple[str, ...]]:
    """One slice a place; further ones must hold equal pixels.

    Raises:
        ScanError: conflicting_slices.
    """
    kept = []
    for first, *others in same_place([one.plane.position or () for one in slices]):
        kept.append(slices[first])
        alike = [slices[i] for i in (first, *others)]
        if others and len(set(_each_frame(alike, lambda _, frame: frame.tobytes()))) > 1:
            raise ScanError(
                Reason.CONFLICTING_SLICES,
                f"{len(others) + 1} slices with different pixels lie at one position; nothing tells them apart",
            )
    return kept, ("duplicate_slices",) if len(kept) < len(slices) else ()


def _each_frame(slices: Sequence[Slice], use: Callable[[int, Stored], T]) -> Iterator[T]:
    """What `use` makes of the slices' frames, in one file or in many; see `frames.each_frame`."""
    first = slices[0].header
    if all(one.header is first for one in slices):
        return each_frame(first, slices[0].form, [one.plane.frame for one in slices], use)

    def work(i: int) -> T:
        one = slices[i]
        return next(each_frame(one.header, one.form, [one.plane.frame], lambda _, frame: use(i, frame)))

    if all(is_native(one.header) for one in slices):
        return map(work, range(len(slices)))
    return in_parallel(work, range(len(slices)))


def _voxels(slices: Sequence[Slice]) -> Voxels:
    """Values in their unit: float32 [slice, row, column], or [slice, row, column, 3]."""
    form = slices[0].form
    if any(one.form.colour != form.colour for one in slices):
        raise ScanError(Reason.MIXED_UNITS, "colour and grey slices in one scan")
    voxels = np.empty((len(slices), form.rows, form.columns) + ((3,) if form.colour else ()), dtype=np.float32)

    def put(i: int, values: Stored) -> bool:
        """Put a slice in its place; tells whether it has padding."""
        one, out, padded = slices[i], voxels[i], False
        if form.colour:
            out[...] = rgb(one.header, one.form, values)
        else:
            padded = to_unit(one.header, one.form, one.rescale, values, out)
        if one.form.floating and not np.isfinite(out).all():
            raise ScanError(Reason.NON_FINITE, "pixels that are no finite numbers")
        return padded

    if any(list(_each_frame(slices, put))):  # a list: any() alone would leave slices unread
        fill_padding(voxels)
    return voxels


def _volume(slices: Sequence[Slice], voxels: Voxels, affine: Affine, warnings: tuple[str, ...]) -> Volume:
    """The Volume of voxels [slice, row, column(, 3)] whose affine maps (column, row, slice)."""
    unit, factor, codes = _unit(slices)
    if factor != 1:
        voxels *= np.float32(factor)
    columns_first = voxels.transpose(2, 1, 0, *range(3, voxels.ndim))
    turned, affine, code = to_closest_ras(columns_first, affine)
    first = voxels[0].flat[0]
    blank = ("blank",) if all((one == first).all() for one in voxels) else ()
    return Volume(turned, affine, unit, code).with_warnings(*warnings, *codes, *blank)


def _unit(slices: Sequence[Slice]) -> tuple[str, float, tuple[str, ...]]:
    """The unit of the values, the factor that brings them there, and a warning where a CT or PET does not tell it.

    Raises:
        ScanError: mixed_units.
    """
    kinds = {(one.rescale_type, one.rescale is None, one.header.text("Modality").upper()) for one in slices}
    if len(kinds) > 1:
        raise ScanError(Reason.MIXED_UNITS, "slices differ in RescaleType, Units or Modality")
    ((kind, bare, modality),) = kinds
    first = slices[0].header
    if modality == "PT":
        factor = suv_factor(first.text("Units").upper() or kind, [one.header for one in slices])
        return ("a.u.", 1.0, ("no_suv",)) if factor is None else ("SUVbw", factor, ())
    if modality != "CT":
        return "a.u.", 1.0, ()
    if bare and not first.items("ModalityLUTSequence"):
        return "a.u.", 1.0, ("no_rescale",)
    return ("HU" if kind in ("", "HU", "US") else "a.u."), 1.0, ()
