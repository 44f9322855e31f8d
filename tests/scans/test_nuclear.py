"""SPECT: reconstructed slices of nuclear medicine lie where the first one and the spacing say."""

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from pipeline.domain import ScanError
from pipeline.scans.find import find_scans, read_volume
from pipeline.scans.nuclear import NM_STORAGE
from tests.scans.dcm2niix import references
from tests.scans.phantoms import AXIAL, ORIGIN, STEP, dicom, pixels, series, write


def tomogram(path, spacing=STEP, change=lambda ds: None, slices=6):
    stored = pixels(slices)
    ds = dicom(stored[0], ORIGIN)
    del ds.ImagePositionPatient, ds.ImageOrientationPatient, ds.RescaleSlope, ds.RescaleIntercept
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = NM_STORAGE
    ds.Modality, ds.StudyInstanceUID, ds.SeriesInstanceUID = "NM", "1.2", "1.2.3"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "RECON TOMO", "EMISSION"]
    ds.NumberOfFrames, ds.PixelData = slices, stored.tobytes()
    ds.NumberOfSlices, ds.SliceVector = slices, list(range(1, slices + 1))
    ds["NumberOfSlices"].VR = "US"
    ds.SpacingBetweenSlices = str(spacing)
    detector = Dataset()
    detector.ImagePositionPatient, detector.ImageOrientationPatient = list(ORIGIN), list(AXIAL)
    ds.DetectorInformationSequence = Sequence([detector])
    change(ds)
    return write(ds, path)


@pytest.mark.parametrize("sign", [1, -1])
def test_slices_are_stacked_along_the_normal_by_the_sign_of_the_spacing(tmp_path, sign):
    truth = read_volume(series(tmp_path / "truth", step=(0, 0, sign * STEP)))
    volume = read_volume(tomogram(tmp_path / "in" / "a.dcm", sign * STEP))
    np.testing.assert_array_equal(volume.voxels, truth.voxels + 1024)
    np.testing.assert_allclose(volume.affine, truth.affine, atol=1e-9)
    (other,) = references(tmp_path / "in", tmp_path / "out")
    assert other.agrees(volume) == (sign > 0)  # dcm2niix takes no negative spacing and falls back to SliceThickness


def test_gated_slices_are_volumes_of_their_own(tmp_path):
    def change(ds):
        ds.ImageType[2] = "RECON GATED TOMO"
        ds.SliceVector, ds.TimeSlotVector = [1, 2, 3, 1, 2, 3], [1, 1, 1, 2, 2, 2]

    scans, _ = find_scans(tomogram(tmp_path / "a.dcm", change=change))
    assert [scan.group for scan in scans] == ["t0", "t1"]
    for time, scan in enumerate(scans):
        np.testing.assert_array_equal(
            read_volume(scan).voxels[::-1, ::-1].transpose(2, 1, 0), pixels()[3 * time : 3 * time + 3]
        )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda ds: delattr(ds, "DetectorInformationSequence"), "no_geometry: the tomogram's DetectorInformation"),
        (lambda ds: delattr(ds, "SpacingBetweenSlices"), "no_spacing: the tomogram needs SpacingBetweenSlices"),
        (lambda ds: setattr(ds, "SliceVector", [1, 2]), "malformed: frames announced: 6, described: 2"),
        (
            lambda ds: setattr(ds, "ImageType", ["ORIGINAL", "PRIMARY", "DYNAMIC", "EMISSION"]),
            "no_geometry: the frames",
        ),
    ],
)
def test_tomograms_and_films_that_say_too_little_are_refused(tmp_path, change, reason):
    with pytest.raises(ScanError, match=reason):
        read_volume(tomogram(tmp_path / "a.dcm", change=change))
