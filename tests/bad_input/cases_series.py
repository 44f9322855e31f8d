"""Class E, first part: which slices belong together, in which order."""

import random
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, generate_uid

from pipeline.domain import ReadRules
from tests.bad_input.case import OK, SPLIT, Truth, case, reject, warn
from tests.bad_input.phantoms import at, both, ct, dicom_affine, plant, setting
from tests.scans.phantoms import ORIGIN, SLICES, STEP, dicom, pixels, write

SERIES_UID, STUDY_UID = "1.2.3.4", "1.2.3"
ONE_STUDY = setting(StudyInstanceUID=STUDY_UID)
SCRAMBLED = (3, 1, 6, 2, 5, 4)
STORED = pixels()
AT_SLICE_2 = tuple(ORIGIN + np.array([0, 0, 2 * STEP]))


def numbered(numbers: Sequence[int]):
    return lambda folder: ct(folder, lambda ds, k: setattr(ds, "InstanceNumber", numbers[k]))


def shuffled(seed: int):
    return lambda folder: ct(folder, seed=seed)


def without(folder: Path, missing: int = 2) -> None:
    ct(folder)
    height = ORIGIN[2] + missing * STEP
    next(p for p in folder.iterdir() if float(pydicom.dcmread(p).ImagePositionPatient[2]) == height).unlink()


def filled(folder: Path) -> Truth:
    """The missing slice is midway between its neighbours, as the phantom is linear along k."""
    without(folder)
    return Truth(STORED - 1024.0, dicom_affine(), within=1e-3)


def with_extra(
    stored: np.ndarray, position: Sequence[float], orientation: Sequence[float] = (1, 0, 0, 0, 1, 0), **values: object
):
    """The series and one more file of it."""

    def build(folder: Path) -> Truth:
        truth = ct(folder, ONE_STUDY, series_uid=SERIES_UID)
        ds = dicom(stored, position, orientation)
        plant(ds)
        both(ONE_STUDY, setting(SeriesInstanceUID=SERIES_UID, **values))(ds, 0)
        write(ds, folder / "ZZ.dcm")
        return truth

    return build


def halves(change: Callable[[Dataset, int, int], None], interleaved: bool = False):
    """Two volumes of three slices at the same places; `change(dataset, slice, volume)` tells them apart."""

    def place(k: int) -> tuple[int, int]:
        return (k // 2, k % 2) if interleaved else (k % 3, k // 3)

    def build(folder: Path) -> list[Truth]:
        def put(ds: Dataset, k: int) -> None:
            height, volume = place(k)
            ds.ImagePositionPatient = [*ORIGIN[:2], ORIGIN[2] + STEP * height]
            change(ds, height, volume)

        ct(folder, put)
        slices = [[k for k in range(SLICES) if place(k)[1] == volume] for volume in (0, 1)]
        return [Truth(STORED[ks] - 1024.0, dicom_affine()) for ks in slices]

    return build


def echo(ds: Dataset, k: int, volume: int) -> None:
    ds.EchoTime = ("10", "20")[volume]


def phase(keyword: str, values: Sequence[object]):
    return lambda ds, k, volume: setattr(ds, keyword, values[volume])


def b_value(ds: Dataset, k: int, volume: int) -> None:
    ds.DiffusionBValue = (0.0, 1000.0)[volume]


def magnitude(ds: Dataset, k: int, volume: int) -> None:
    ds.ImageType = ["ORIGINAL", "PRIMARY", "MP"[volume]]


def two_series(folder: Path) -> list[Truth]:
    first = ct(folder, setting(SeriesInstanceUID="1.2.1"))
    second = ct(folder / "second", setting(SeriesInstanceUID="1.2.2"), stored=STORED + 1)
    for path in (folder / "second").iterdir():
        shutil.move(path, folder / f"Z{path.name}")
    (folder / "second").rmdir()
    return [first, second]


def mixed_syntaxes(folder: Path) -> Truth:
    def change(ds: Dataset, k: int) -> None:
        if k % 2:
            ds.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.4.80")
            ds.PixelData = encapsulate([imagecodecs.jpegls_encode(STORED[k])])
            ds["PixelData"].is_undefined_length, ds["PixelData"].VR = True, "OB"

    return ct(folder, change)


def three_thousand(folder: Path) -> Truth:
    """Files that differ in their numbers only, written from one pattern."""
    count = 3000
    ds = dicom(STORED[0], (0, 0, 0))
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = "1.2.3.100000"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.ImagePositionPatient = STUDY_UID, SERIES_UID, ["0", "0", "111111"]
    plant(ds)
    pattern = write(ds, folder / "pattern.dcm").read_bytes()
    (folder / "pattern.dcm").unlink()
    names = random.Random(0).sample(range(count), count)
    values = np.empty((count, *STORED.shape[1:]))
    for k in range(count):
        values[k] = STORED[0] + k
        pixels_k = (STORED[0] + k).astype("<u2").tobytes()
        raw = pattern.replace(b"1.2.3.100000", b"1.2.3.1%05d" % k).replace(b"111111", b"%06d" % k)
        (folder / f"{names[k]}.dcm").write_bytes(raw[: -len(pixels_k)] + pixels_k)
    return Truth(values - 1024, dicom_affine(step=(0, 0, 1), origin=(0, 0, 0)))


def cut_slice(k: int, folder: Path) -> None:
    """Without this slice the others make a volume, but not the whole one."""
    ct(folder, ONE_STUDY, series_uid=SERIES_UID)
    path = next(
        p for p in folder.iterdir() if float(pydicom.dcmread(p).ImagePositionPatient[2]) == ORIGIN[2] + k * STEP
    )
    raw = path.read_bytes()
    path.write_bytes(raw[: raw.rindex(b"\xe0\x7f\x10\x00")])


def truncated_slice(folder: Path) -> None:
    ct(folder)
    path = sorted(folder.iterdir())[2]
    path.write_bytes(path.read_bytes()[:-80])


LOCALIZER = (0, 1, 0, 0, 0, -1)

CASES = (
    case("E1", "file names in another order than the slices", OK, shuffled(1), shuffled(2)),
    case("E2", "InstanceNumber backwards", OK, numbered(range(6, 0, -1))),
    case("E3", "InstanceNumber scrambled", OK, numbered(SCRAMBLED)),
    case("E4", "InstanceNumber 1 everywhere", OK, numbered([1] * 6)),
    case("E5", "no InstanceNumber, in one slice and in all", OK,
         lambda folder: ct(folder, at(2, setting(InstanceNumber=None))),
         lambda folder: ct(folder, setting(InstanceNumber=None))),
    case("E6", "a slice is missing", reject("missing_slices"), without),
    case("E6", "a slice is missing, and read.allow_gaps is set", warn("gaps_filled"), filled,
         rules=ReadRules(allow_gaps=True)),
    case("E7", "a slice twice, with equal pixels", warn("duplicate_slices"),
         with_extra(STORED[2], AT_SLICE_2)),
    case("E8", "two slices with different pixels at one place", reject("conflicting_slices"),
         with_extra(STORED[3], AT_SLICE_2)),
    case("E9", "a localizer of another orientation among the slices", warn("localizer_dropped"),
         with_extra(STORED[0], (0, 0, 0), LOCALIZER)),
    case("E10", "an axial localizer, by its ImageType; one without a place", warn("localizer_dropped"),
         with_extra(STORED[0], (0, 0, 0), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]),
         with_extra(STORED[0], (0, 0, 0), ImageType=["DERIVED", "LOCALIZER"], ImagePositionPatient=None)),
    case("E13", "two series in one folder", SPLIT, two_series),
    case("E14", "two echoes, interleaved", SPLIT, halves(echo, interleaved=True)),
    case("E15", "two phases: by position in time, acquisition time, trigger time", SPLIT,
         halves(phase("TemporalPositionIdentifier", (1, 2))), halves(phase("AcquisitionTime", ("100000", "100010.5"))),
         halves(phase("TriggerTime", ("0", "400")))),
    case("E16", "two b-values", SPLIT, halves(b_value)),
    case("E17", "magnitude and phase", SPLIT, halves(magnitude)),
    case("E18", "a slice of another patient, of another study", reject("mixed_patients"),
         lambda folder: ct(folder, at(2, setting(PatientID="CANARY-2"))),
         lambda folder: ct(folder, at(2, setting(StudyInstanceUID=generate_uid())))),
    case("E22", "slices in two transfer syntaxes", OK, mixed_syntaxes),
    case("E31", "3,000 slices", OK, three_thousand),
    case("E32", "a slice cut in its pixels", reject("truncated"), truncated_slice),
    case("E32", "the first, the last slice cut before its pixels", reject("truncated"),
         partial(cut_slice, 0), partial(cut_slice, SLICES - 1)),
)  # fmt: skip
