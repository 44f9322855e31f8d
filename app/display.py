"""A slice of a Volume as a picture: plane, window, overlay, orientation letters. No Streamlit."""

from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pipeline.domain import Affine, Volume
from pipeline.model.preprocess import PLANES
from pipeline.sections import PreprocessSection

T = TypeVar("T", bound=np.generic)

PLANE_NAMES = {2: "Axial", 1: "Coronal", 0: "Sagittal"}
"""Voxel axis across the picture -> the plane's name."""
LETTERS = ("LR", "PA", "IS")
"""Letters towards the negative and the positive end of each RAS+ axis (DICOM writes F and H for I and S)."""
OBLIQUE = 0.34
"""Sine of 20 degrees: an edge that is turned further shows a second letter (RA: right and anterior)."""
HU_WINDOWS = {"Lung": (-600, 1500), "Soft tissue": (50, 400), "Bone": (500, 2000), "Brain": (40, 80)}
"""Centre and width in HU of the customary CT windows."""
SUV_WINDOWS = (5, 10)
"""Upper ends of the customary PET windows, which begin at 0."""
USUAL = (0.5, 99.5)
"""Percentiles between which a volume's values matter: a few dead or hot pixels must not spoil the contrast."""
CANVAS = 720
"""Width and height of the picture in pixels."""
INK = (150, 200, 230)
"""Colour of letters and captions: not gray, so that nobody takes them for anatomy."""


@dataclass(frozen=True, slots=True)
class Window:
    """Intensities that are shown black (`low`) and white (`high`), in the volume's unit."""

    name: str
    low: float
    high: float

    @property
    def key(self) -> str:
        """The name as a key of the page's words."""
        return self.name.lower().replace(" ", "_")

    @property
    def caption(self) -> str:
        """Width and level, as readers know them."""
        return f"W {self.high - self.low:.0f}  L {(self.high + self.low) / 2:.0f}"


@dataclass(frozen=True, slots=True)
class View:
    """What of a volume is shown: the axis across the picture, the slice on it, the window.

    `has_frame` is False for pictures that don't say how they lie in the patient: they get no letters, no plane's name.
    """

    axis: int
    index: int
    window: Window
    has_frame: bool = True


def icon() -> Image.Image:
    """The page's icon: drawn here, since Streamlit would fetch its own icons from the network."""
    picture = Image.new("RGB", (64, 64), (11, 14, 18))
    draw = ImageDraw.Draw(picture)
    for lung in ((8, 12, 28, 52), (36, 12, 56, 52)):
        draw.ellipse(lung, fill=(76, 194, 255))
    return picture


def planes(volume: Volume) -> list[int]:
    """Axes along which the volume can be leafed through; for a single slice only its thin axis."""
    thin = [axis for axis in PLANES if volume.shape[axis] == 1]
    return thin[:1] or list(PLANES)


def windows(volume: Volume, rules: PreprocessSection) -> list[Window]:
    """The windows to choose from; the first one fits best: what the model itself sees, where that is a window."""
    if volume.voxels.ndim == 4:
        return [Window("As stored", 0, max(255.0, float(volume.voxels.max())))]
    found = []
    if rules.intensity == "window":
        found.append(Window("Model", *rules.window))
    if volume.unit == "HU":
        found += [Window(name, centre - width / 2, centre + width / 2) for name, (centre, width) in HU_WINDOWS.items()]
    if volume.unit == "SUVbw":
        found += [Window(f"SUV {high}", 0, high) for high in SUV_WINDOWS]
    shares = {"Full range": USUAL} | ({} if volume.unit == "HU" else {"Contrast": (5, 95)})
    for name, share in shares.items():
        low, high = usual_range(volume.voxels, share)
        found.append(Window(name, low, max(high, low + 1e-6)))
    return found


def usual_range(voxels: NDArray[np.float32], shares: tuple[float, float] = USUAL) -> tuple[float, float]:
    """Lowest and highest value of a volume, but for the outliers beyond these percentiles."""
    low, high = np.percentile(sample(voxels), shares)
    return float(low), float(high)


def sample(voxels: NDArray[np.float32], count: int = 1_000_000) -> NDArray[np.float32]:
    """Voxels from all over the volume, about `count` of them, without a copy of the whole."""
    axes = sum(size > 1 for size in voxels.shape[:3])
    step = max(1, int(np.ceil((voxels.size / count) ** (1 / max(1, axes)))))
    return voxels[::step, ::step, ::step].ravel()


def cut(array: NDArray[T], axis: int, index: int) -> NDArray[T]:
    """Slice `index` across voxel axis `axis` of [i, j, k(, colour)] as [row, column(, colour)].

    The radiological picture: axial from the feet (patient's right on the left), coronal from the front, sagittal with
    anterior on the left.
    """
    (_, column_sign), (_, row_sign) = PLANES[axis]
    plane: NDArray[T] = np.take(array, index, axis=axis)
    picture: NDArray[T] = plane[::column_sign, ::row_sign].swapaxes(0, 1)
    return picture


def edge_letters(affine: Affine, axis: int) -> tuple[str, str, str, str]:
    """What lies at the left, right, top and bottom edge of the picture, for example ("R", "L", "A", "P")."""
    (column, column_sign), (row, row_sign) = PLANES[axis]
    rightwards, downwards = column_sign * affine[:3, column], row_sign * affine[:3, row]
    return _letters(-rightwards), _letters(rightwards), _letters(-downwards), _letters(downwards)


def _letters(direction: NDArray[np.float64]) -> str:
    unit = direction / np.linalg.norm(direction)
    order = np.argsort(-np.abs(unit), kind="stable")
    return "".join(LETTERS[a][int(unit[a] > 0)] for n, a in enumerate(order) if n == 0 or abs(unit[a]) > OBLIQUE)


def picture_box(volume: Volume, axis: int, canvas: int = CANVAS) -> tuple[int, int, int, int]:
    """Left, top, width and height in pixels of the slice on the square canvas, true to the voxels' spacing."""
    (column, _), (row, _) = PLANES[axis]
    width_mm = volume.shape[column] * volume.spacing_mm[column]
    height_mm = volume.shape[row] * volume.spacing_mm[row]
    scale = canvas / max(width_mm, height_mm)
    width, height = max(1, round(width_mm * scale)), max(1, round(height_mm * scale))
    return (canvas - width) // 2, (canvas - height) // 2, width, height


def render(
    volume: Volume, view: View, heat: NDArray[np.uint8] | None = None, opacity: float = 0.5, canvas: int = CANVAS
) -> Image.Image:
    """The slice as an RGB picture with letters and captions.

    Args:
        volume: What is shown.
        view: Which part of it, and how.
        heat: Overlay [i, j, k], 0 to 255, on the volume's voxels; bright where it is 255, clear where it is 0.
        opacity: Of the overlay's hottest voxels, 0 to 1.
        canvas: Width and height of the picture in pixels.
    """
    left, top, width, height = picture_box(volume, view.axis, canvas)
    gray = _resized(cut(volume.voxels, view.axis, view.index), width, height)
    shown = np.clip((gray - view.window.low) / (view.window.high - view.window.low), 0, 1)
    rgb = np.repeat(shown[..., np.newaxis], 3, axis=-1) if shown.ndim == 2 else shown
    if heat is not None and opacity > 0:
        warmth = _resized(cut(heat, view.axis, view.index).astype(np.float32), width, height)
        rgb = blend(rgb, warmth / np.float32(255), opacity)
    picture = Image.new("RGB", (canvas, canvas))
    picture.paste(Image.fromarray((rgb * 255 + 0.5).astype(np.uint8)), (left, top))
    _annotate(picture, volume, view)
    return picture


def blend(rgb: NDArray[np.float32], heat: NDArray[np.float32], opacity: float) -> NDArray[np.float32]:
    """`rgb` [row, column, 3] under the heat map [row, column], both 0 to 1, the map as opaque as it is hot."""
    alpha = (opacity * heat)[..., np.newaxis]
    colours = _colours()[(np.clip(heat, 0, 1) * 255).astype(np.uint8)]
    return rgb * (1 - alpha) + colours * alpha


def _resized(plane: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    """The picture at another size, bilinear, colours one by one (Pillow resizes float pictures of one channel)."""
    if plane.ndim == 3:
        return np.stack([_resized(plane[..., c], width, height) for c in range(plane.shape[-1])], axis=-1)
    picture = Image.fromarray(np.ascontiguousarray(plane, dtype=np.float32))
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR), dtype=np.float32)


@cache
def _colours() -> NDArray[np.float32]:
    return np.asarray(colormaps["inferno"](np.arange(256))[:, :3], dtype=np.float32)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _annotate(picture: Image.Image, volume: Volume, view: View) -> None:
    draw, size = ImageDraw.Draw(picture), picture.width
    small, large, edge = _font(max(9, size // 48)), _font(max(10, size // 32)), max(2, size // 90)
    middle, end = size / 2, size - edge
    _write(draw, (edge, end), view.window.caption, small, "ld")
    if not view.has_frame:
        return
    _write(draw, (edge, edge), f"{PLANE_NAMES[view.axis]} {view.index + 1}/{volume.shape[view.axis]}", small, "la")
    places = ((edge, middle), (end, middle), (middle, edge), (middle, end))
    letters = edge_letters(volume.affine, view.axis)
    for place, text, anchor in zip(places, letters, ("lm", "rm", "ma", "md"), strict=True):
        _write(draw, place, text, large, anchor)


def _write(
    draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont, anchor: str,
) -> None:  # fmt: skip
    draw.text(place, text, fill=INK, font=font, anchor=anchor, stroke_width=2, stroke_fill=(0, 0, 0))
