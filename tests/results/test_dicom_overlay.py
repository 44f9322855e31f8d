from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from pipeline.domain import Volume
from pipeline.results.dicom_overlay import (
    SIDE,
    captions,
    overlay_picture,
    picture_size,
    secondary_capture,
    slice_axis,
)
from pipeline.results.dicom_source import ranked, read_source
from pipeline.results.dicom_sr import structured_report
from pipeline.results.heat import key_slice
from pipeline.scans.encoding import encoded
from pipeline.scans.find import read_volume
from tests.results.dicom_scenes import AUTHOR, POINTS, SOURCES, errors, only_scan, prediction, warm
from tests.scans.phantoms import series

pytestmark = pytest.mark.filterwarnings("ignore:Invalid value for VR")

HEAD = 34
"""Rows of the warning above the anatomy."""


def written(folder: Path, path: Path, at: tuple[int, int, int] = (0, 0, 0)) -> Path:
    scan = only_scan(folder)
    volume = read_volume(scan)
    heat = warm(volume, at)
    index = key_slice(heat, slice_axis(volume))
    picture = overlay_picture(volume, heat, None, index, ["first", "second"])
    path.write_bytes(encoded(secondary_capture(read_source(scan), picture, volume, index, AUTHOR), "the picture"))
    return path


@pytest.mark.parametrize("name", SOURCES)
def test_the_picture_is_valid(name: str, tmp_path: Path) -> None:
    SOURCES[name](tmp_path / "in")
    path = written(tmp_path / "in", tmp_path / "sc.dcm")
    assert errors(path) == []
    assert hd.imread(path).get_frame(1).shape[-1] == 3


@pytest.mark.parametrize(
    ("name", "letters"),
    [
        ("classic series", ["L", "P"]),
        ("coronal series", ["L", "F"]),
        ("sagittal series", ["P", "F"]),
        ("radiograph", ["L", "F"]),
        ("mammogram", None),
    ],
)
def test_it_says_how_it_lies(name: str, letters: list[str] | None, tmp_path: Path) -> None:
    SOURCES[name](tmp_path / "in")
    capture = pydicom.dcmread(written(tmp_path / "in", tmp_path / "sc.dcm"))
    assert (list(capture.PatientOrientation) if capture.PatientOrientation else None) == letters


def test_it_belongs_to_the_patient_and_study_of_the_report(tmp_path: Path) -> None:
    said = {
        "IssuerOfPatientID": "HOSPITAL^2", "PatientAge": "045Y", "PatientSize": "1.8", "PatientWeight": "80.5",
        "StudyDescription": "Brust, groß", "SpecificCharacterSet": "ISO_IR 100", "PatientName": "Müller^Jörg",
    }  # fmt: skip

    def of_another_issuer(ds: Dataset, _: int) -> None:
        for keyword, value in said.items():
            setattr(ds, keyword, value)

    folder = series(tmp_path / "in", change=of_another_issuer)
    capture = pydicom.dcmread(written(folder, tmp_path / "sc.dcm"))
    report = structured_report(read_source(only_scan(folder)), prediction(), POINTS, AUTHOR)
    for keyword in said.keys() - {"SpecificCharacterSet"}:
        assert str(capture[keyword].value) == str(report[keyword].value) == said[keyword]
    assert capture.SpecificCharacterSet == "ISO_IR 192"


def test_it_links_to_the_slice_that_it_shows(tmp_path: Path) -> None:
    folder = series(tmp_path / "in")
    capture = pydicom.dcmread(written(folder, tmp_path / "sc.dcm", at=(2, 3, 4)))
    (shown,) = capture.SourceImageSequence
    uids = {str(ds.SOPInstanceUID): int(ds.InstanceNumber) for ds in map(pydicom.dcmread, folder.iterdir())}
    assert uids[shown.ReferencedSOPInstanceUID] == 5  # slices are counted from 1
    assert "RESEARCH USE ONLY" in capture.SeriesDescription
    assert capture.ImageType[0] == "DERIVED"


def test_heat_and_sides_are_where_they_belong() -> None:
    voxels = np.zeros((40, 20, 4), np.float32)
    voxels[30:, :, 2] = 100  # the patient's right: i runs to the Right
    volume = Volume(voxels, np.diag([1.0, 2.0, 3.0, 1.0]), "HU", "LPS")
    volume = Volume(voxels[::-1], np.array([[1.0, 0, 0, 0], [0, 2, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1]]), "HU", "LPS")
    heat = np.zeros(volume.shape, np.float32)
    heat[35:, 15:, 2] = 1  # right in RAS+ is high i; anterior is high j
    picture = overlay_picture(volume, heat, (0, 100), 2, [])
    height, width = picture_size(volume)
    assert (height, width) == (SIDE, SIDE)
    anatomy = picture[HEAD : HEAD + height].astype(int)
    colourful = (anatomy.max(-1) - anatomy.min(-1)) > 40
    rows, columns = np.nonzero(colourful)
    assert rows.max() < height / 3, "anterior is at the top"
    assert columns.max() < width / 3, "the patient's right is at the left"
    assert anatomy[height // 2, width - 20].min() > 250, "voxels of low i are at the right"


def test_a_dark_map_shows_the_middle_slice_in_gray() -> None:
    volume = Volume(np.ones((8, 8, 9), np.float32), np.eye(4), "a.u.", "RAS")
    heat = np.zeros(volume.shape, np.float32)
    assert key_slice(heat, 2) == 4
    anatomy = overlay_picture(volume, heat, (0, 2), 4, [])[HEAD : HEAD + SIDE].astype(int)
    assert (anatomy.max(-1) == anatomy.min(-1)).all()


def test_the_warning_is_burned_in_and_no_text_covers_the_anatomy() -> None:
    volume = Volume(np.zeros((8, 8, 2), np.float32), np.eye(4), "a.u.", "RAS")
    picture = overlay_picture(volume, np.zeros(volume.shape, np.float32), (0, 1), 0, ["x" * 500])
    assert picture[:HEAD].max() > 200
    assert picture[HEAD : HEAD + SIDE].max() == 0
    assert picture[HEAD + SIDE :].max() > 150


def test_captions_put_positive_findings_first_and_count_the_others() -> None:
    many = prediction(
        probabilities={"a": 0.9, "b": 0.1, "c": 0.5, "d": 0.4, "nodule": 0.45, "f": 0.2}, in_distribution=False
    )
    assert ranked(many)[:2] == ["nodule", "a"]
    lines = captions(many, POINTS, "nodule", ["slice 3 of 9", "more on it"])
    assert lines[0] == "nodule: probability 0.450, positive at the threshold 0.410"
    assert lines[4:] == [
        "and 2 more findings in the report",
        "This scan is unlike those that the model has learned from",
        "Heat map for nodule, slice 3 of 9",
        "more on it",
        "Model demo-0123456789ab",
    ]


def test_a_colour_picture_keeps_its_colours() -> None:
    volume = Volume(np.zeros((8, 8, 1, 3), np.float32), np.eye(4), "a.u.", "LPS")
    volume.voxels[..., 0] = 200
    anatomy = overlay_picture(volume, np.zeros(volume.shape, np.float32), (0, 200), 0, [])[HEAD : HEAD + SIDE]
    assert anatomy[SIDE // 2, SIDE // 2].tolist() == [255, 0, 0]
