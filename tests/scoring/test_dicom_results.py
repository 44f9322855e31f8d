from pathlib import Path

import highdicom as hd
import pydicom
import pytest

from pipeline.domain import Scan
from pipeline.model.package import Model, load_model
from pipeline.scans.find import survey
from pipeline.scoring.dicom_results import write_dicom
from tests.results.dicom_scenes import errors
from tests.scoring.scenes import save_nifti, save_series, save_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return load_model(save_tiny_model(tmp_path_factory.mktemp("model") / "m", findings=("nodule", "effusion")))


def only_scan(folder: Path) -> Scan:
    (scan,) = survey(folder).scans
    return scan


def test_a_report_and_a_picture_of_one_series(model: Model, tmp_path: Path) -> None:
    scan = only_scan(save_series(tmp_path / "in"))
    prediction = model.predict(scan)
    assert write_dicom(model, scan, prediction, tmp_path / "out") == ()
    report, picture = (tmp_path / "out" / scan.scan_id / name for name in ("sr.dcm", "sc.dcm"))
    assert errors(report) == errors(picture) == []
    groups = hd.sr.srread(report).content.get_image_measurement_groups()
    said = {g.finding_type.meaning: g.get_measurements()[0].value for g in groups}
    assert said == {f: pytest.approx(100 * p, abs=1e-4) for f, p in prediction.probabilities.items()}
    one, other = pydicom.dcmread(report), pydicom.dcmread(picture)
    assert one.StudyInstanceUID == other.StudyInstanceUID
    assert len({one.SOPInstanceUID, other.SOPInstanceUID, one.SeriesInstanceUID, other.SeriesInstanceUID}) == 4
    assert write_dicom(model, scan, prediction, tmp_path / "again") == ()
    for path, first in ((report, one), (picture, other)):
        assert pydicom.dcmread(tmp_path / "again" / scan.scan_id / path.name).SOPInstanceUID == first.SOPInstanceUID


def test_scans_that_no_result_can_belong_to_are_named(model: Model, tmp_path: Path) -> None:
    scan = only_scan(save_nifti(tmp_path / "a.nii", 1))
    assert write_dicom(model, scan, model.predict(scan), tmp_path / "out") == ("no_dicom_source",)
    scan = only_scan(save_series(tmp_path / "in"))
    prediction = model.predict(scan)
    scan.paths[0].unlink()
    assert write_dicom(model, scan, prediction, tmp_path / "out") == ("no_dicom_result",)
    assert not (tmp_path / "out").exists()
