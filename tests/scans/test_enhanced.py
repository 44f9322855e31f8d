"""Multi-frame files: each frame in its place and unit, several volumes kept apart."""

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import EnhancedMRImageStorage

from pipeline.domain import ScanError
from pipeline.scans.find import find_scans, read_volume
from tests.scans.phantoms import AXIAL, ORIGIN, SPACING, STEP, dicom, pixels, series, write


def item(**values):
    ds = Dataset()
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return Sequence([ds])


def enhanced(path, change=lambda ds: None, frame=lambda group, k: None, frames=6, sop_uid=None):
    """The classic phantom as one enhanced file, its frames in reverse order."""
    stored = pixels(frames)[::-1]
    ds = dicom(stored[0], (0, 0, 0))
    del ds.ImagePositionPatient, ds.ImageOrientationPatient, ds.PixelSpacing, ds.RescaleSlope, ds.RescaleIntercept
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPClassUID = "1.2", "1.2.3", EnhancedMRImageStorage
    ds.NumberOfFrames, ds.PixelData = frames, stored.tobytes()
    shared, each = Dataset(), []
    shared.PlaneOrientationSequence = item(ImageOrientationPatient=list(AXIAL))
    shared.PixelMeasuresSequence = item(PixelSpacing=list(SPACING), SliceThickness=9)
    for index in range(frames):
        k = frames - 1 - index
        group = Dataset()
        group.PlanePositionSequence = item(ImagePositionPatient=[*ORIGIN[:2], ORIGIN[2] + STEP * k])
        group.PixelValueTransformationSequence = item(RescaleSlope=1, RescaleIntercept=-1024, RescaleType="HU")
        frame(group, k)
        each.append(group)
    ds.SharedFunctionalGroupsSequence, ds.PerFrameFunctionalGroupsSequence = Sequence([shared]), Sequence(each)
    if sop_uid:
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = sop_uid
    change(ds)
    return write(ds, path)


def test_an_enhanced_file_equals_the_classic_series(tmp_path):
    classic, multi = read_volume(series(tmp_path / "classic")), read_volume(enhanced(tmp_path / "multi.dcm"))
    np.testing.assert_array_equal(multi.voxels, classic.voxels)
    np.testing.assert_allclose(multi.affine, classic.affine, atol=1e-9)
    assert (multi.unit, multi.warnings) == ("HU", ())


def test_each_frame_has_its_own_rescale(tmp_path):
    def frame(group, k):
        group.PixelValueTransformationSequence[0].RescaleSlope = k + 1

    volume = read_volume(enhanced(tmp_path / "a.dcm", frame=frame))
    for k in range(6):
        np.testing.assert_array_equal(volume.voxels[::-1, ::-1, k].T, pixels()[k] * (k + 1.0) - 1024)


def echoes(group, k):
    group.PlanePositionSequence[0].ImagePositionPatient = [0, 0, k // 2]
    group.MREchoSequence = item(EffectiveEchoTime=[10.0, 20.0][k % 2])


def phases(group, k):
    group.PlanePositionSequence[0].ImagePositionPatient = [0, 0, k % 3]
    group.FrameContentSequence = item(TemporalPositionIndex=k // 3 + 1)


def labels(group, k):
    group.PlanePositionSequence[0].ImagePositionPatient = [0, 0, k % 3]
    group.MRArterialSpinLabelingSequence = item(ASLContext=["CONTROL", "LABEL"][k // 3])


def private_dimension(group, k):
    group.PlanePositionSequence[0].ImagePositionPatient = [0, 0, k % 3]
    group.FrameContentSequence = item(DimensionIndexValues=[k // 3 + 1, k % 3 + 1, 2 - k // 3])


def kernels(group, k):
    group.PlanePositionSequence[0].ImagePositionPatient = [0, 0, k % 3]
    group.CTReconstructionSequence = item(ConvolutionKernel=["B30f", "B60f"][k // 3])


def voltages(group, k):
    group.PlanePositionSequence[0].ImagePositionPatient = [0, 0, k % 3]
    group.CTXRayDetailsSequence = item(KVP=[100.0, 140.0][k // 3])


def acquisitions_place_by_place(group, k):
    group.PlanePositionSequence[0].ImagePositionPatient = [0, 0, k % 3]
    group.FrameContentSequence = item(FrameAcquisitionNumber=2 * (k % 3) + k // 3 + 1)


@pytest.mark.parametrize(
    ("frame", "names"),
    [
        (kernels, {"kernel=B30f", "kernel=B60f"}),
        (voltages, {"kvp=100", "kvp=140"}),
        (acquisitions_place_by_place, {"t0", "t1"}),
        (echoes, {"echo=10", "echo=20"}),
        (phases, {"t0", "t1"}),
        (labels, {"label=CONTROL", "label=LABEL"}),
        (private_dimension, {"t0", "t1"}),
    ],
)
def test_several_volumes_in_one_file_are_several_scans(tmp_path, frame, names):
    path = enhanced(tmp_path / "a.dcm", frame=frame)
    scans, _ = find_scans(path)
    assert {scan.group for scan in scans} == names
    seen = {scan.group: read_volume(scan) for scan in scans}
    assert all(volume.shape == (10, 8, 3) for volume in seen.values())
    first = pixels()[::2, 0, 0] if frame is echoes else pixels()[:3, 0, 0]
    np.testing.assert_array_equal(seen[min(names)].voxels[-1, -1], first - 1024.0)
    with pytest.raises(ScanError, match="ambiguous_volume"):
        read_volume(path)


def one_frame_each(folder, places):
    """As many files of one frame as places, numbered in that order."""
    for k, place in enumerate(places):

        def change(ds, k=k, place=place):
            ds.PixelData, ds.InstanceNumber = pixels()[k].tobytes(), k + 1
            ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{k}"
            group = ds.PerFrameFunctionalGroupsSequence[0]
            group.PlanePositionSequence[0].ImagePositionPatient = [*ORIGIN[:2], ORIGIN[2] + STEP * place]

        enhanced(folder / f"{k}.dcm", change, frames=1)
    return folder


def test_files_of_one_frame_each_are_slices_of_one_volume(tmp_path):
    single, truth = read_volume(one_frame_each(tmp_path / "many", range(6))), read_volume(series(tmp_path / "truth"))
    np.testing.assert_array_equal(single.voxels, truth.voxels)
    np.testing.assert_allclose(single.affine, truth.affine, atol=1e-9)


def test_files_of_one_frame_each_are_several_volumes_if_their_numbers_say_so(tmp_path):
    scans, _ = find_scans(one_frame_each(tmp_path, [0, 1, 2, 0, 1, 2]))
    assert [scan.group for scan in scans] == ["t0", "t1"]
    assert read_volume(scans[1]).voxels.min() == pixels()[3].min() - 1024.0


def test_a_frames_real_world_value_map_counts_without_a_transformation(tmp_path):
    def frame(group, k):
        world = item(RealWorldValueSlope=2.0, RealWorldValueIntercept=5.0)
        group.RealWorldValueMappingSequence = world
        if k == 0:
            group.PixelValueTransformationSequence[0].RescaleSlope = 3
        else:
            del group.PixelValueTransformationSequence

    with pytest.raises(ScanError, match="mixed_units"):
        read_volume(enhanced(tmp_path / "mixed.dcm", frame=frame))
    volume = read_volume(enhanced(tmp_path / "a.dcm", frame=lambda group, k: frame(group, 1)))
    np.testing.assert_array_equal(volume.voxels[::-1, ::-1].transpose(2, 1, 0), pixels() * 2.0 + 5)


def test_breast_tomosynthesis_is_a_volume_not_a_picture(tmp_path):
    volume = read_volume(enhanced(tmp_path / "a.dcm", lambda ds: setattr(ds, "Modality", "MG")))
    assert (volume.shape, volume.spacing_mm[2]) == ((10, 8, 6), STEP)


def test_several_files_of_one_series_are_numbered_in_their_order(tmp_path):
    for number in (2, 1):
        enhanced(tmp_path / f"{number}.dcm", lambda ds, number=number: setattr(ds, "InstanceNumber", number), phases)
    scans, _ = find_scans(tmp_path)
    assert {(scan.path.name, scan.group) for scan in scans} == {
        ("1.dcm", "t0;t0"),
        ("1.dcm", "t0;t1"),
        ("2.dcm", "t1;t0"),
        ("2.dcm", "t1;t1"),
    }
    for scan in scans:
        assert read_volume(scan).voxels.min() == pixels()[3 * int(scan.group[-1])].min() - 1024.0


def in_stacks(places, names):
    """Frames at these places (in mm along the normal), each in the stack of that name."""

    def frame(group, k):
        group.PlanePositionSequence[0].ImagePositionPatient = [0, 0, places[k]]
        if names[k] != "-":
            group.FrameContentSequence = item(StackID=names[k])

    return frame


APART = (0, 1, 2, 10, 11, 12)


def test_stacks_that_the_header_names_are_scans_of_their_own(tmp_path):
    scans, _ = find_scans(enhanced(tmp_path / "a.dcm", frame=in_stacks(APART, "111222")))
    assert [(scan.group, scan.n_slices, scan.slice_spacing_mm) for scan in scans] == [
        ("stack=2", 3, 1),
        ("stack=1", 3, 1),
    ]
    for scan in scans:
        volume, first = read_volume(scan), 3 * (scan.group == "stack=2")
        np.testing.assert_array_equal(
            volume.voxels[::-1, ::-1].transpose(2, 1, 0), pixels()[first : first + 3] - 1024.0
        )
        assert volume.affine[2, 3] == APART[first]


@pytest.mark.parametrize(
    ("places", "names", "reason"),
    [
        (APART, "------", "missing_slices"),
        (APART, "111---", "missing_slices"),
        (APART, "111111", "missing_slices"),
        (APART, "112222", "missing_slices"),
        ((0, 1, 3, 10, 11, 12), "111222", "missing_slices"),
        ((0, 2, 4, 1, 3, 7), "111222", "missing_slices"),
        ((0, 4, 8, 1, 2, 3), "111222", "missing_slices"),
    ],
    ids=["unnamed", "half named", "one name", "two slices", "a gap within", "interleaved", "one within the other"],
)
def test_stacks_that_leave_a_doubt_are_refused(tmp_path, places, names, reason):
    (scan,), _ = find_scans(enhanced(tmp_path / "a.dcm", frame=in_stacks(places, names)))
    with pytest.raises(ScanError, match=reason):
        read_volume(scan)


def test_stacks_that_make_one_volume_are_one_scan(tmp_path):
    assert read_volume(enhanced(tmp_path / "a.dcm", frame=in_stacks(range(6), "111222"))).shape == (10, 8, 6)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda ds: delattr(ds, "PerFrameFunctionalGroupsSequence"), "no_geometry: the frames of this file"),
        (lambda ds: delattr(ds.PerFrameFunctionalGroupsSequence[2], "PlanePositionSequence"), "no_geometry: frame 3"),
        (lambda ds: ds.PerFrameFunctionalGroupsSequence.pop(), "malformed: frames announced: 6, described: 5"),
        (lambda ds: setattr(ds, "PixelData", ds.PixelData[:-2]), "truncated: 960 bytes of pixels expected"),
        (lambda ds: delattr(ds.SharedFunctionalGroupsSequence[0], "PixelMeasuresSequence"), "no_spacing"),
    ],
)
def test_frames_that_cannot_be_trusted_are_refused(tmp_path, change, reason):
    with pytest.raises(ScanError, match=reason):
        read_volume(enhanced(tmp_path / "a.dcm", change))


def part(number, total=None):
    def change(ds):
        ds.ConcatenationUID, ds.InConcatenationNumber = "1.2.9", number
        if total:
            ds.InConcatenationTotalNumber = total

    return change


def test_parts_of_a_concatenation_are_no_volumes_of_their_own(tmp_path):
    for number in (1, 2):
        enhanced(tmp_path / f"{number}.dcm", part(number), frames=3, sop_uid=f"1.2.9.{number}")
    scans, (rejection,) = find_scans(tmp_path)
    assert (scans, rejection.reason, len(rejection.files)) == ([], "ambiguous_volume", 2)
    assert "goes on in other files (ConcatenationUID); join them first" in rejection.detail


def test_a_concatenation_of_one_file_is_whole(tmp_path):
    assert read_volume(enhanced(tmp_path / "a.dcm", part(1, total=1))).shape == (10, 8, 6)
