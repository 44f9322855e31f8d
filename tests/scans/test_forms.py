"""The same phantom as classic DICOM, enhanced DICOM and NIfTI is the same Volume."""

import numpy as np
import pytest

from pipeline.scans.find import read_volume
from tests.scans.forms import classic, enhanced, nifti


@pytest.mark.parametrize("modality", ["CT", "MR", "PT"])
def test_three_forms_give_one_volume(tmp_path, modality):
    folder = classic(tmp_path / "classic", modality)
    volumes = [read_volume(one) for one in (folder, enhanced(tmp_path / "e.dcm", folder), nifti(tmp_path / "n.nii"))]
    for volume in volumes[1:]:
        np.testing.assert_allclose(volume.voxels, volumes[0].voxels, atol=0.5)
        np.testing.assert_allclose(volume.affine, volumes[0].affine, atol=1e-3)
    assert volumes[0].voxels.min() == -1000
    assert volumes[0].unit == volumes[1].unit == ("HU" if modality == "CT" else "a.u.")
