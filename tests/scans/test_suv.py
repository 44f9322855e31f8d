"""PET: SUVbw where the header allows it, else the stored unit with a warning; real-world value maps."""

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import EnhancedPETImageStorage

from pipeline.scans.find import read_volume
from tests.scans.phantoms import pixels, series
from tests.scans.test_enhanced import enhanced

# 70 kg and 350 MBq one half-life (an hour, to be easy to reckon) before the scan: 175 MBq are left, so that 1 Bq/ml
# is 70 000 g / 175e6 Bq = 4e-4 g/ml
FACTOR = 4e-4
ADMINISTRATION = 70_000 / 350e6


def pet(ds, k):
    ds.Modality, ds.Units, ds.DecayCorrection, ds.CorrectedImage = "PT", "BQML", "START", ["ATTN", "DECY", "SCAT"]
    ds.RescaleIntercept = "0"
    ds.PatientWeight = "70"
    ds.SeriesDate = ds.AcquisitionDate = "20200102"
    ds.SeriesTime, ds.AcquisitionTime = "100000.00", f"1000{k:02d}"
    dose = Dataset()
    dose.RadiopharmaceuticalStartTime, dose.RadionuclideTotalDose, dose.RadionuclideHalfLife = "090000", 350e6, 3600
    ds.RadiopharmaceuticalInformationSequence = Sequence([dose])


def dose_of(ds):
    return ds.RadiopharmaceuticalInformationSequence[0]


def read(tmp_path, change):
    def both(ds, k):
        pet(ds, k)
        change(ds)

    return read_volume(series(tmp_path, both))


def across_midnight(ds):
    ds.SeriesTime, ds.AcquisitionTime, dose_of(ds).RadiopharmaceuticalStartTime = "003000", "003001", "233000"


def with_datetime(ds):
    dose_of(ds).RadiopharmaceuticalStartTime = "010000"
    dose_of(ds).RadiopharmaceuticalStartDateTime = "20200102090000.0"


def in_another_zone(ds):
    del dose_of(ds).RadiopharmaceuticalStartTime
    dose_of(ds).RadiopharmaceuticalStartDateTime = "20200102080000+0000"


def corrected_to(ds):
    ds.SeriesTime, ds.DecayCorrectionDateTime = "170000", "20200102100000"


def by_ge(ds):
    ds.SeriesTime, ds.Manufacturer = "170000", "GE MEDICAL SYSTEMS"  # a series that was made later
    ds.private_block(0x0009, "GEMS_PETD_01", create=True).add_new(0x0D, "DT", "20200102100000.00")


def by_philips(to_suv, to_activity, owner="Philips PET Private Group"):
    def change(ds):
        ds.Units = "CNTS"
        block = ds.private_block(0x7053, owner, create=True)
        block.add_new(0x00, "DS", to_suv)
        block.add_new(0x09, "DS", to_activity)

    return change


@pytest.mark.parametrize(
    ("change", "factor"),
    [
        (lambda ds: None, FACTOR),
        (by_ge, FACTOR),
        (by_philips("0.0005", "2"), 0.0005),
        (by_philips("0", "2"), 2 * FACTOR),
        (across_midnight, FACTOR),
        (with_datetime, FACTOR),
        (corrected_to, FACTOR),
        (lambda ds: setattr(ds, "DecayCorrection", "ADMIN"), ADMINISTRATION),
        (lambda ds: setattr(ds, "Units", "GML"), 1),
        (lambda ds: (setattr(ds, "Units", "GML"), setattr(ds, "SUVType", "BW")), 1),
    ],
    ids=[
        "start",
        "GE",
        "Philips",
        "Philips activity",
        "midnight",
        "datetime",
        "decay datetime",
        "admin",
        "GML",
        "GML BW",
    ],
)
def test_suv_by_body_weight(tmp_path, change, factor):
    volume = read(tmp_path, change)
    assert (volume.unit, volume.warnings) == ("SUVbw", ())
    np.testing.assert_allclose(volume.voxels[::-1, ::-1].transpose(2, 1, 0), pixels() * factor, rtol=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        lambda ds: setattr(ds, "Units", "CNTS"),
        lambda ds: (setattr(ds, "Units", "GML"), setattr(ds, "SUVType", "LBM")),
        by_philips("0", "0"),
        by_philips("0.0005", "2", owner="SOMEBODY ELSE"),
        lambda ds: (by_philips("0.0005", "2")(ds), setattr(ds, "CorrectedImage", ["ATTN"])),
        lambda ds: (by_ge(ds), setattr(ds, "AcquisitionTime", "090000")),
        lambda ds: setattr(ds, "PatientWeight", "70000"),
        lambda ds: setattr(dose_of(ds), "RadionuclideTotalDose", 350),
        lambda ds: setattr(dose_of(ds), "RadionuclideHalfLife", 60),
        lambda ds: delattr(ds, "PatientWeight"),
        lambda ds: setattr(ds, "PatientWeight", "0"),
        lambda ds: setattr(ds, "DecayCorrection", "NONE"),
        lambda ds: setattr(ds, "CorrectedImage", ["DECY"]),
        lambda ds: delattr(ds, "RadiopharmaceuticalInformationSequence"),
        lambda ds: ds.RadiopharmaceuticalInformationSequence.append(dose_of(ds)),
        lambda ds: delattr(dose_of(ds), "RadionuclideHalfLife"),
        lambda ds: delattr(dose_of(ds), "RadiopharmaceuticalStartTime"),
        lambda ds: setattr(ds, "SeriesTime", "170000"),
        lambda ds: setattr(ds, "AcquisitionTime", ""),
        lambda ds: setattr(dose_of(ds), "RadiopharmaceuticalStartDateTime", "20191224090000"),
        lambda ds: (with_datetime(ds), in_another_zone(ds)),
    ],
    ids=[
        *("counts", "lean body mass", "Philips without", "not Philips", "Philips not corrected", "GE made later"),
        *(
            "weight in g",
            "dose in MBq",
            "half-life in min",
            "no weight",
            "weight 0",
            "no decay correction",
            "no attenuation correction",
        ),
        *("no dose", "two injections", "no half-life", "no injection time", "made later", "no acquisition time"),
        *("injected days before", "another time zone"),
    ],
)
def test_without_all_that_is_needed_values_stay_as_they_are(tmp_path, change):
    volume = read(tmp_path, change)
    assert (volume.unit, volume.warnings) == ("a.u.", ("no_suv",))
    np.testing.assert_array_equal(volume.voxels[::-1, ::-1].transpose(2, 1, 0), pixels())


def real_world(ds, slope, unit, intercept=-1000.0):
    code, world = Dataset(), Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = unit, "UCUM", "a unit"
    world.RealWorldValueSlope, world.RealWorldValueIntercept = slope, intercept
    world.MeasurementUnitsCodeSequence = Sequence([code])
    return world


def test_a_real_world_value_map_counts_only_without_rescale(tmp_path):
    def change(ds, k):
        ds.RealWorldValueMappingSequence = Sequence([real_world(ds, 2.0, "[hnsf'U]")])

    def bare(ds, k):
        change(ds, k)
        del ds.RescaleSlope, ds.RescaleIntercept

    def two_maps(ds, k):
        bare(ds, k)
        ds.RealWorldValueMappingSequence.append(real_world(ds, 3.0, "1"))

    rescaled, mapped = read_volume(series(tmp_path / "a", change)), read_volume(series(tmp_path / "b", bare))
    assert rescaled.voxels.min() == 100 - 1024
    assert (mapped.voxels.min(), mapped.unit, mapped.warnings) == (100 * 2 - 1000, "HU", ())
    several = read_volume(series(tmp_path / "c", two_maps))
    assert (several.voxels.min(), several.warnings) == (100, ("no_rescale",))


def enhanced_pet(path, change=lambda ds: None, slope=2.0, unit="Bq/ml", mapped=2.0):
    """A PET in one file: its unit stands in the real-world value map, corrections and dose in modules of their own."""

    def frame(group, k):
        group.PETFrameTypeSequence = Sequence([Dataset()])
        group.PETFrameTypeSequence[0].FrameType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
        transformation = group.PixelValueTransformationSequence[0]
        transformation.RescaleSlope, transformation.RescaleIntercept, transformation.RescaleType = slope, 0, "US"
        group.RealWorldValueMappingSequence = Sequence([real_world(None, mapped, unit, 0.0)])

    def pet(ds):
        ds.Modality, ds.SOPClassUID = "PT", EnhancedPETImageStorage
        ds.file_meta.MediaStorageSOPClassUID = EnhancedPETImageStorage
        ds.PatientWeight, ds.AttenuationCorrected, ds.DecayCorrected = "70", "YES", "YES"
        ds.DecayCorrectionDateTime = "20200102100000"
        dose = Dataset()
        dose.RadiopharmaceuticalStartDateTime, dose.RadionuclideTotalDose, dose.RadionuclideHalfLife = (
            "20200102090000.00",
            350e6,
            3600,
        )
        ds.RadiopharmaceuticalInformationSequence = Sequence([dose])
        change(ds)

    return read_volume(enhanced(path / "pet.dcm", pet, frame))


@pytest.mark.parametrize(("unit", "factor"), [("Bq/ml", FACTOR), ("{SUVbw}g/ml", 1)])
def test_an_enhanced_pet_in_one_file_gives_suv(tmp_path, unit, factor):
    volume = enhanced_pet(tmp_path, unit=unit)
    assert (volume.unit, volume.warnings) == ("SUVbw", ())
    np.testing.assert_allclose(volume.voxels[::-1, ::-1].transpose(2, 1, 0), pixels() * 2 * factor, rtol=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        {"change": lambda ds: setattr(ds, "AttenuationCorrected", "NO")},
        {"change": lambda ds: delattr(ds, "DecayCorrected")},
        {"change": lambda ds: delattr(ds, "DecayCorrectionDateTime")},
        {"change": lambda ds: delattr(dose_of(ds), "RadiopharmaceuticalStartDateTime")},
        {"change": lambda ds: delattr(ds, "PatientWeight")},
        {"unit": "{counts}/s"},
        {"mapped": 3.0},
    ],
    ids=["attenuation", "decay", "decay time", "injection time", "weight", "unit", "another map"],
)
def test_an_enhanced_pet_without_all_that_is_needed_stays_as_it_is(tmp_path, change):
    volume = enhanced_pet(tmp_path, **change)
    assert (volume.unit, volume.warnings) == ("a.u.", ("no_suv",))
    np.testing.assert_array_equal(volume.voxels[::-1, ::-1].transpose(2, 1, 0), pixels() * 2)
