"""`read_volume` on an uncompressed CT series, beside other readers and the physical limit.

    python -m benchmarks.read_volume        1 minute on 2 cores

The limit reads the files' bytes and converts them to float32; it knows where the pixels are and checks nothing.
SimpleITK and MONAI's ITKReader take part where their packages can be imported.
"""

import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pydicom

from benchmarks.measure import Target, Times, in_turns, is_there, memory_growth, peak_bytes, show, verdict
from benchmarks.series import SIDE, SLICES, expected_voxels, write_series
from pipeline.domain import Scan
from pipeline.scans.find import find_scans, read_volume

ROUNDS = 7
MOST_TIMES_THE_LIMIT = 3.0
LEAST_TIMES_AS_FAST_AS_MONAI = 10.0
LEAST_TIMES_AS_FAST_AS_SIMPLEITK = 1.0
MOST_TIMES_THE_VOLUME = 2.2
"""Peak memory while reading, as a multiple of the float32 volume."""

PIXELS = SIDE * SIDE * 2
"""Bytes of a slice's pixels, which end its file."""
LIMIT, OURS = "limit: bytes to float32", "read_volume(scan)"


def limit(paths: list[Path]) -> object:
    """The bytes of every file, its pixels as float32 [slice, row, column]."""
    voxels = np.empty((len(paths), SIDE, SIDE), np.float32)
    for path, one in zip(paths, voxels, strict=True):
        content = path.read_bytes()
        one[...] = np.frombuffer(content, np.int16, offset=len(content) - PIXELS).reshape(SIDE, SIDE)
    return voxels


def with_pydicom(paths: list[Path]) -> object:
    """What a short script does: no order, no checks."""
    files = [pydicom.dcmread(path) for path in paths]
    return np.stack([ds.pixel_array * np.float32(ds.RescaleSlope) + np.float32(ds.RescaleIntercept) for ds in files])


def with_simpleitk(folder: Path) -> object:
    """SimpleITK's series reader."""
    import SimpleITK

    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    reader.SetOutputPixelType(SimpleITK.sitkFloat32)
    return reader.Execute()


def contenders(folder: Path, scan: Scan) -> dict[str, Callable[[], object]]:
    """Name -> what reads the series; those that can be imported."""
    from monai.transforms import LoadImage

    paths = list(scan.paths)
    found: dict[str, Callable[[], object]] = {
        LIMIT: partial(limit, paths),
        OURS: partial(read_volume, scan),
        "read_volume(folder)": partial(read_volume, folder),
        "pydicom, no checks": partial(with_pydicom, paths),
        "MONAI PydicomReader": partial(LoadImage(reader="PydicomReader", image_only=True), folder),
    }
    if is_there("SimpleITK"):
        found["SimpleITK"] = partial(with_simpleitk, folder)
    if is_there("itk"):
        found["MONAI ITKReader"] = partial(LoadImage(reader="ITKReader", image_only=True), folder)
    return found


def main() -> int:
    """Measure, print, and say which targets hold."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        folder = Path(name) / "ct"
        write_series(folder)
        ((scan,), _) = find_scans(folder)
        if not np.array_equal(read_volume(scan).voxels[::-1, ::-1].transpose(2, 1, 0), expected_voxels()):
            raise RuntimeError("the series was read wrong; its speed does not matter")
        times = in_turns(contenders(folder, scan), ROUNDS)
        grown = memory_growth("benchmarks.read_volume", str(folder)) / (SLICES * SIDE * SIDE * 4)
    show(f"{SLICES} slices of {SIDE} x {SIDE}, uncompressed; medians of {ROUNDS} rounds", times, LIMIT)
    return verdict(targets(times, grown))


def targets(times: dict[str, Times], grown: float) -> Iterator[Target]:
    """What is claimed, and what was measured."""
    ours = times[OURS]
    yield Target("time over the limit's", ours.over(times[LIMIT]), at_most=MOST_TIMES_THE_LIMIT)
    for peer, took in times.items():
        if peer.startswith("MONAI"):
            yield Target(f"time of {peer} over ours", took.over(ours), at_least=LEAST_TIMES_AS_FAST_AS_MONAI)
        if peer == "SimpleITK":
            yield Target(f"time of {peer} over ours", took.over(ours), at_least=LEAST_TIMES_AS_FAST_AS_SIMPLEITK)
    yield Target("peak memory over the volume's", grown, at_most=MOST_TIMES_THE_VOLUME)


def print_growth(folder: Path) -> int:
    """Print by how many bytes reading the series raised this process's peak memory."""
    ((scan,), _) = find_scans(folder)
    before = peak_bytes()
    read_volume(scan)
    print(peak_bytes() - before)
    return 0


if __name__ == "__main__":
    sys.exit(print_growth(Path(sys.argv[1])) if len(sys.argv) > 1 else main())
