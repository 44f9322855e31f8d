"""Real scans against NIfTI that another converter made of them, in canonical RAS."""

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from pipeline.scans.find import find_scans, read_volume

DATASETS = Path(os.environ.get("SCAN_DATASETS", Path(__file__).parents[2] / ".." / "shared" / "datasets"))

pytestmark = pytest.mark.datasets

SERIES = {
    "20180918GE/mr_0004": "DCM2NIIX_regression_test_4",
    "20180918GE/mr_0005": "DCM2NIIX_regression_test_5",
    "20180918Si/mr_0003": "EPI_PE=AP_3",
    "20180918Si/mr_0004": "EPI_PE=PA_4",
    "20180918Si/mr_0005": "EPI_PE=RL_5",
    "20180918Si/mr_0006": "EPI_PE=LR_6",
}


def dataset(name):
    folder = DATASETS / name
    if not folder.is_dir():
        pytest.skip(f"data set {name} is not in {DATASETS} (set SCAN_DATASETS)")
    return folder


def assert_same(volume, reference, time):
    canonical = nib.as_closest_canonical(reference)
    voxels = np.asarray(canonical.dataobj)
    np.testing.assert_array_equal(volume.voxels, voxels if voxels.ndim == 3 else voxels[..., time])
    np.testing.assert_allclose(volume.affine, canonical.affine, atol=1e-3)


@pytest.mark.parametrize("number", range(1, 10))
def test_nine_transfer_syntaxes(number):
    folder = dataset("dcm_qa_ts")
    assert_same(read_volume(folder / "In" / f"{number}.dcm"), nib.load(folder / "Ref" / f"{number}.nii"), 0)


@pytest.mark.parametrize("name", SERIES)
def test_time_series_and_mosaics(name):
    folder = dataset("dcm_qa_nih")
    reference = nib.load(folder / "Ref" / f"{SERIES[name]}.nii")
    scans, rejections = find_scans(folder / "In" / name)
    assert rejections == []
    assert {scan.group for scan in scans} == {f"t{i}" for i in range(reference.shape[3])}
    for scan in scans:
        assert_same(read_volume(scan), reference, int(scan.group[1:]))


def test_copies_in_a_real_folder_are_merged():
    scans, rejections = find_scans(dataset("siim_ct_contrast"))
    assert (len(scans), sum(bool(scan.aliases) for scan in scans), rejections) == (95, 5, [])
    assert all(read_volume(scan).unit == "HU" for scan in scans[:10])
