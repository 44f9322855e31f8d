"""Files with many frames that each say where they lie: enhanced multi-frame objects (functional groups)."""

import functools
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset

from pipeline.domain import Reason, ScanError
from pipeline.scans.diffusion import direction_name
from pipeline.scans.headers import Header, number_in, numbers_in, text_in
from pipeline.scans.instances import Plane, short
from pipeline.scans.pixels import real_world_map
from pipeline.scans.values import numbers_of

PET_UNITS = ("BQML", "SUVBW")
"""Units of real-world value maps that tell what a PET's numbers are."""


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
        raise ScanError(Reason.MALFORMED, f"frames announced: {header.frames}, described: {len(each)}")
    shared = (elements.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    return [_frame(own, shared, index, header) for index, own in enumerate(each)]


def _frame(own: Dataset, shared: Dataset, index: int, header: Header) -> Frame:
    def group(name: str) -> Dataset:
        items = own.get(name) or shared.get(name)
        return items[0] if items else Dataset()

    position = numbers_in(group("PlanePositionSequence"), "ImagePositionPatient")
    orientation = numbers_in(group("PlaneOrientationSequence"), "ImageOrientationPatient")
    measures, content = group("PixelMeasuresSequence"), group("FrameContentSequence")
    if len(position) != 3 or len(orientation) != 6:
        raise ScanError(Reason.NO_GEOMETRY, f"frame {index + 1} has no position or orientation")
    kind = group("MRImageFrameTypeSequence") or group("CTImageFrameTypeSequence") or group("PETFrameTypeSequence")
    stated = text_in(kind, "FrameType").upper()
    frame_type = stated.split("\\") if stated else list(header.image_type)
    diffusion = group("MRDiffusionSequence")
    spacing = numbers_in(measures, "PixelSpacing")
    change = group("PixelValueTransformationSequence")
    plane = Plane(
        orientation=orientation,
        position=position,
        spacing=spacing if len(spacing) == 2 else None,
        size=(header.whole("Rows"), header.whole("Columns")),
        traits=(
            ("type", "/".join([*frame_type[2:], text_in(kind, "ComplexImageComponent")]).strip("/")),
            ("origin", "/".join(frame_type[:2])),
            ("echo", short(number_in(group("MREchoSequence"), "EffectiveEchoTime"))),
            ("inversion", text_in(group("MRModifierSequence"), "InversionTimes")),
            ("b", short(number_in(diffusion, "DiffusionBValue"))),
            ("direction", _direction(diffusion)),
            ("label", text_in(group("MRArterialSpinLabelingSequence"), "ASLContext").upper()),
            ("kvp", short(number_in(group("CTXRayDetailsSequence"), "KVP"))),
            ("kernel", text_in(group("CTReconstructionSequence"), "ConvolutionKernel").replace("\\", "/")),
            ("stack", text_in(content, "StackID")),
        ),
        moments=(
            ("phase", number_in(content, "TemporalPositionIndex")),
            ("delay", number_in(group("CardiacSynchronizationSequence"), "NominalCardiacTriggerDelayTime")),
            ("percent", number_in(group("CardiacSynchronizationSequence"), "NominalPercentageOfCardiacPhase")),
            ("acquisition", number_in(content, "FrameAcquisitionNumber")),
            ("index", _index(content)),
            ("instance", header.number("InstanceNumber")),
        ),
        frame=index,
    )
    maps = own.get("RealWorldValueMappingSequence") or shared.get("RealWorldValueMappingSequence")
    slope, intercept, unit = _rescale_words(change, real_world_map(maps))
    return Frame(plane, (slope, intercept), unit, number_in(measures, "SliceThickness") or 0.0)


def _rescale_words(change: Dataset, world: tuple[str, str, str]) -> tuple[str, str, str]:
    """Slope and intercept as written, and the unit: the transformation's, or the map's where there is none.

    Enhanced PET names its unit in the map alone: RescaleType is US, unspecified (PS3.3 C.7.6.16.2.9). That unit holds
    for rescaled values too if the map does the same to stored values as the transformation.
    """
    slope, intercept = text_in(change, "RescaleSlope"), text_in(change, "RescaleIntercept")
    if not slope and not intercept:
        return world
    unit = text_in(change, "RescaleType").upper()
    same = (number_in(change, "RescaleSlope") or 1, number_in(change, "RescaleIntercept") or 0)
    mapped = numbers_of(world[0]) + numbers_of(world[1] or "0")
    agrees = len(mapped) == 2 and np.allclose(mapped, same, rtol=1e-6, atol=0)
    return slope, intercept, world[2] if unit in ("", "US") and world[2] in PET_UNITS and agrees else unit


def _index(content: Dataset) -> int | None:
    """DimensionIndexValues as one number of the same order (PS3.3 C.7.6.17); None where a frame has none.

    It tells frames apart that only a private dimension separates, as Philips writes them.
    """
    values = numbers_in(content, "DimensionIndexValues")
    return functools.reduce(lambda number, value: (number << 32) + int(value), values, 0) if values else None


def _direction(diffusion: Dataset) -> str:
    items = diffusion.get("DiffusionGradientDirectionSequence")
    numbers = numbers_in(items[0], "DiffusionGradientOrientation") if items else ()
    return direction_name(numbers)
