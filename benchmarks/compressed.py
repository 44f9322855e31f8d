"""`read_volume` on compressed CT series, beside the codec alone and SimpleITK.

    python -m benchmarks.compressed         2 minutes on 2 cores

The codec alone decodes the same frames in this process, on as many threads as there are cores, and drops them. We
read, check and order the files, decode in child processes that may die, and give a float32 volume.
"""

import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import imagecodecs
import numpy as np
from pydicom import dcmread
from pydicom.encaps import generate_frames
from pydicom.uid import UID, JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless

from benchmarks.measure import Target, in_turns, is_there, show, verdict
from benchmarks.read_volume import with_simpleitk
from benchmarks.series import SIDE, SLICES, Stored, expected_voxels, write_series
from pipeline.scans.codecs import cores
from pipeline.scans.find import find_scans, read_volume

ALONE, OURS = "limit: codec alone", "read_volume(scan)"


@dataclass(frozen=True)
class Codec:
    """A lossless transfer syntax, and the fastest functions that imagecodecs has for it.

    Attributes:
        at_least: Our speed as a share of the codec's own. The goal is 0.9; the faster the codec, the more weigh the
            0.4 ms that a slice's header, bytes, conversion and way to the child and back take.
        rounds: How often it is measured.
    """

    syntax: UID
    encode: Callable[..., bytes | bytearray]
    decode: Callable[[bytes], object]
    at_least: float
    rounds: int


CODECS = {
    "JPEG 2000": Codec(
        JPEG2000Lossless,
        partial(imagecodecs.jpeg2k_encode, reversible=True, codecformat="j2k"),
        imagecodecs.jpeg2k_decode,
        at_least=0.9,
        rounds=3,
    ),
    "JPEG-LS": Codec(JPEGLSLossless, imagecodecs.jpegls_encode, imagecodecs.jpegls_decode, at_least=0.8, rounds=9),
    "JPEG lossless": Codec(
        JPEGLosslessSV1,
        partial(imagecodecs.ljpeg_encode, bitspersample=16),
        imagecodecs.jpeg8_decode,
        at_least=0.65,
        rounds=9,
    ),
}


def alone(decode: Callable[[bytes], object], frames: list[bytes]) -> None:
    """Decode all frames on all cores."""
    with ThreadPoolExecutor(cores()) as threads:
        for _ in threads.map(decode, frames):
            pass


def measured(name: str, folder: Path) -> Target:
    """Write a series, read it, print the times; how near we come to the codec."""
    codec = CODECS[name]

    def encode(stored: Stored) -> bytes:
        return bytes(codec.encode(stored))

    paths = write_series(folder, codec.syntax, encode)
    ((scan,), _) = find_scans(folder)
    if not np.array_equal(read_volume(scan).voxels[::-1, ::-1].transpose(2, 1, 0), expected_voxels()):
        raise RuntimeError(f"the {name} series was read wrong; its speed does not matter")
    frames = [next(generate_frames(dcmread(path).PixelData, number_of_frames=1)) for path in paths]
    contenders: dict[str, Callable[[], object]] = {
        ALONE: partial(alone, codec.decode, frames),
        OURS: partial(read_volume, scan),
    }
    if is_there("SimpleITK"):
        contenders["SimpleITK"] = partial(with_simpleitk, folder)
    times = in_turns(contenders, codec.rounds)
    show(f"{name}: {SLICES} slices of {SIDE} x {SIDE}, {cores()} cores; medians of {codec.rounds} rounds", times, ALONE)
    return Target(f"{name}: share of the codec's own speed", times[ALONE].over(times[OURS]), at_least=codec.at_least)


def main() -> int:
    """Measure, print, and say which targets hold."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        return verdict([measured(codec, Path(name) / codec) for codec in CODECS])


if __name__ == "__main__":
    sys.exit(main())
