"""DICOM series and pictures: the right voxels in the right place, in the right unit, or a refusal."""

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from pipeline.domain import ReadRules, ScanError
from pipeline.scans.find import read_volume
from tests.scans.phantoms import AXIAL, STEP, dicom, expected_world, pixels, put_pixels, series, write


def nothing(ds, k):
    pass


def lookup(volume, stored_value):
    """World position of the one voxel that holds a stored value (rescaled)."""
    place = np.argwhere(volume.voxels == stored_value - 1024)
    assert len(place) == 1
    return (volume.affine @ [*place[0], 1])[:3]


def renumber(ds, k):
    ds.InstanceNumber = [3, 1, 6, 2, 5, 4][k]


def drop_number(ds, k):
    del ds.InstanceNumber


@pytest.mark.parametrize(
    "change",
    [
        nothing,
        renumber,
        drop_number,
        lambda ds, k: setattr(ds, "InstanceNumber", 1),
        lambda ds, k: setattr(ds, "SliceThickness", "7"),
        lambda ds, k: delattr(ds, "FrameOfReferenceUID"),
        lambda ds, k: k % 2 and delattr(ds, "FrameOfReferenceUID"),
    ],
    ids=["plain", "scrambled", "missing", "equal", "thickness", "no frame of reference", "named by half"],
)
def test_order_and_spacing_come_from_positions_alone(tmp_path, change):
    truth = read_volume(series(tmp_path / "truth"))
    volume = read_volume(series(tmp_path / "odd", change, seed=3))
    np.testing.assert_array_equal(volume.voxels, truth.voxels)
    np.testing.assert_array_equal(volume.affine, truth.affine)
    assert (volume.unit, volume.orientation, volume.warnings) == ("HU", "LPS", ())
    np.testing.assert_allclose(volume.spacing_mm, (0.7, 0.5, STEP))


@pytest.mark.parametrize(
    ("orientation", "step"),
    [
        (AXIAL, (0, 0, 2.5)),
        (AXIAL, (0, 0, -2.5)),
        (AXIAL, (0, 0.5, 2.5)),
        ((-1, 0, 0, 0, -1, 0), (0, 0, 2.5)),
        ((0, 1, 0, 0, 0, -1), (3, 0, 0)),
        ((0, 1, 0, 0, 0, -1), (-3, 0, 0)),
        ((1, 0, 0, 0, 0, -1), (0, 3, 0)),
        ((1, 0, 0, 0, 0.8660254, 0.5), (0, -1.5, 2.598076)),
    ],
    ids=["axial", "feet first", "tilt", "prone", "sagittal", "sagittal back", "coronal", "oblique"],
)
def test_every_pixel_lies_where_the_standard_says(tmp_path, orientation, step):
    volume = read_volume(series(tmp_path, orientation=orientation, step=step))
    for k, row, column in [(0, 0, 0), (5, 7, 9), (2, 3, 4), (4, 0, 9)]:
        world = expected_world(k, row, column, step, orientation)
        np.testing.assert_allclose(lookup(volume, int(pixels()[k, row, column])), world, atol=1e-3)
    cosines = volume.affine[:3, :3] / volume.spacing_mm
    assert (np.diag(cosines) > 0.7).all()


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16])
def test_native_transfer_syntaxes_read_alike(tmp_path, syntax, dtype):
    stored = (pixels(1)[0] - 90).astype(dtype)
    stored = stored - 60 if dtype == np.int16 else stored
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    ds = dicom(stored, (0, 0, 0), syntax=syntax)
    ds.PixelData = stored.astype(stored.dtype.newbyteorder(order)).tobytes()
    ds.StudyInstanceUID = ds.SeriesInstanceUID = "1.2"
    volume = read_volume(write_as(ds, tmp_path / "x.dcm", syntax))
    np.testing.assert_array_equal(volume.voxels[::-1, ::-1, 0].T, stored.astype(np.float32) - 1024)


def write_as(ds, path, syntax):
    ds.save_as(path, enforce_file_format=True, implicit_vr=syntax.is_implicit_VR, little_endian=syntax.is_little_endian)
    return path


def stack_of(tmp_path, change, **more):
    return read_volume(series(tmp_path, change, **more))


def test_rescale_is_applied_slice_by_slice(tmp_path):
    def change(ds, k):
        ds.RescaleSlope, ds.RescaleIntercept = str(k + 1), "10"

    volume = stack_of(tmp_path, change)
    for k in range(6):
        np.testing.assert_allclose(volume.voxels[::-1, ::-1, k].T, pixels()[k] * (k + 1.0) + 10)


def test_air_and_water_are_where_they_belong(tmp_path):
    stored = np.where(pixels(2) % 2, 24, 1024).astype(np.uint16)
    volume = stack_of(tmp_path, nothing, stored=stored, slices=2)
    assert set(np.unique(volume.voxels)) == {-1000.0, 0.0}


@pytest.mark.parametrize(("slope", "intercept"), [("nan", "0"), ("inf", "0"), ("abc", "0"), ("0", "0"), ("1", "x")])
def test_a_rescale_that_is_none_is_refused(tmp_path, slope, intercept):
    def change(ds, k):
        ds.RescaleSlope, ds.RescaleIntercept = "1", "0"
        ds["RescaleSlope"]._value, ds["RescaleIntercept"]._value = slope, intercept

    with pytest.raises(ScanError, match=r"bad_rescale: RescaleSlope and RescaleIntercept must be finite"):
        stack_of(tmp_path, change)


def no_rescale(ds, k):
    del ds.RescaleSlope, ds.RescaleIntercept


def test_ct_without_rescale_is_marked(tmp_path):
    volume = stack_of(tmp_path, no_rescale)
    assert (volume.unit, volume.warnings) == ("a.u.", ("no_rescale",))


def test_mixed_units_are_refused(tmp_path):
    with pytest.raises(ScanError, match="mixed_units"):
        stack_of(tmp_path, lambda ds, k: setattr(ds, "RescaleType", "HU" if k else "US"))


def test_a_modality_lut_is_applied(tmp_path):
    def change(ds, k):
        no_rescale(ds, k)
        table = Dataset()
        table.LUTDescriptor, table.ModalityLUTType = [1000, 0, 16], "HU"
        table["LUTDescriptor"].VR = "US"
        table.LUTData = [2 * i for i in range(1000)]
        table["LUTData"].VR = "US"
        ds.ModalityLUTSequence = Sequence([table])

    volume = stack_of(tmp_path, change)
    np.testing.assert_array_equal(volume.voxels[::-1, ::-1, 0].T, pixels()[0] * 2.0)


def test_the_window_is_never_applied(tmp_path):
    def change(ds, k):
        ds.WindowCenter, ds.WindowWidth = "40", "10"

    np.testing.assert_array_equal(stack_of(tmp_path / "w", change).voxels, stack_of(tmp_path / "o", nothing).voxels)


def test_signed_12_bits_in_16_and_overlay_bits(tmp_path):
    signed = pixels().astype(np.int16) - 300

    def change(ds, k):
        stored = (signed[k] & 0x0FFF).view(np.uint16) | 0xF000 * (k % 2)
        put_pixels(ds, stored.astype(np.uint16), bits=12)
        ds.PixelRepresentation = 1

    volume = stack_of(tmp_path, change)
    np.testing.assert_array_equal(volume.voxels[::-1, ::-1].transpose(2, 1, 0), signed - 1024.0)


def test_unsigned_overlay_bits_are_masked(tmp_path):
    volume = stack_of(tmp_path, lambda ds, k: put_pixels(ds, pixels()[k] | 0x8000, bits=12))
    np.testing.assert_array_equal(volume.voxels[::-1, ::-1].transpose(2, 1, 0), pixels() - 1024.0)


@pytest.mark.parametrize(("declared", "signed"), [(-2000, True), (63536, True), (63536, False)])
def test_padding_takes_the_smallest_true_value(tmp_path, declared, signed):
    def change(ds, k):
        stored = pixels()[k].astype(np.int16)
        stored[0, :5] = -2000
        put_pixels(ds, stored if signed else stored.view(np.uint16))
        ds.add_new("PixelPaddingValue", "SS" if declared < 0 else "US", declared)

    volume = stack_of(tmp_path, change)
    assert volume.voxels.min() == int(pixels()[0, 0, 5]) - 1024
    assert np.isfinite(volume.voxels).all()


@pytest.mark.parametrize(("modality", "smallest"), [("MR", 0), ("CT", 105)])
def test_zero_is_padding_except_where_it_means_no_signal(tmp_path, modality, smallest):
    def change(ds, k):
        stored = pixels()[k]
        stored[0, :5] = 0
        put_pixels(ds, stored)
        ds.PixelPaddingValue, ds.Modality, ds.RescaleIntercept = 0, modality, "0"
        ds["PixelPaddingValue"].VR = "US"

    assert stack_of(tmp_path, change).voxels.min() == smallest


@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
def test_monochrome1_is_turned_around_its_stored_bits(tmp_path, dtype):
    def dx(name, stored, photometric):
        ds = dicom(stored, (0, 0, 0))
        put_pixels(ds, stored, bits=12)
        ds.Modality, ds.PhotometricInterpretation, ds.SeriesInstanceUID = "DX", photometric, "1.2"
        no_rescale(ds, 0)
        return read_volume(write(ds, tmp_path / name))

    stored = pixels(1)[0].astype(dtype)
    turned = (4095 - stored if dtype == np.uint16 else -1 - stored).astype(dtype)
    one, two = dx("1.dcm", stored, "MONOCHROME1"), dx("2.dcm", turned, "MONOCHROME2")
    np.testing.assert_array_equal(one.voxels, two.voxels)


def test_hu_are_not_turned_by_monochrome1(tmp_path):
    one = stack_of(tmp_path / "1", lambda ds, k: setattr(ds, "PhotometricInterpretation", "MONOCHROME1"))
    np.testing.assert_array_equal(one.voxels, stack_of(tmp_path / "2", nothing).voxels)


def colour(tmp_path, photometric, stored, planar=0):
    ds = dicom(np.zeros((4, 6), np.uint8), (0, 0, 0))
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration, ds.Modality = 3, photometric, planar, "US"
    ds.PixelData, ds.SeriesInstanceUID = stored.tobytes(), "1.2"
    no_rescale(ds, 0)
    return read_volume(write(ds, tmp_path / f"{photometric}{planar}.dcm")).voxels[::-1, ::-1, 0].transpose(1, 0, 2)


def test_colour_is_read_as_rgb(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 255, (4, 6, 3)).astype(np.uint8)
    np.testing.assert_array_equal(colour(tmp_path, "RGB", rgb), rgb)
    np.testing.assert_array_equal(colour(tmp_path, "RGB", rgb.transpose(2, 0, 1).copy(), planar=1), rgb)
    red = np.zeros((4, 6, 3), np.uint8)
    red[:] = (76, 85, 255)
    np.testing.assert_allclose(colour(tmp_path, "YBR_FULL", red), np.broadcast_to([254, 0, 0], (4, 6, 3)), atol=1)
    planes = colour(tmp_path, "YBR_FULL", red.transpose(2, 0, 1).copy(), planar=1)
    np.testing.assert_allclose(planes, np.broadcast_to([254, 0, 0], (4, 6, 3)), atol=1)
    half = np.tile(np.array([76, 76, 85, 255], np.uint8), 12)
    np.testing.assert_allclose(colour(tmp_path, "YBR_FULL_422", half), np.broadcast_to([254, 0, 0], (4, 6, 3)), atol=1)


def test_a_palette_becomes_rgb(tmp_path):
    ds = dicom(np.array([[0, 1], [2, 3]], np.uint8), (0, 0, 0))
    ds.PhotometricInterpretation, ds.Modality, ds.SeriesInstanceUID = "PALETTE COLOR", "US", "1.2"
    for i, name in enumerate(("Red", "Green", "Blue")):
        setattr(ds, f"{name}PaletteColorLookupTableDescriptor", [4, 0, 8])
        ds[f"{name}PaletteColorLookupTableDescriptor"].VR = "US"
        setattr(ds, f"{name}PaletteColorLookupTableData", bytes([10 * i, 20, 30, 40]))
    no_rescale(ds, 0)
    volume = read_volume(write(ds, tmp_path / "p.dcm"))
    assert volume.voxels.shape == (2, 2, 1, 3)
    np.testing.assert_array_equal(volume.voxels[1, 1, 0], [0, 10, 20])


@pytest.mark.parametrize(
    ("modality", "said", "warnings"),
    [
        ("DX", {}, ("detector_spacing",)),
        ("DX", {"EstimatedRadiographicMagnificationFactor": "1.08"}, ()),
        ("DX", {"EstimatedRadiographicMagnificationFactor": "1.5"}, ("detector_spacing",)),
        ("DX", {"EstimatedRadiographicMagnificationFactor": "0.5"}, ("detector_spacing",)),
        ("DX", {"DistanceSourceToDetector": "1800", "DistanceSourceToPatient": "1700"}, ()),
        ("DX", {"DistanceSourceToDetector": "1000", "DistanceSourceToPatient": "700"}, ("detector_spacing",)),
        ("DX", {"DistanceSourceToDetector": "1000", "DistanceSourceToPatient": "0"}, ("detector_spacing",)),
        ("DX", {"PixelSpacing": ["0.1", "0.1"]}, ()),
        ("MG", {"ImageLaterality": "L"}, ()),
        ("MG", {"ImageLaterality": "L", "EstimatedRadiographicMagnificationFactor": "1.8"}, ("detector_spacing",)),
    ],
)
def test_spacing_at_the_detector_is_said_where_it_may_mislead(tmp_path, modality, said, warnings):
    ds = dicom(pixels()[0], (0, 0, 0))
    del ds.ImagePositionPatient, ds.ImageOrientationPatient, ds.PixelSpacing
    ds.Modality, ds.SeriesInstanceUID, ds.ImagerPixelSpacing = modality, "1.2", [0.2, 0.1]
    for keyword, value in said.items():
        setattr(ds, keyword, value)
    assert read_volume(write(ds, tmp_path / "a.dcm")).warnings == warnings


def test_pictures_have_detector_spacing_or_say_that_they_have_none(tmp_path):
    ds = dicom(pixels(1)[0], (0, 0, 0))
    ds.Modality, ds.SeriesInstanceUID, ds.ImagerPixelSpacing = "CR", "1.2", [0.2, 0.1]
    del ds.PixelSpacing
    volume = read_volume(write(ds, tmp_path / "a.dcm"))
    np.testing.assert_allclose(volume.spacing_mm, (0.1, 0.2, 1))
    assert volume.warnings == ("detector_spacing",)
    del ds.ImagerPixelSpacing
    volume = read_volume(write(ds, tmp_path / "b.dcm"))
    assert (volume.spacing_mm, volume.warnings) == ((1, 1, 1), ("no_spacing",))


def test_a_lone_slice_has_its_true_place(tmp_path):
    volume = stack_of(tmp_path, nothing, slices=1)
    np.testing.assert_allclose(volume.spacing_mm, (0.7, 0.5, 9))
    np.testing.assert_allclose(lookup(volume, 100), [20, 30, 10])


def test_a_missing_slice_is_refused_or_filled_when_allowed(tmp_path):
    folder = series(tmp_path)
    whole = read_volume(folder)
    next(path for path in folder.iterdir() if read_position(path) == 15).unlink()
    with pytest.raises(
        ScanError, match=r"missing_slices: slice positions step by 2.5 mm, but by 5 mm after slice 2 of 5"
    ):
        read_volume(folder)
    filled = read_volume(folder, ReadRules(allow_gaps=True))
    assert filled.warnings == ("gaps_filled",)
    assert filled.shape == whole.shape
    np.testing.assert_allclose(filled.voxels, whole.voxels, atol=1e-3)  # the phantom is linear along k
    np.testing.assert_allclose(filled.affine, whole.affine)


def read_position(path):
    import pydicom

    return float(pydicom.dcmread(path).ImagePositionPatient[2])


def duplicate(tmp_path, other):
    series(tmp_path, lambda ds, k: setattr(ds, "StudyInstanceUID", "1.2"), series_uid="1.2.3")
    ds = dicom(other, (-20, -30, 15))
    ds.StudyInstanceUID, ds.SeriesInstanceUID = "1.2", "1.2.3"
    write(ds, tmp_path / "ZZ.dcm")
    return tmp_path


def test_a_duplicate_slice_is_dropped_if_equal_and_refused_if_not(tmp_path):
    volume = read_volume(duplicate(tmp_path / "same", pixels()[2]))
    assert (volume.shape, volume.warnings) == ((10, 8, 6), ("duplicate_slices",))
    with pytest.raises(ScanError, match=r"conflicting_slices: 2 slices with different pixels lie at one position"):
        read_volume(duplicate(tmp_path / "other", pixels()[3]))


@pytest.mark.parametrize("cut", [1, 80, 160])
def test_a_truncated_slice_is_refused_never_filled(tmp_path, cut):
    path = sorted(series(tmp_path).iterdir())[2]
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(ScanError, match=r"truncated: 160 bytes of pixels expected"):
        read_volume(tmp_path)


def set_length(path, length):
    content = path.read_bytes()
    at = content.rindex(b"\xe0\x7f\x10\x00OW\0\0") + 8
    path.write_bytes(content[:at] + length.to_bytes(4, "little") + content[at + 4 :])


@pytest.mark.parametrize(
    ("length", "reason"), [(2**31, "length_mismatch"), (0xFFFFFFFF, "malformed"), (10, "length_mismatch")]
)
def test_a_wrong_pixel_length_is_refused(tmp_path, length, reason):
    set_length(next(series(tmp_path, slices=1).iterdir()), length)
    with pytest.raises(ScanError, match=reason):
        read_volume(tmp_path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"BitsStored": 12, "HighBit": 15}, "bad_bits"),
        ({"BitsAllocated": 12}, "bad_bits"),
        ({"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0}, "unsupported_pixels"),
        ({"SamplesPerPixel": 4}, "unsupported_pixels"),
        ({"PhotometricInterpretation": "CMYK"}, "unsupported_pixels"),
        ({"Rows": 0}, "bad_dimensions"),
        ({"NumberOfFrames": -1}, "bad_dimensions"),
        ({"NumberOfFrames": 2_000_000_000}, "bad_dimensions"),
        ({"Rows": 65535, "Columns": 65535}, "bad_dimensions"),
        ({"Rows": 9}, "truncated"),
        ({"PixelSpacing": None}, "no_spacing"),
        ({"PixelSpacing": [0, 1]}, "bad_spacing"),
    ],
)
def test_bad_headers_are_refused_before_anything_is_allocated(tmp_path, changes, reason):
    def change(ds, k):
        for keyword, value in changes.items():
            if value is None:
                delattr(ds, keyword)
            else:
                setattr(ds, keyword, value)

    with pytest.raises(ScanError, match=reason):
        stack_of(tmp_path, change, slices=1)


def test_a_blank_image_is_marked(tmp_path):
    assert stack_of(tmp_path, nothing, stored=np.full((6, 8, 10), 7, np.uint16)).warnings == ("blank",)


def test_an_executable_preamble_and_burned_in_text_are_marked(tmp_path):
    def change(ds, k):
        ds.preamble = b"MZ" + bytes(126)
        ds.BurnedInAnnotation = "YES"

    assert set(stack_of(tmp_path, change).warnings) == {"executable_preamble", "burned_in"}


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        (ReadRules(modalities=("MR",)), "modality: expected MR, found CT"),
        (ReadRules(min_slices=7), "too_few_slices: 6 slices"),
        (ReadRules(max_voxels=10), "too_large"),
    ],
)
def test_rules_are_kept(tmp_path, rules, reason):
    with pytest.raises(ScanError, match=reason):
        read_volume(series(tmp_path), rules)
