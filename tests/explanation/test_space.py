"""The map over the scan in readers that know nothing of this software: the lesion lies under the peak."""

import subprocess
from itertools import permutations

import nibabel as nib
import numpy as np
import pytest

from pipeline import load_model
from pipeline.domain import ReadRules
from pipeline.explanation.gradcam import Way
from pipeline.scans.find import find_scans
from pipeline.scoring.maps import write_maps
from tests.explanation.bright import lesion_scan, save_bright
from tests.scans.phantoms import series


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(save_bright(tmp_path_factory.mktemp("bright") / "model", read=ReadRules()), "cpu")


def under_the_peak(map_file, scan_file) -> float:
    """The scan's value at the map's peak, both placed by nibabel."""
    found, scan = nib.load(map_file), nib.load(scan_file)
    heat = found.get_fdata()
    peak = np.array([*np.unravel_index(heat.argmax(), heat.shape), 1.0])
    at = np.rint(np.linalg.inv(scan.affine) @ found.affine @ peak)[:3].astype(int)
    return float(scan.get_fdata()[tuple(at)])


def one_map(model, scan_folder, out):
    ((scan,), rejections) = find_scans(scan_folder)
    assert rejections == []
    assert write_maps(model, scan, out, Way("gradcam", "layer1")) == ()
    (written,) = out.glob("*.nii.gz")
    return written


ORIENTATIONS = [
    (axes, flips) for axes in permutations(range(3)) for flips in ((1, 1, 1), (-1, 1, 1), (1, -1, -1), (-1, -1, -1))
]


@pytest.mark.parametrize("number", range(0, len(ORIENTATIONS), 3))
@pytest.mark.parametrize("oblique", [False, True])
def test_nifti_in_any_orientation(model, tmp_path, number, oblique) -> None:
    voxels, _, affine = lesion_scan(number)
    if oblique:
        a, b = np.radians([17, -11])
        about_z = [[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]]
        about_x = [[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]]
        turn = np.eye(4)
        turn[:3, :3] = np.array(about_z) @ np.array(about_x)
        affine = turn @ affine
    axes, flips = ORIENTATIONS[number]
    image = nib.Nifti1Image(voxels, affine).as_reoriented(np.stack([axes, flips], axis=1))
    nib.save(image, tmp_path / "scan.nii")
    written = one_map(model, tmp_path / "scan.nii", tmp_path / "out")
    assert under_the_peak(written, tmp_path / "scan.nii") > 0


@pytest.mark.parametrize(
    "orientation",
    [
        (1, 0, 0, 0, 1, 0),
        (-1, 0, 0, 0, 1, 0),
        (0, 1, 0, 0, 0, -1),
        (0.8, 0.6, 0, 0, 0, -1),
        (0.96, 0.28, 0, -0.28, 0.96, 0),
    ],
)
def test_dicom_as_dcm2niix_converts_it(model, tmp_path, orientation) -> None:
    dcm2niix = pytest.importorskip("dcm2niix")
    voxels, _, _ = lesion_scan(3, (36, 40, 20))
    stored = np.rint(voxels + 1024).astype(np.uint16).transpose(2, 0, 1)  # [slice, row, column]
    series(tmp_path / "in", orientation=orientation, slices=20, stored=stored, series_uid="1.2.3.4")
    (tmp_path / "nii").mkdir()
    words = [dcm2niix.bin, "-p", "n", "-z", "n", "-b", "n", "-f", "scan", "-o", tmp_path / "nii", tmp_path / "in"]
    subprocess.run(words, capture_output=True, check=False, timeout=60)
    written = one_map(model, tmp_path / "in", tmp_path / "out")
    assert under_the_peak(written, tmp_path / "nii" / "scan.nii") > 0


def test_the_file_says_how_it_was_made(model, tmp_path) -> None:
    voxels, _, affine = lesion_scan(1)
    nib.save(nib.Nifti1Image(voxels, affine), tmp_path / "scan.nii")
    header = nib.load(one_map(model, tmp_path / "scan.nii", tmp_path / "out")).header
    assert bytes(header["descrip"]).rstrip(b"\0") == b"gradcam layer1; not checked; research use only"
