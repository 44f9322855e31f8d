"""Every file that pydicom and nibabel bring along ends as a volume, a refusal, or skipped; nothing else is raised."""

import shutil
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest

from pipeline.domain import ScanError
from pipeline.scans.find import read_volume, survey

PYDICOM = Path(pydicom.__file__).parent / "data" / "test_files"
NIBABEL = Path(nibabel.__file__).parent
FOLDERS = {
    "pydicom": PYDICOM,
    "nibabel": NIBABEL / "tests" / "data",
    "nicom": NIBABEL / "nicom" / "tests" / "data",
}
FILES = sorted(path for folder in FOLDERS.values() for path in folder.rglob("*") if path.is_file())


def check(found, files):
    """Each file is accounted for, and each scan gives a sound volume or a refusal."""
    outcome = [path for scan in found.scans for path in (*scan.paths, *scan.aliases)]
    outcome += [path for one in found.rejections for path in one.files] + [path for path, _ in found.skipped]
    assert set(outcome) == set(files)
    for scan in found.scans:
        try:
            volume = read_volume(scan)
        except ScanError:
            continue
        assert volume.voxels.dtype == np.float32
        assert volume.voxels.ndim in (3, 4)
        assert np.isfinite(volume.voxels).all()
        assert np.isfinite(volume.affine).all()
        assert (np.diag(volume.affine[:3, :3] / volume.spacing_mm) > 0).all()


@pytest.mark.parametrize("name", FOLDERS)
def test_whole_folders(name):
    check(survey(FOLDERS[name]), [path for path in FOLDERS[name].rglob("*") if path.is_file()])


def test_each_file_alone():
    for path in FILES:
        found = survey(path)
        assert len(found.scans) + len(found.rejections) + len(found.skipped) >= 1
        check(found, [path])


def test_known_files_are_read_as_known():
    """Numbers from pydicom itself and from the files' documentation."""
    volume = read_volume(PYDICOM / "CT_small.dcm")
    ct = pydicom.dcmread(PYDICOM / "CT_small.dcm")
    hidden = ct.pixel_array == ct.PixelPaddingValue
    ours = np.swapaxes(volume.voxels[::-1, ::-1, 0], 0, 1)
    np.testing.assert_array_equal(ours[~hidden], (ct.pixel_array + float(ct.RescaleIntercept))[~hidden])
    assert volume.unit == "HU"
    plain = read_volume(PYDICOM / "MR_small.dcm").voxels
    for name in (
        "MR_small_RLE",
        "MR_small_jp2klossless",
        "MR_small_jpeg_ls_lossless",
        "MR_small_bigendian",
        "MR_small_implicit",
    ):
        np.testing.assert_array_equal(read_volume(PYDICOM / f"{name}.dcm").voxels, plain)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("MR_truncated.dcm", "truncated"),
        ("rtplan.dcm", "non_image"),
        ("reportsi.dcm", "non_image"),
        ("meta_missing_tsyntax.dcm", "malformed"),
        ("ExplVR_LitEndNoMeta.dcm", "not_dicom"),
        ("liver_1frame.dcm", "non_image"),
    ],
)
def test_known_files_are_refused_as_known(name, reason):
    with pytest.raises(ScanError, match=f"^{reason}: "):
        read_volume(PYDICOM / name)


def test_a_folder_of_everything(tmp_path):
    """Files of all kinds side by side: the good ones are read as if they were alone."""
    for name in ("CT_small.dcm", "MR_truncated.dcm", "rtplan.dcm", "JPGExtended.dcm"):
        shutil.copy(PYDICOM / name, tmp_path)
    shutil.copy(FOLDERS["nibabel"] / "anatomical.nii", tmp_path)
    found = survey(tmp_path)
    assert [scan.path.name for scan in found.scans] == [
        "CT_small.dcm",
        "JPGExtended.dcm",
        "MR_truncated.dcm",
        "anatomical.nii",
    ]
    assert [path.name for path, _ in found.skipped] == ["rtplan.dcm"]
    np.testing.assert_array_equal(read_volume(found.scans[0]).voxels, read_volume(PYDICOM / "CT_small.dcm").voxels)
