"""What it got wrong, and where it was least sure: the slice and where the model looked, as pictures for the report."""

import base64
import io
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from pipeline.audit.held_out import HeldOut
from pipeline.domain import ScanError, Volume
from pipeline.evaluation.calibration import to_logit
from pipeline.explanation.gradcam import saliency
from pipeline.model.preprocess import PLANES
from pipeline.sections import PreprocessSection

EACH = 4
"""Scans of a kind, for each finding."""
EDGE_PX = 240
"""Longer edge of a picture."""
OPACITY = 0.55
"""Of the overlay where the map peaks."""
COLOURS = "inferno"
"""Ordered in brightness, so that colour-blind readers see the same peak."""

Pixels = NDArray[np.float64]


def gallery(held: HeldOut) -> dict[str, Any]:
    """Finding -> cases: scan, kind ("missed", "false alarm", "unsure"), truth, probability, and a PNG as a data URI."""
    wanted = {finding: chosen(held.rows, finding, point.threshold)
              for finding, point in held.model.operating_points.items()}  # fmt: skip
    needed = {position for cases in wanted.values() for _, position in cases}
    few = HeldOut(held.model, held.rows.iloc[sorted(needed)], [held.scans[n] for n in sorted(needed)])
    shown: dict[int, dict[str, Any]] = {}
    for order, volume in few.volumes("Drawing failures"):
        position = sorted(needed)[order]
        shown[position] = {
            finding: picture for finding, cases in wanted.items() if position in {n for _, n in cases}
            and (picture := _drawn(held, volume, finding))
        }  # fmt: skip
    return {"model": held.model.model_id, "split": "test", "findings": {
        finding: [_case(held, kind, n, finding) | shown[n][finding] for kind, n in cases
                  if finding in shown.get(n, {})]
        for finding, cases in wanted.items()
    }}  # fmt: skip


def chosen(rows: pd.DataFrame, finding: str, threshold: float) -> list[tuple[str, int]]:
    """(Kind, position) of the most confident errors, then of the least certain scans, most telling first."""
    y, p = rows[f"y_{finding}"].to_numpy(float), rows[f"p_{finding}"].to_numpy(float)
    sure = np.abs(to_logit(p) - float(to_logit(np.array([threshold]))[0]))
    kinds = np.where((y == 1) & (p < threshold), "missed", np.where((y == 0) & (p >= threshold), "false alarm", ""))
    wrong = [n for n in np.argsort(-sure, kind="stable") if kinds[n]]
    errors = [(str(kind), int(n)) for kind in ("missed", "false alarm") for n in _of_kind(wrong, kinds, kind)]
    named = {n for _, n in errors}
    unsure = [int(n) for n in np.argsort(sure, kind="stable") if n not in named and not np.isnan(y[n])]
    return errors + [("unsure", n) for n in unsure[:EACH]]


def _of_kind(order: Sequence[int], kinds: NDArray[np.str_], kind: str) -> list[int]:
    return [n for n in order if kinds[n] == kind][:EACH]


def _case(held: HeldOut, kind: str, position: int, finding: str) -> dict[str, Any]:
    row = held.rows.iloc[position]
    return {"scan_id": row["scan_id"], "kind": kind, "y": int(row[f"y_{finding}"]), "p": float(row[f"p_{finding}"])}


def _drawn(held: HeldOut, volume: Volume, finding: str) -> dict[str, Any] | None:
    try:
        image, place, count = picture(volume, saliency(held.model, volume, finding), held.model.preprocess)
    except ScanError:
        return None
    return {"slice": place + 1, "slices": count, "image": image}


def picture(volume: Volume, seen: NDArray[np.float32], rules: PreprocessSection) -> tuple[str, int, int]:
    """The slice in which the map is brightest, plain and with the map over it; its number, and how many there are.

    As radiologists show it: axial from the feet, patient's right on the left.

    Args:
        volume: What was predicted.
        seen: [i, j, k] 0 to 1, as `saliency` gives it.
        rules: Their window is shown, of others the middle 98 % of the slice.
    """
    thin = next((axis for axis in (2, 1, 0) if volume.shape[axis] == 1), 2)
    weights = seen.sum(axis=tuple(axis for axis in range(3) if axis != thin))
    place = int(weights.argmax()) if weights.max() > 0 else len(weights) // 2
    plain, glow = (_as_shown(np.take(values, place, axis=thin), thin) for values in (volume.voxels, seen))
    gray = _gray(plain, rules)
    colour = mpl.colormaps[COLOURS](glow)[..., :3]
    opacity = OPACITY * glow[..., None]
    both = [gray, gray * (1 - opacity) + colour * opacity]
    size = _size_px(volume, thin)
    pair = np.concatenate([_resized(one, size) for one in both], axis=1)
    return _data_uri(pair), place, volume.shape[thin]


def _as_shown(plane: NDArray[Any], thin: int) -> NDArray[Any]:
    """A slice with its axes (lower, higher) of the volume as rows and columns of a picture."""
    (column, column_sign), (row, row_sign) = PLANES[thin]
    rows_first = plane.swapaxes(0, 1) if column < row else plane
    return rows_first[::row_sign, ::column_sign]


def _gray(plane: NDArray[np.float32], rules: PreprocessSection) -> Pixels:
    """[row, column, 3] from 0 to 1."""
    low, high = rules.window if rules.intensity == "window" else np.percentile(plane, (1, 99))
    scaled = np.clip((plane - low) / max(float(high - low), 1e-6), 0, 1).astype(float)
    return scaled if scaled.ndim == 3 else np.repeat(scaled[..., None], 3, axis=-1)


def _size_px(volume: Volume, thin: int) -> tuple[int, int]:
    """(Width, height) with square millimetres."""
    (column, _), (row, _) = PLANES[thin]
    extent = np.array([volume.shape[axis] * volume.spacing_mm[axis] for axis in (column, row)])
    width, height = np.maximum(np.round(EDGE_PX * extent / extent.max()), 16).astype(int)
    return int(width), int(height)


def _resized(pixels: Pixels, size: tuple[int, int]) -> NDArray[np.uint8]:
    image = Image.fromarray(np.round(255 * np.clip(pixels, 0, 1)).astype(np.uint8))
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR))


def _data_uri(pixels: NDArray[np.uint8]) -> str:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
