import base64
import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline.audit.gallery import chosen, picture
from pipeline.domain import Volume
from pipeline.evaluate import main
from pipeline.sections import PreprocessSection
from tests.audit.runs import run_with_scans

RULES = PreprocessSection(window=(0.0, 100.0))


def pixels(uri: str) -> np.ndarray:
    assert uri.startswith("data:image/png;base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


def test_the_most_confident_errors_come_first_then_the_least_certain() -> None:
    rows = pd.DataFrame({"y_f": [1, 1, 0, 0, 1, 0, np.nan], "p_f": [0.1, 0.01, 0.6, 0.2, 0.55, 0.48, 0.5]})
    found = chosen(rows, "f", 0.5)
    assert found == [("missed", 1), ("missed", 0), ("false alarm", 2), ("unsure", 5), ("unsure", 4), ("unsure", 3)]


def test_no_more_than_four_of_a_kind() -> None:
    rows = pd.DataFrame({"y_f": [1] * 9 + [0] * 9, "p_f": [0.1] * 9 + [0.9] * 9})
    assert [kind for kind, _ in chosen(rows, "f", 0.5)] == ["missed"] * 4 + ["false alarm"] * 4 + ["unsure"] * 4


@pytest.mark.parametrize("shape", [(20, 16, 6), (20, 16, 1), (20, 1, 16), (1, 20, 16), (20, 16, 6, 3)])
def test_a_picture_shows_the_brightest_slice_plain_and_with_the_map(shape: tuple[int, ...]) -> None:
    voxels = np.full(shape, 50, dtype=np.float32)
    seen = np.zeros(shape[:3], dtype=np.float32)
    place = tuple(n - 1 for n in shape[:3])
    seen[place] = 1
    image, slice_number, count = picture(Volume(voxels, np.eye(4)), seen, RULES)
    thin = next((axis for axis in (2, 1, 0) if shape[axis] == 1), 2)
    assert (slice_number, count) == (shape[thin] - 1, shape[thin])
    shown = pixels(image)
    plain, marked = np.split(shown.astype(int), 2, axis=1)
    assert set(np.unique(plain)) == {128}
    row, column = np.unravel_index(np.abs(marked - plain).sum(axis=2).argmax(), plain.shape[:2])
    assert row < plain.shape[0] / 4  # the last voxel: anterior or superior, at the top
    assert column < plain.shape[1] / 4  # the patient's right (or front), on the left


def test_a_map_that_is_dark_everywhere_shows_the_middle_in_square_millimetres() -> None:
    volume = Volume(np.random.default_rng(0).normal(size=(20, 20, 8)).astype(np.float32), np.diag([1.0, 2.0, 5.0, 1.0]))
    image, place, _ = picture(volume, np.zeros((20, 20, 8), np.float32), PreprocessSection(intensity="zscore"))
    assert place == 4
    shown = pixels(image)
    assert shown.shape == (240, 240, 3)  # twice 120 x 240: 20 mm x 40 mm
    assert np.array_equal(*np.split(shown, 2, axis=1))


def test_the_report_holds_the_pictures_and_nothing_else_of_the_scan(tmp_path: Path) -> None:
    run = run_with_scans(tmp_path)
    assert main([str(run), "--gallery"]) == 0
    found = json.loads((run / "gallery.json").read_text())["findings"]["nodule"]
    assert {case["kind"] for case in found} <= {"missed", "false alarm", "unsure"}
    assert 4 <= len(found) <= 12
    for case in found:
        assert set(case) == {"scan_id", "kind", "y", "p", "slice", "slices", "image"}
        assert pixels(case["image"]).ndim == 3
    page = (run / "report.html").read_text()
    assert page.count("data:image/png;base64,") == len(found)
    assert "Where it fails" in page
    assert str(tmp_path) not in page
    assert ".nii" not in page
