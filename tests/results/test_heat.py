"""Where a heat map is hottest."""

import numpy as np
import pytest

from pipeline.results.heat import key_slice, key_voxel, place_of


def test_the_key_slice_is_the_middle_of_a_plateau() -> None:
    heat = np.zeros((6, 6, 20), np.float32)
    heat[1, 1, 4:13] = 1
    heat[4, 4, 17] = 0.9
    assert key_slice(heat, 2) == 8
    heat[1, 1, 8] = 0
    assert key_slice(heat, 2) in (7, 9), "always a hot one"


def test_a_map_that_points_nowhere_says_so() -> None:
    heat = np.zeros((4, 4, 10), np.float32)
    assert place_of(heat, 2, 5) == ["slice 6 of 10", "The heat map is dark everywhere"]
    heat[0, 0, 3] = 1
    assert place_of(heat, 2, 3) == ["slice 4 of 10"]
    heat[:, :, :5] = 1
    assert place_of(heat, 2, 3)[1:] == ["The heat map points to no place: 50% of the scan is hot"]


@pytest.mark.parametrize("kind", [np.float32, np.uint8])
def test_the_key_voxel_is_a_hot_one_in_the_middle_of_the_plateau(kind) -> None:
    heat = np.zeros((9, 9, 20), kind)
    assert key_voxel(heat) == (4, 4, 10)
    heat[2:5, 3, 4:13] = 200
    heat[0, 0, 0] = 180
    assert key_voxel(heat) == (3, 3, 8)
    heat[3, 3, 8] = 0
    i, j, k = key_voxel(heat)
    assert heat[i, j, k] == 200, "always a hot one"
