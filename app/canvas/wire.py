"""How a Volume is sent to the canvas: as small as it may be, the slice to show first and its neighbours after it.

The canvas' voxel [x, y, z] runs Left, Posterior, Superior (the Volume's runs Right, Anterior, Superior), which is how a
radiological picture is read: left to right, top to bottom. Only the direction of counting changes, never a value's
place; the affine that goes along is turned the same way.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.display import usual_range
from app.volumes import Packed
from pipeline.domain import Volume

INT16 = (-32768, 32767)
FINE = 2000
"""Quantised values must make at least so many steps over a volume's usual range: a screen shows 256."""
HEAT_CELLS = 128
"""Cells of the heat map along an axis at most: networks see far fewer."""
LENGTH_UNITS = {"no_spacing": "px", "detector_spacing": "mm (detector)"}
"""Warning -> unit of lengths on the picture; else millimetres in the patient."""


@dataclass(frozen=True)
class Encoding:
    """Number type on the wire; value = stored * slope + intercept."""

    kind: str
    slope: float = 1.0
    intercept: float = 0.0

    def stored(self, values: NDArray[np.float32]) -> NDArray[np.generic]:
        """The numbers as they are sent, little-endian."""
        if self.kind == "float32":
            return values.astype("<f4")
        if self.kind == "int16" and (self.slope, self.intercept) == (1, 0):
            return values.astype("<i2")
        kind = np.dtype("<i2" if self.kind == "int16" else "u1")
        limits = np.iinfo(kind)
        # In float32 the largest value could round to a number that the integer type does not hold.
        whole = np.rint((values.astype(np.float64) - self.intercept) / self.slope)
        return np.clip(whole, limits.min, limits.max).astype(kind)


def pack_volume(volume: Volume, has_frame: bool, again: Callable[[], Volume] | None = None) -> Packed:
    """The volume, ready to be sent: int16 where that loses nothing that a screen could show, else float32.

    Args:
        volume: What is shown.
        has_frame: Whether the file says how it lies in the patient.
        again: Gives the volume whenever it is sent, so that it need not be held until then; by default it is held.
    """
    encoding, shape = choose_encoding(volume.voxels), volume.shape
    first = shape[2] // 2

    source = again or (lambda: volume)

    def chunks() -> Iterator[bytes]:
        voxels = source().voxels
        for k in sending_order(first, shape[2]):
            plane = voxels[::-1, ::-1, k].swapaxes(0, 1)  # [y, x(, colour)]
            yield encoding.stored(plane).tobytes()

    width = {"int16": 2, "float32": 4, "rgb": 3}[encoding.kind]
    turned = volume.affine @ turning(shape)
    description: dict[str, object] = {
        "kind": encoding.kind, "slope": encoding.slope, "intercept": encoding.intercept, "first": first,
        "shape": list(shape), "affine": turned.tolist(), "hasFrame": has_frame,
        "unit": "" if volume.unit == "a.u." else volume.unit, "digits": _digits(volume, encoding),
        "lengthUnit": next((unit for code, unit in LENGTH_UNITS.items() if code in volume.warnings), "mm"),
    }  # fmt: skip
    return Packed(description, int(np.prod(shape)) * width, chunks)


def pack_heat(heat: NDArray[np.uint8]) -> Packed:
    """A heat map on the volume's voxels [i, j, k], averaged over cells of equal size that fill the canvas' axes."""
    steps = [max(1, -(-count // HEAT_CELLS)) for count in heat.shape]
    turned: NDArray[np.generic] = heat[::-1, ::-1]
    padding = [(0, -count % step) for count, step in zip(heat.shape, steps, strict=True)]
    padded = np.pad(turned, padding, mode="edge") if any(end for _, end in padding) else turned
    i, j, k = (count // step for count, step in zip(padded.shape, steps, strict=True))
    cells = padded.reshape(i, steps[0], j, steps[1], k, steps[2]).mean(axis=(1, 3, 5), dtype=np.float32)
    content = np.rint(cells).astype(np.uint8).transpose(2, 1, 0).tobytes()
    return Packed({"shape": [i, j, k], "steps": steps}, len(content), lambda: iter((content,)))


def sending_order(first: int, count: int) -> list[int]:
    """Slice numbers as they are sent: first, first + 1, first - 1, first + 2, ... (volume.js counts the same)."""
    return sorted(range(count), key=lambda k: (abs(k - first), k < first))


def turning(shape: tuple[int, int, int]) -> NDArray[np.float64]:
    """4x4 from the canvas' voxel [x, y, z] to the Volume's [i, j, k]: i = I - 1 - x, j = J - 1 - y, k = z."""
    turned = np.diag([-1.0, -1.0, 1.0, 1.0])
    turned[:2, 3] = shape[0] - 1, shape[1] - 1
    return turned


def choose_encoding(voxels: NDArray[np.float32]) -> Encoding:
    """The smallest encoding that is exact, or finer than a screen can show."""
    low, high = float(voxels.min()), float(voxels.max())
    if voxels.ndim == 4:
        return Encoding("rgb") if low >= 0 and high <= 255 else Encoding("rgb", max(high - low, 1e-9) / 255, low)
    if low >= INT16[0] and high <= INT16[1] and _whole(voxels):
        return Encoding("int16")
    step = (high - low) / (INT16[1] - INT16[0])
    usual_low, usual_high = usual_range(voxels)
    if step * FINE >= usual_high - usual_low:
        return Encoding("float32")
    return Encoding("int16", step, low - INT16[0] * step)


def _whole(voxels: NDArray[np.float32]) -> bool:
    """Whether every value is a whole number; slice by slice, which needs little memory and stops early."""
    return all(np.array_equal(plane, np.rint(plane)) for plane in np.moveaxis(voxels, 2, 0))


def _digits(volume: Volume, encoding: Encoding) -> int:
    """Decimals that make sense for a value under the cursor."""
    if encoding.kind == "rgb" or (encoding.kind == "int16" and encoding.slope == 1):
        return 0
    low, high = usual_range(volume.voxels)
    return int(np.clip(3 - np.floor(np.log10(max(high - low, 1e-6))), 0, 6))
