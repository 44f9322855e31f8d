"""The slice that a model looked at most, with its heat map and what the model says, as a DICOM Secondary Capture."""

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
from highdicom.sc import SCImage
from highdicom.sr import CodedConcept
from matplotlib import colormaps, get_data_path
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from pipeline.console import count
from pipeline.domain import OperatingPoint, Prediction, Volume
from pipeline.results.dicom_source import (
    RESEARCH_ONLY,
    Author,
    Source,
    complete,
    contributor,
    own_attributes,
    ranked,
)
from pipeline.scans.boundary import refusing

SERIES_NUMBER = 9901
"""High, so that it sorts behind the study's own series."""

PLANES = {2: ((0, -1, "L"), (1, -1, "P")), 1: ((0, -1, "L"), (2, -1, "F")), 0: ((1, -1, "P"), (2, -1, "F"))}
"""Axis across the slices -> of the picture's columns, then rows: voxel axis, its sign, where it leads (DICOM letters).
The radiological picture: axial from the feet, coronal from the front, sagittal with anterior on the left."""

SIDE = 640
"""Pixels of the picture's longer side."""
OPACITY = 0.5
"""Of the hottest voxels."""
LISTED = 4
"""Findings that are written into the picture; the report holds all."""
INK, WARNING = (200, 220, 235), (255, 196, 64)


def slice_axis(volume: Volume) -> int:
    """The voxel axis across the slices as they were acquired."""
    return {"L": 0, "R": 0, "P": 1, "A": 1, "I": 2, "S": 2}[volume.orientation[2]]


def overlay_picture(
    volume: Volume, heat: NDArray[np.float32], window: tuple[float, float] | None, index: int, captions: Sequence[str]
) -> NDArray[np.uint8]:
    """The slice under its heat map, RGB [row, column, 3], square pixels, with RESEARCH_ONLY above and captions below.

    The text lies outside of the anatomy.

    Args:
        volume: The scan.
        heat: 0 to 1 on the volume's voxels.
        window: Intensities shown black and white; None: the slice's own range.
        index: The slice across `slice_axis`.
        captions: A line each.
    """
    axis = slice_axis(volume)
    gray, warmth = _cut(volume.voxels, axis, index), _cut(heat, axis, index)
    low, high = window or tuple(float(x) for x in np.percentile(gray, (0.5, 99.5)))
    shown = np.clip((gray - low) / max(high - low, 1e-6), 0, 1)
    height, width = picture_size(volume)
    rgb = np.stack([_resized(channel, width, height) for channel in _channels(shown)], axis=-1)
    warm = np.clip(_resized(warmth, width, height), 0, 1)
    alpha = (OPACITY * warm)[..., np.newaxis]
    rgb = rgb * (1 - alpha) + colormaps["inferno"](warm)[..., :3] * alpha
    return _with_text((rgb * 255 + 0.5).astype(np.uint8), captions)


def secondary_capture(
    source: Source, picture: NDArray[np.uint8], volume: Volume, index: int, author: Author
) -> SCImage:
    """The picture as an object of the scan's study.

    Raises:
        ScanError: If the source's headers can't be put into it.
    """
    axis = slice_axis(volume)
    shown = source.nearest(volume.affine, axis, index)
    mm = picture_pixel_mm(volume)
    has_frame = "ImageOrientationPatient" in shown or len(source.images) > 1 or volume.shape[axis] > 1
    with refusing("the source of the picture"):
        capture = SCImage.from_ref_dataset(
            ref_dataset=shown,
            pixel_array=picture,
            photometric_interpretation="RGB",
            bits_allocated=8,
            coordinate_system="PATIENT",
            pixel_spacing=None if "no_spacing" in volume.warnings else (mm, mm),
            patient_orientation=tuple(letter for _, _, letter in PLANES[axis]),
            contributing_equipment=contributor(author),
            **own_attributes("SC", "AI heat map", SERIES_NUMBER, source, author),
        )
        if not has_frame:
            capture.PatientOrientation = shown.get("PatientOrientation") or None
        complete(capture, source)
        capture.DerivationDescription = f"Heat map of {author.model_id}; {RESEARCH_ONLY}"
        capture.SourceImageSequence = [_reference(shown)]
        if shown.get("BurnedInAnnotation"):
            capture.BurnedInAnnotation = shown.BurnedInAnnotation
        return capture


def captions(
    prediction: Prediction, points: Mapping[str, OperatingPoint], finding: str, place: Sequence[str]
) -> list[str]:
    """What is written below the picture: the findings, whose heat map it is, and the model.

    Args:
        prediction: Of the scan.
        points: Finding -> operating point.
        finding: That of the heat map.
        place: Which slice it is, and further lines on the map (`place_of`).
    """
    lines = []
    for name in ranked(prediction)[:LISTED]:
        line = f"{name}: probability {prediction.probabilities[name]:.3f}"
        if name in prediction.positive and name in points:
            sign = "positive" if prediction.positive[name] else "negative"
            line += f", {sign} at the threshold {points[name].threshold:.3f}"
        lines.append(line)
    if (more := len(prediction.probabilities) - LISTED) > 0:
        lines.append(f"and {count(more, 'more finding')} in the report")
    if prediction.in_distribution is False:
        lines.append("This scan is unlike those that the model has learned from")
    return [*lines, f"Heat map for {finding}, {place[0]}", *place[1:], f"Model {prediction.model}"]


def picture_size(volume: Volume) -> tuple[int, int]:
    """Rows and columns of the slice in the picture, without the text."""
    mm = picture_pixel_mm(volume)
    (column, *_), (row, *_) = PLANES[slice_axis(volume)]
    rows, columns = (max(1, round(volume.shape[a] * volume.spacing_mm[a] / mm)) for a in (row, column))
    return rows, columns


def picture_pixel_mm(volume: Volume) -> float:
    """Width and height of the picture's pixels in mm, at the patient or where the volume's spacing holds."""
    (column, *_), (row, *_) = PLANES[slice_axis(volume)]
    return max(volume.shape[a] * volume.spacing_mm[a] for a in (row, column)) / SIDE


def _cut(array: NDArray[np.float32], axis: int, index: int) -> NDArray[np.float32]:
    """Slice `index` across `axis` of [i, j, k(, colour)] as [row, column(, colour)]."""
    (_, column_sign, _), (_, row_sign, _) = PLANES[axis]
    plane = np.take(array, index, axis=axis)
    return np.asarray(plane[::column_sign, ::row_sign].swapaxes(0, 1))


def _channels(shown: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    return [shown] * 3 if shown.ndim == 2 else [shown[..., colour] for colour in range(3)]


def _resized(plane: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    picture = Image.fromarray(np.ascontiguousarray(plane, dtype=np.float32))
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR), dtype=np.float32)


def _with_text(rgb: NDArray[np.uint8], lines: Sequence[str]) -> NDArray[np.uint8]:
    """The picture on black ground, at least SIDE wide, between the warning and the captions."""
    size, edge = 18, 8
    height, width = rgb.shape[:2]
    head, foot = size + 2 * edge, len(lines) * (size + 4) + 2 * edge
    canvas = Image.new("RGB", (max(width, SIDE), head + height + foot))
    canvas.paste(Image.fromarray(rgb), ((canvas.width - width) // 2, head))
    draw = ImageDraw.Draw(canvas)
    draw.text((canvas.width / 2, edge), RESEARCH_ONLY, fill=WARNING, font=_font(size), anchor="ma")
    for number, line in enumerate(lines):
        place = (edge, head + height + edge + number * (size + 4))
        draw.text(place, _fitting(line, canvas.width - 2 * edge), fill=INK, font=_font(size - 2))
    return np.asarray(canvas)


def _fitting(line: str, width: int) -> str:
    """The line, or its beginning where it is too long; what the font can't draw shows as its own sign."""
    font, text = _font(16), " ".join(line.split())
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(f"{get_data_path()}/fonts/ttf/DejaVuSans.ttf", size)


def _reference(image: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
    item.PurposeOfReferenceCodeSequence = [CodedConcept.from_code(codes.DCM.SourceImageForImageProcessingOperation)]
    return item
