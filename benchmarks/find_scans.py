"""Finding scans: ours beside pydicom's header reading and beside opening the files. `python -m benchmarks.find_scans`.

The folder holds CT series of 100 slices whose headers have some 200 elements, private ones and sequences among them;
the pixels are holes in the files, which take no room on the disk and which nobody here reads.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from pipeline.scans.find import find_scans
from pipeline.scans.keywords import wanted

FILES, SLICES, SIDE = 3000, 100, 512
MEMORY_AT = (2000, 10_000)
ROUNDS = 3
TARGET = 1.7
"""Times as fast as pydicom, at least."""
PIXELS = SIDE * SIDE * 2

SERIES, INSTANCE, PLACE = (f"1.2.826.0.1.3680043.8.498.{mark * 12}" for mark in "123")
"""What differs from file to file, as long as what will stand there."""


def template() -> bytes:
    """A CT slice's file up to its pixels, with placeholders."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = CTImageStorage
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID = INSTANCE
    ds.SeriesInstanceUID = ds.StudyInstanceUID = SERIES
    ds.FrameOfReferenceUID, ds.PatientID, ds.PatientName = "1.2.3", "BENCH", "Bench^Mark"
    ds.ImageType, ds.Modality, ds.Manufacturer = ["ORIGINAL", "PRIMARY", "AXIAL"], "CT", "SIEMENS"
    ds.StudyDate, ds.AcquisitionTime, ds.PatientAge, ds.PatientSex = "20260101", "101010.123", "061Y", "F"
    ds.SliceThickness, ds.KVP, ds.InstanceNumber = "1.0", "120", 1
    ds.ImagePositionPatient, ds.ImageOrientationPatient = ["-180", "-180", "1234567.25"], [1, 0, 0, 0, 1, 0]
    ds.PixelSpacing, ds.RescaleSlope, ds.RescaleIntercept = [0.7, 0.7], "1", "-1024"
    ds.Rows = ds.Columns = SIDE
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CTImageStorage, "1.2.3.4"
    for keyword in ("ReferencedStudySequence", "ReferencedImageSequence", "SourceImageSequence"):
        setattr(ds, keyword, Sequence([item, item]))
        ds[keyword].is_undefined_length = True
    for group in (0x0009, 0x0019, 0x0021, 0x0027, 0x0043):
        block = ds.private_block(group, "BENCHMARK", create=True)
        for element in range(30):
            block.add_new(element, "LO", f"value {element}")
    ds.PixelData = b"\0" * 2
    ds["PixelData"].VR = "OW"
    file = BytesIO()
    ds.save_as(file, enforce_file_format=True)
    whole = file.getvalue()
    return whole[:-6] + PIXELS.to_bytes(4, "little")


def make_series(folder: Path, files: int) -> None:
    """Write so many slices into series of SLICES."""
    start = template()
    for n in range(files):
        series, k = divmod(n, SLICES)
        mine = start.replace(SERIES.encode(), f"{SERIES[:-9]}{10**8 + series}".encode())
        mine = mine.replace(INSTANCE.encode(), f"{INSTANCE[:-9]}{10**8 + n}".encode())
        path = folder / f"patient{series:04d}" / "ct" / f"{k:04d}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.write(mine.replace(b"1234567.25", f"{1.25 * k:010.2f}".encode()))
            file.truncate(len(mine) + PIXELS)


def with_pydicom(paths: list[Path]) -> None:
    """What a careful script does: only the elements needed, in one process."""
    for path in paths:
        pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(wanted().tags))


def limit(paths: list[Path]) -> None:
    """Open every file and read its first 4 KiB."""
    for path in paths:
        with path.open("rb") as file:
            file.read(4096)


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Wall time, and CPU time of this process and the ones it started."""
    started, before = time.perf_counter(), os.times()
    work()
    after = os.times()
    return time.perf_counter() - started, sum(after[:4]) - sum(before[:4])


def growth(folder: Path) -> None:
    """Print by how many MiB finding scans raised this process's peak memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    scans, _ = find_scans(folder)
    if {len(scan.paths) for scan in scans} != {SLICES}:
        raise RuntimeError("the benchmark's own series were not understood")
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)


def main() -> int:
    """Measure and print; 1 if the target is missed, else 0."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        folder = Path(name)
        make_series(folder / "speed", FILES)
        paths = sorted((folder / "speed").rglob("*.dcm"))
        works = {
            "ours (find_scans)": lambda: find_scans(folder / "speed"),
            "pydicom headers": lambda: with_pydicom(paths),
            "open + read 4 KiB": lambda: limit(paths),
        }
        times: dict[str, list[tuple[float, float]]] = {label: [] for label in works}
        for _ in range(ROUNDS):  # in turns, so that a busy moment of the machine hits all alike
            for label, work in works.items():
                times[label].append(seconds(work))
        wall, cpu = ({label: min(took[i] for took in times[label]) for label in works} for i in (0, 1))
        for label in works:
            print(
                f"{label:<20}{wall[label]:8.2f} s  {wall[label] / FILES * 1e6:6.0f} us a file  CPU {cpu[label]:.2f} s"
            )
        (ours, peer, bound), (our_cpu, peer_cpu, _) = wall.values(), cpu.values()
        print(f"ours is {peer / ours:.2f} times as fast as pydicom (at least {TARGET}), {ours / bound:.0f} x the limit")
        print(f"in CPU time, which a busy machine does not blur, {peer_cpu / our_cpu:.2f} times as fast")
        for files in MEMORY_AT:
            make_series(folder / f"{files}", files)
            command = [sys.executable, "-m", "benchmarks.find_scans", str(folder / f"{files}")]
            grown = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
            print(f"memory for {files} files: {grown:.1f} MiB more than before, {grown * 1024 / files:.2f} KiB a file")
    return int(peer / ours < TARGET)


if __name__ == "__main__":
    if len(sys.argv) == 1:
        sys.exit(main())
    growth(Path(sys.argv[1]))
