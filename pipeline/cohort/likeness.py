"""Images that are nearly the same: a perceptual hash of each volume, and which of different patients agree.

A copy that was saved again (JPEG, another window, half the resolution, some noise) has other voxels and the same
picture. The hash holds the lowest frequencies of a small, rank-normalised copy, so that two hashes tell how well the
two pictures correlate.
"""

from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.cohort.leakage import components, patients
from pipeline.domain import Voxels

THUMBNAIL = {2: 32, 3: 16}
"""Edge of the small copy, by dimensions (axes with more than one voxel)."""
FREQUENCIES = {2: 12, 3: 8}
"""Frequencies kept along each axis. With fewer, chest films and slices of different patients look alike; with more,
a little noise parts a copy from its original (docs/log.md)."""
LEVELS = 1000
"""Steps of intensity that ranks tell apart: rounding errors make no order."""
LARGEST = 10
"""Larger groups are no copies of one image: their images resemble one another by nature (registered brains, masks)."""
CELLS = 16_000_000
"""Correlations held at once."""

Vectors = NDArray[np.float32]


def image_hash(voxels: Voxels) -> str:
    """The image's hash: one signed byte a frequency, in hex; "" where there is nothing to see.

    Spacing and direction of the intensities' scale don't count, nor does anything that keeps their order.

    Args:
        voxels: [i, j, k] or [i, j, k, 3] (colour: the mean counts).
    """
    small = voxels.mean(axis=-1) if voxels.ndim == 4 else voxels
    small = small[tuple(0 if n == 1 else slice(None) for n in small.shape)]
    if small.ndim < 2:
        return ""
    edge, kept = THUMBNAIL[small.ndim], FREQUENCIES[small.ndim]
    for axis in range(small.ndim):
        small = _along(_area_means(small.shape[axis], edge), small, axis)
    low, high = float(small.min()), float(small.max())
    if not high > low:
        return ""
    spectrum = _ranks(np.round((small - low) / (high - low) * LEVELS))
    for axis in range(spectrum.ndim):
        spectrum = _along(_cosines(edge, kept), spectrum, axis)
    values = spectrum.ravel()[1:]  # the first is the mean
    return bytes(np.round(values / np.abs(values).max() * 127).astype(np.int8)).hex()


def near_identical(table: pd.DataFrame, correlation: float) -> tuple["pd.Series[str]", int]:
    """For each scan that has a near-identical one of another patient the name of its group, else "".

    A group is named by its smallest scan_id; links chain. Scans with identical voxels are no pair here. Also: how many
    scans are in groups that are too large, and have no name.

    Args:
        table: With scan_id, patient_id, content_sha256 and image_hash.
        correlation: From which two images are near-identical; 1 leaves all groups empty.
    """
    links, who = [], patients(table).to_numpy()
    for rows in (np.flatnonzero(sized) for sized in _by_length(table["image_hash"])):
        for first, second in _alike(_vectors(table["image_hash"].iloc[rows]), correlation):
            one, other = rows[first], rows[second]
            apart = who[one] != who[other]
            links.append(np.stack([one[apart], other[apart]]))
    found = np.concatenate(links, axis=1) if links and correlation < 1 else np.zeros((2, 0), dtype=int)
    content = table["content_sha256"].to_numpy()
    found = found[:, content[found[0]] != content[found[1]]]
    groups = table["scan_id"].groupby(components(len(table), found))
    size = groups.transform("size")
    return groups.transform("min").where((size > 1) & (size <= LARGEST), ""), int((size > LARGEST).sum())


def _by_length(hashes: "pd.Series[str]") -> list[NDArray[np.bool_]]:
    """Which rows can be compared: hashes of one length, pictures with pictures and volumes with volumes."""
    lengths = hashes.str.len().to_numpy()
    return [lengths == length for length in np.unique(lengths[lengths > 0])]


def _vectors(hashes: "pd.Series[str]") -> Vectors:
    """[scan, frequency] of length 1."""
    values = np.stack([np.frombuffer(bytes.fromhex(text), dtype=np.int8) for text in hashes]).astype(np.float32)
    return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True))


def _alike(vectors: Vectors, correlation: float) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Pairs (first, second), each once, that correlate at least so much; some rows against all at a time."""
    step = max(1, CELLS // len(vectors))
    starts = [*range(0, len(vectors), step), len(vectors)]
    pairs = []
    for start, end in pairwise(starts):
        first, second = np.nonzero(vectors[start:end] @ vectors[start:].T >= correlation)
        later = second > first
        pairs.append((first[later] + start, second[later] + start))
    return pairs


def _along(matrix: Vectors, values: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    return np.moveaxis(np.tensordot(matrix, values, (1, axis)), 0, axis)


def _area_means(n: int, edge: int) -> Vectors:
    """[edge, n] weights that average `n` voxels over `edge` equal parts."""
    ends, voxel = np.linspace(0, n, edge + 1), np.arange(n)
    shared = np.minimum(ends[1:, None], voxel + 1) - np.maximum(ends[:-1, None], voxel)
    return np.asarray(np.clip(shared, 0, None) * edge / n, dtype=np.float32)


def _cosines(n: int, kept: int) -> Vectors:
    """[kept, n] of the orthonormal discrete cosine transform (type II), the lowest frequencies."""
    matrix = np.cos(np.pi * np.arange(kept)[:, None] * (2 * np.arange(n) + 1) / (2 * n)) * np.sqrt(2 / n)
    matrix[0] /= np.sqrt(2)
    return np.asarray(matrix, dtype=np.float32)


def _ranks(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean ranks, ties shared, in the shape of the values."""
    _, level, counts = np.unique(values, return_inverse=True, return_counts=True)
    rank = np.cumsum(counts) - (counts - 1) / 2
    return rank[level].reshape(values.shape).astype(np.float32)
