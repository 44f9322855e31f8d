"""Class D: what the stored numbers mean."""

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from tests.bad_input.case import OK, Truth, case, reject, warn
from tests.bad_input.phantoms import ct, dicom_affine, setting
from tests.scans.phantoms import pixels
from tests.scans.test_enhanced import enhanced

STORED = pixels()


def per_slice(folder: Path) -> Truth:
    def change(ds, k: int) -> None:
        ds.Modality, ds.RescaleSlope, ds.RescaleIntercept = "MR", str(k + 1), "10"

    return ct(folder, change, values=STORED * np.arange(1.0, 7).reshape(6, 1, 1) + 10)


def rescale(slope: str, intercept: str):
    def change(ds, k: int) -> None:
        ds["RescaleSlope"]._value, ds["RescaleIntercept"]._value = slope, intercept  # pydicom would not write them

    return lambda folder: ct(folder, change)


def no_rescale(ds, k: int) -> None:
    del ds.RescaleSlope, ds.RescaleIntercept


def modality_lut(folder: Path) -> Truth:
    def change(ds, k: int) -> None:
        no_rescale(ds, k)
        ds.ModalityLUTSequence = table([2 * i for i in range(1000)])
        ds.ModalityLUTSequence[0].ModalityLUTType = "HU"

    return ct(folder, change, values=STORED * 2.0)


def table(values: list[int]) -> Sequence:
    item = Dataset()
    item.LUTDescriptor, item.LUTData = [len(values), 0, 16], values
    item["LUTDescriptor"].VR = item["LUTData"].VR = "US"
    return Sequence([item])


def voi_lut(folder: Path) -> Truth:
    return ct(folder, lambda ds, k: setattr(ds, "VOILUTSequence", table([7] * 1000)))


def air_and_water(folder: Path) -> Truth:
    stored = np.where(STORED % 2, 24, 1024).astype(np.uint16)
    truth = ct(folder, stored=stored)
    assert set(np.unique(truth.values)) == {-1000.0, 0.0}
    return truth


def mixed(keyword: str, first: str, other: str, modality: str):
    def change(ds, k: int) -> None:
        ds.Modality = modality
        setattr(ds, keyword, other if k == 3 else first)

    return lambda folder: ct(folder, change)


def bare_among_rescaled(ds, k: int) -> None:
    if k == 3:
        no_rescale(ds, k)


def per_frame(folder: Path) -> Truth:
    """An enhanced file whose frame of slice k has the slope k + 1."""

    def frame(group: Dataset, k: int) -> None:
        group.PixelValueTransformationSequence[0].RescaleSlope = k + 1

    enhanced(folder / "a.dcm", frame=frame)
    return Truth(STORED * np.arange(1.0, 7).reshape(6, 1, 1) - 1024, dicom_affine())


CASES = (
    case("D1", "one slope and intercept: applied", OK,
         lambda folder: ct(folder, setting(RescaleSlope="2", RescaleIntercept="-5"), values=STORED * 2.0 - 5)),
    case("D2", "another slope in each slice: applied slice by slice", OK, per_slice),
    case("D3", "a slope of nan, inf, abc, 0; an intercept that is no number", reject("bad_rescale"),
         rescale("nan", "0"), rescale("inf", "0"), rescale("abc", "0"), rescale("0", "0"), rescale("1", "x")),
    case("D4", "a CT without rescale", warn("no_rescale"), lambda folder: ct(folder, no_rescale, values=STORED * 1.0)),
    case("D5", "a Modality LUT: applied", OK, modality_lut),
    case("D6", "a window: not applied", OK, lambda folder: ct(folder, setting(WindowCenter="40", WindowWidth="10"))),
    case("D7", "a VOI LUT: not applied", OK, voi_lut),
    case("D8", "air and water: -1000 and 0 HU", OK, air_and_water),
    case("D9", "units mixed in one series: BQML and CNTS; HU and US; CT and MR; scaled and not", reject("mixed_units"),
         mixed("Units", "BQML", "CNTS", "PT"), mixed("RescaleType", "HU", "US", "CT"),
         mixed("Modality", "CT", "MR", "CT"), lambda folder: ct(folder, bare_among_rescaled)),
    case("D10", "an enhanced file with a rescale for each frame: applied frame by frame", OK, per_frame),
)  # fmt: skip
