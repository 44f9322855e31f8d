"""Files with many slices: enhanced multi-frame objects (functional groups) and Siemens mosaics."""

from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset

from pipeline.domain import Affine, Reason, ScanError, Voxels
from pipeline.scans.geometry import plane_affine, slice_normal
from pipeline.scans.headers import Header, number_in, numbers_in, text_in
from pipeline.scans.instances import Plane, short


@dataclass(frozen=True)
class Frame:
    """One frame of a multi-frame file.

    Attributes:
        rescale_words: RescaleSlope and RescaleIntercept as written; empty where the frame has none.
        rescale_type: Unit of the rescaled values, in capitals.
        thickness_mm: SliceThickness, 0 where unknown.
    """

    plane: Plane
    rescale_words: tuple[str, str]
    rescale_type: str
    thickness_mm: float


def frames_of(header: Header) -> list[Frame]:
    """The frames of an enhanced multi-frame file, each with its own place and rescale (PS3.3 C.7.6.16).

    Raises:
        ScanError: no_geometry, if frames don't say where they lie; malformed, if they are not as many as announced.
    """
    elements = header.elements
    each = elements.get("PerFrameFunctionalGroupsSequence")
    if not each:
        raise ScanError(Reason.NO_GEOMETRY, "the frames of this file don't say where they lie (no functional groups)")
    if len(each) != header.frames:
        raise ScanError(Reason.MALFORMED, f"{header.frames} frames announced, {len(each)} described")
    shared = (elements.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    size = header.whole("Rows"), header.whole("Columns")
    return [_frame(own, shared, size, index, header.image_type) for index, own in enumerate(each)]


def _frame(own: Dataset, shared: Dataset, size: tuple[int, int], index: int, image_type: tuple[str, ...]) -> Frame:
    def group(name: str) -> Dataset:
        items = own.get(name) or shared.get(name)
        return items[0] if items else Dataset()

    position = numbers_in(group("PlanePositionSequence"), "ImagePositionPatient")
    orientation = numbers_in(group("PlaneOrientationSequence"), "ImageOrientationPatient")
    measures, content = group("PixelMeasuresSequence"), group("FrameContentSequence")
    if len(position) != 3 or len(orientation) != 6:
        raise ScanError(Reason.NO_GEOMETRY, f"frame {index + 1} has no position or orientation")
    kind = group("MRImageFrameTypeSequence") or group("CTImageFrameTypeSequence") or group("PETFrameTypeSequence")
    frame_type = text_in(kind, "FrameType").upper().split("\\")[2:] or list(image_type[2:])
    diffusion = group("MRDiffusionSequence")
    spacing = numbers_in(measures, "PixelSpacing")
    change = group("PixelValueTransformationSequence")
    plane = Plane(
        orientation=orientation,
        position=position,
        spacing=spacing if len(spacing) == 2 else None,
        size=size,
        traits=(
            ("type", "/".join([*frame_type, text_in(kind, "ComplexImageComponent")]).strip("/")),
            ("echo", short(number_in(group("MREchoSequence"), "EffectiveEchoTime"))),
            ("inversion", text_in(group("MRModifierSequence"), "InversionTimes")),
            ("b", short(number_in(diffusion, "DiffusionBValue"))),
            ("direction", _direction(diffusion)),
            ("stack", text_in(content, "StackID")),
        ),
        moments=(
            ("phase", number_in(content, "TemporalPositionIndex")),
            ("delay", number_in(group("CardiacSynchronizationSequence"), "NominalCardiacTriggerDelayTime")),
            ("percent", number_in(group("CardiacSynchronizationSequence"), "NominalPercentageOfCardiacPhase")),
            ("acquisition", number_in(content, "FrameAcquisitionNumber")),
        ),
        frame=index,
    )
    return Frame(
        plane,
        (text_in(change, "RescaleSlope"), text_in(change, "RescaleIntercept")),
        text_in(change, "RescaleType").upper(),
        number_in(measures, "SliceThickness") or 0.0,
    )


def _direction(diffusion: Dataset) -> str:
    items = diffusion.get("DiffusionGradientDirectionSequence")
    numbers = numbers_in(items[0], "DiffusionGradientOrientation") if items else ()
    return ",".join(f"{x:.3f}" for x in numbers)


@dataclass(frozen=True)
class Mosaic:
    """A Siemens mosaic: the slices of a volume as tiles of one picture.

    Attributes:
        count: Number of slices.
        affine: (column, row, slice) of the unpacked volume to RAS+ mm.
    """

    count: int
    affine: Affine


def mosaic_of(header: Header, plane: Plane) -> Mosaic:
    """How a mosaic's slices lie, from the CSA header (nibabel's documentation, "DICOM mosaic").

    Raises:
        ScanError: no_geometry, if the header does not say so.
    """
    from nibabel.nicom import csareader

    try:
        csa = csareader.get_csa_header(header.elements)
    except csareader.CSAError:
        raise ScanError(Reason.NO_GEOMETRY, "the mosaic's CSA header is damaged") from None
    count = csareader.get_n_mosaic(csa) if csa else int(header.private_number(0x0019100A) or 0)
    distance = header.number("SpacingBetweenSlices") or header.number("SliceThickness")
    if not count or not distance or plane.position is None or plane.orientation is None or plane.spacing is None:
        raise ScanError(Reason.NO_GEOMETRY, "the mosaic does not say how many slices it has or where they lie")
    normal = slice_normal(plane.orientation)
    stated = csareader.get_slice_normal(csa) if csa else None
    if stated is not None and float(normal @ stated) < 0:
        normal = -normal
    rows, columns = plane.size
    tiles = tiles_of(count)
    # ImagePositionPatient is that of the picture as if it were one large slice with the same centre
    shift = (
        np.asarray(plane.orientation[:3]) * plane.spacing[1] * (columns - columns / tiles) / 2
        + np.asarray(plane.orientation[3:]) * plane.spacing[0] * (rows - rows / tiles) / 2
    )
    position = np.asarray(plane.position) + shift
    return Mosaic(count, plane_affine(plane.orientation, plane.spacing, position.tolist(), normal * distance))


def tiles_of(count: int) -> int:
    """Tiles along each side of a mosaic of so many slices."""
    return int(np.ceil(np.sqrt(count)))


def unpack(picture: Voxels, count: int) -> Voxels:
    """The slices of a mosaic [row, column] as [slice, row, column].

    Raises:
        ScanError: bad_dimensions, if the picture can't be cut into equal tiles.
    """
    tiles = tiles_of(count)
    rows, columns = picture.shape
    if rows % tiles or columns % tiles:
        raise ScanError(Reason.BAD_DIMENSIONS, f"a mosaic of {count} slices can't have {rows} x {columns} pixels")
    cut = picture.reshape(tiles, rows // tiles, tiles, columns // tiles).swapaxes(1, 2)
    return cut.reshape(tiles * tiles, rows // tiles, columns // tiles)[:count]
