"""NIfTI files: affine rules, header guards, checksums, scaling."""

import gzip
import struct
from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest

from pipeline.domain import ReadRules, ScanError
from pipeline.scans.find import find_scans, read_volume
from tests.scans.phantoms import nifti

AFFINE = np.array([[2.0, 0, 0, -10], [0, 3, 0, -20], [0, 0, 4, 5], [0, 0, 0, 1]])
FLIPPED = AFFINE @ np.diag([-1, 1, 1, 1])


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.hdr"])
def test_voxels_and_affine_come_out_as_they_went_in(tmp_path, name):
    voxels = np.random.default_rng(0).integers(-99, 99, (4, 5, 6)).astype(np.int16)
    if name == "a.hdr":
        nib.save(nib.Nifti1Pair(voxels, AFFINE), tmp_path / name)
    else:
        nifti(tmp_path / name, voxels)
    (scan,), rejections = find_scans(tmp_path)
    assert rejections == []
    volume = read_volume(scan)
    np.testing.assert_array_equal(volume.voxels, voxels)
    np.testing.assert_allclose(volume.affine, AFFINE)
    assert (volume.unit, volume.orientation, volume.warnings) == ("a.u.", "RAS", ())
    assert volume.voxels.dtype == np.float32


@pytest.mark.parametrize("axes", list(permutations(range(3))))
def test_all_48_orientations_give_one_volume(tmp_path, axes):
    truth = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    for signs in product((-1, 1), repeat=3):
        orientation = [[axes[i], signs[i]] for i in range(3)]
        affine = AFFINE @ nib.orientations.inv_ornt_aff(orientation, truth.shape)
        volume = read_volume(nifti(tmp_path / "x.nii", nib.orientations.apply_orientation(truth, orientation), affine))
        np.testing.assert_array_equal(volume.voxels, truth)
        np.testing.assert_allclose(volume.affine, AFFINE, atol=1e-5)


def test_wrong_names_are_seen_through(tmp_path):
    zipped = nifti(tmp_path / "a.nii.gz").rename(tmp_path / "b.nii")
    plain = nifti(tmp_path / "c.nii").rename(tmp_path / "d.nii.gz")
    np.testing.assert_array_equal(read_volume(zipped).voxels, read_volume(plain).voxels)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32, np.float64, np.uint64])
def test_numbers_of_every_kind(tmp_path, dtype):
    voxels = np.arange(24).reshape(2, 3, 4).astype(dtype)
    image = nib.Nifti1Image(voxels, AFFINE, dtype=dtype)
    nib.save(image, tmp_path / "a.nii")
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nii").voxels, voxels)


def test_big_endian_and_nifti2(tmp_path):
    voxels = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    big = nib.Nifti1Header(endianness=">")
    nib.save(nib.Nifti1Image(voxels, AFFINE, big), tmp_path / "big.nii")
    nib.save(nib.Nifti2Image(voxels, AFFINE), tmp_path / "two.nii.gz")
    for name in ("big.nii", "two.nii.gz"):
        np.testing.assert_array_equal(read_volume(tmp_path / name).voxels, voxels)


def test_slope_and_intercept(tmp_path):
    voxels = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    path = nifti(tmp_path / "a.nii", voxels)
    patch(path, 112, struct.pack("<ff", 0.5, -3))
    np.testing.assert_allclose(read_volume(path).voxels, voxels * 0.5 - 3)
    patch(path, 112, struct.pack("<ff", 0, 7))
    np.testing.assert_allclose(read_volume(path).voxels, voxels)


def test_units_become_millimetres(tmp_path):
    for unit, scale in (("meter", 1e-3), ("micron", 1e3)):
        affine = np.diag([*(np.array([2.0, 3, 4]) * scale), 1])
        path = nifti(tmp_path / f"{unit}.nii", None, affine, lambda header, unit=unit: header.set_xyzt_units(unit))
        np.testing.assert_allclose(read_volume(path).spacing_mm, (2, 3, 4), rtol=1e-5)


def with_forms(path, sform_code, qform_code, qform=AFFINE):
    """A file with the two codes; nibabel itself would set a missing one."""
    nifti(path, None, None, lambda header: header.set_qform(qform, 1))
    patch(path, 252, struct.pack("<hh", qform_code, sform_code))
    return path


def test_sform_wins_over_qform_and_qform_over_nothing(tmp_path):
    moved = AFFINE.copy()
    moved[:3, 3] += 50
    np.testing.assert_allclose(read_volume(with_forms(tmp_path / "a.nii", 4, 1, moved)).affine, AFFINE)
    np.testing.assert_allclose(read_volume(with_forms(tmp_path / "b.nii", 0, 1, moved)).affine, moved)


def test_no_orientation_is_refused_unless_ras_is_assumed(tmp_path):
    path = with_forms(tmp_path / "a.nii", 0, 0)
    with pytest.raises(ScanError, match=r"no_orientation: neither sform nor qform"):
        read_volume(path)
    volume = read_volume(path, ReadRules(assume_ras=True))
    np.testing.assert_allclose(volume.affine, np.diag([2, 3, 4, 1]))
    assert volume.warnings == ("assumed_ras",)


def test_an_identity_affine_is_fine_when_it_is_meant(tmp_path):
    assert read_volume(nifti(tmp_path / "a.nii", None, np.eye(4))).spacing_mm == (1, 1, 1)


def test_left_right_conflict_is_refused(tmp_path):
    with pytest.raises(ScanError, match=r"orientation_conflict: sform and qform mirror each other"):
        read_volume(with_forms(tmp_path / "a.nii", 1, 1, FLIPPED))
    with pytest.raises(ScanError, match=r"orientation_conflict: sform and qform disagree about left and right"):
        read_volume(with_forms(tmp_path / "b.nii", 1, 1, AFFINE @ np.diag([-1, -1, 1, 1])))


def patch(path, at, content):
    raw = bytearray(path.read_bytes())
    raw[at : at + len(content)] = content
    path.write_bytes(raw)


SHORT, FLOAT = "<h", "<f"


@pytest.mark.parametrize(
    ("at", "form", "value", "reason"),
    [
        (40, SHORT, 9, "bad_header"),
        (40, SHORT, 0, "bad_header"),
        (42, SHORT, -4, "bad_header"),
        (46, SHORT, 0, "bad_header"),
        (42, SHORT, 5, "truncated"),
        (42, SHORT, 32767, "truncated"),
        (70, SHORT, 77, "bad_header"),
        (70, SHORT, 32, "unsupported_pixels"),
        (70, SHORT, 128, "unsupported_pixels"),
        (108, FLOAT, 1e9, "bad_header"),
        (108, FLOAT, -8, "bad_header"),
        (108, FLOAT, np.nan, "bad_header"),
        (80, FLOAT, 0, "bad_spacing"),
        (84, FLOAT, -1, "bad_spacing"),
        (88, FLOAT, np.nan, "bad_spacing"),
        (112, FLOAT, np.nan, "bad_rescale"),
        (112, FLOAT, np.inf, "bad_rescale"),
        (112, FLOAT, 1e38, "bad_rescale"),
        (280, FLOAT, np.nan, "bad_geometry"),
        (280, FLOAT, 0, "bad_geometry"),
        (256, FLOAT, np.nan, "bad_geometry"),
    ],
)
def test_a_bad_header_is_refused(tmp_path, at, form, value, reason):
    path = nifti(tmp_path / "a.nii")
    patch(path, at, struct.pack(form, value))
    with pytest.raises(ScanError, match=reason):
        read_volume(path)


@pytest.mark.parametrize("zipped", [False, True])
def test_a_header_that_claims_gigabytes_is_refused_at_once(tmp_path, zipped):
    path = nifti(tmp_path / "a.nii")
    raw = bytearray(path.read_bytes()[:352])
    raw[42:48] = struct.pack("<3h", 1200, 1200, 1200)
    path.write_bytes(gzip.compress(bytes(raw)) if zipped else raw)
    with pytest.raises(ScanError, match="size_mismatch"):
        read_volume(path)


def test_a_gzip_bomb_with_a_truthful_header_is_refused(tmp_path):
    path = nifti(tmp_path / "a.nii")
    raw = bytearray(path.read_bytes()[:352])
    raw[42:48] = struct.pack("<3h", 1024, 1024, 256)
    path.write_bytes(gzip.compress(bytes(raw)) + bytes(2**20))  # as large as the zipped voxels could be
    with pytest.raises(ScanError, match="too_large"):
        read_volume(path)


def test_too_many_voxels_are_refused(tmp_path):
    with pytest.raises(ScanError, match=r"too_large: 120 voxels; read.max_voxels allows 100"):
        read_volume(nifti(tmp_path / "a.nii"), ReadRules(max_voxels=100))


@pytest.mark.parametrize("cut", [1, 100, 300])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_truncated_files_are_refused(tmp_path, name, cut):
    path = nifti(tmp_path / name, np.random.default_rng(0).integers(0, 9999, (9, 9, 9)).astype(np.int16))
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(ScanError, match="truncated"):
        read_volume(path)


def test_every_flipped_bit_in_a_gzip_is_caught(tmp_path):
    path = nifti(tmp_path / "a.nii.gz", np.random.default_rng(0).integers(0, 50, (20, 20, 20)).astype(np.int16))
    whole = path.read_bytes()
    rng = np.random.default_rng(1)
    for _ in range(60):
        raw = bytearray(whole)
        raw[rng.integers(10, len(raw) - 4)] ^= 1 << int(rng.integers(8))
        path.write_bytes(raw)
        with pytest.raises(ScanError, match=r"checksum|truncated"):
            read_volume(path)


def test_bad_crc_and_endless_trailer_are_refused(tmp_path):
    path = nifti(tmp_path / "a.nii.gz")
    whole = path.read_bytes()
    path.write_bytes(whole[:-8] + bytes(4) + whole[-4:])
    with pytest.raises(ScanError, match="checksum"):
        read_volume(path)
    path.write_bytes(gzip.compress(gzip.decompress(whole) + bytes(2**27), 1))
    with pytest.raises(ScanError, match="size_mismatch"):
        read_volume(path)


def test_numbers_that_are_none(tmp_path):
    voxels = np.ones((2, 3, 4), np.float32)
    voxels[0, 0, 0] = 5
    voxels[1] = np.nan
    volume = read_volume(nifti(tmp_path / "a.nii", voxels))
    assert volume.warnings == ("non_finite_filled",)
    assert (volume.voxels[1] == 1).all()
    voxels[0, 0, 1] = np.inf
    for bad in (voxels, np.full((2, 3, 4), np.nan, np.float32)):
        with pytest.raises(ScanError, match="non_finite"):
            read_volume(nifti(tmp_path / "b.nii", bad))


def test_time_volumes_of_a_gzip_and_five_dimensions(tmp_path):
    voxels = np.random.default_rng(0).integers(0, 99, (3, 4, 5, 3)).astype(np.int16)
    nifti(tmp_path / "a.nii.gz", voxels)
    scans, _ = find_scans(tmp_path)
    assert [scan.group for scan in scans] == ["t0", "t1", "t2"]
    for time, scan in enumerate(scans):
        np.testing.assert_array_equal(read_volume(scan).voxels, voxels[..., time])
    with pytest.raises(ScanError, match=r"4d: 5 dimensions"):
        read_volume(nifti(tmp_path / "b.nii", np.zeros((2, 2, 2, 2, 3), np.int16)))


def test_a_pair_without_its_voxels_is_refused(tmp_path):
    nib.save(nib.Nifti1Pair(np.ones((2, 3, 4), np.int16), AFFINE), tmp_path / "a.hdr")
    (tmp_path / "a.img").unlink()
    with pytest.raises(ScanError, match=r"truncated: the .img file"):
        read_volume(tmp_path)


def test_analyze_has_no_orientation(tmp_path):
    nib.save(nib.AnalyzeImage(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4)), tmp_path / "a.hdr")
    with pytest.raises(ScanError, match="no_orientation"):
        read_volume(tmp_path)
    assert read_volume(tmp_path, ReadRules(assume_ras=True)).shape == (2, 3, 4)


def test_a_flat_file_is_one_slice_and_a_blank_one_is_marked(tmp_path):
    volume = read_volume(nifti(tmp_path / "a.nii", np.zeros((4, 5), np.int16)))
    assert (volume.shape, volume.warnings) == ((4, 5, 1), ("blank",))


def test_too_few_slices(tmp_path):
    with pytest.raises(ScanError, match=r"too_few_slices: 6 slices; read.min_slices asks for at least 9"):
        read_volume(nifti(tmp_path / "a.nii"), ReadRules(min_slices=9))


def test_unknown_modality_is_accepted_unless_forbidden(tmp_path):
    path = nifti(tmp_path / "a.nii")
    assert read_volume(path, ReadRules(modalities=("CT",))).shape == (4, 5, 6)
    with pytest.raises(ScanError, match=r"modality: the scan names no modality"):
        read_volume(path, ReadRules(allow_unknown_modality=False))


@pytest.mark.parametrize("axis", ["x", "y", "z"])
@pytest.mark.parametrize("degrees", [30, 45, 90, 135, 225])
def test_equal_forms_agree_at_every_angle(tmp_path, axis, degrees):
    affine = np.eye(4)
    affine[:3, :3] = nib.eulerangles.euler2mat(**{axis: np.deg2rad(degrees)}) * (2, 3, 4)
    image = nib.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), affine)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    nib.save(image, tmp_path / "a.nii")
    volume = read_volume(tmp_path / "a.nii")
    i, j, k = np.rint((np.linalg.inv(volume.affine) @ affine @ (1, 2, 3, 1))[:3]).astype(int)
    assert volume.voxels[i, j, k] == 23


def test_members_of_a_gzip_are_one_stream(tmp_path):
    raw = nifti(tmp_path / "a.nii").read_bytes()
    whole = read_volume(tmp_path / "a.nii").voxels
    for cut in (100, 400):
        (tmp_path / "b.nii.gz").write_bytes(gzip.compress(raw[:cut]) + gzip.compress(raw[cut:]))
        np.testing.assert_array_equal(read_volume(tmp_path / "b.nii.gz").voxels, whole)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_file_that_goes_on_is_refused_but_for_a_little_padding(tmp_path, name):
    path = nifti(tmp_path / name)
    raw, pack = (path.read_bytes(), bytes) if name == "a.nii" else (gzip.decompress(path.read_bytes()), gzip.compress)
    path.write_bytes(pack(raw + bytes(100)))
    assert read_volume(path).voxels[1, 0, 0] == 30
    path.write_bytes(pack(raw + bytes(2 * 4 * 5 * 6)))
    with pytest.raises(ScanError, match=r"size_mismatch: the file goes on beyond the \d+ bytes of its header"):
        read_volume(path)


@pytest.mark.parametrize("behind", [b"junk", bytes(1000), b"\0"])
def test_bytes_behind_a_gzip_stream_are_refused(tmp_path, behind):
    path = nifti(tmp_path / "a.nii.gz")
    path.write_bytes(path.read_bytes() + behind)
    with pytest.raises(ScanError, match="size_mismatch: there are bytes behind the end of the gzip stream"):
        read_volume(path)


@pytest.mark.parametrize("start", [0, 348, 350, 352.5])
def test_voxels_that_begin_in_the_header_are_refused(tmp_path, start):
    path = nifti(tmp_path / "a.nii")
    patch(path, 108, struct.pack("<f", start))
    with pytest.raises(ScanError, match="bad_header: vox_offset must be a whole number of bytes from 352"):
        read_volume(path)


@pytest.mark.parametrize(("unit", "step"), [(0, 2), (1, 2000), (2, 2), (3, 0.002), (10, 2)])
def test_units_of_length(tmp_path, unit, step):
    path = nifti(tmp_path / "a.nii")
    patch(path, 123, bytes([unit]))
    assert read_volume(path).spacing_mm[0] == pytest.approx(step)


def test_an_unknown_unit_of_length_is_refused(tmp_path):
    path = nifti(tmp_path / "a.nii")
    patch(path, 123, b"\5")
    with pytest.raises(ScanError, match="bad_header: xyzt_units names no unit of length"):
        read_volume(path)
