"""What the benchmarks stand on: the series that they read, the turns, the verdict."""

import numpy as np
import pytest

from benchmarks import measure, training
from benchmarks.measure import Target, Times
from benchmarks.series import expected_voxels, write_series
from pipeline.config import Config
from pipeline.scans.find import read_volume
from pipeline.sections import ModelSection, PreprocessSection, TrainSection


def test_the_series_is_read_as_it_was_written(tmp_path):
    write_series(tmp_path / "ct", slices=3)
    volume = read_volume(tmp_path / "ct")
    np.testing.assert_array_equal(volume.voxels[::-1, ::-1].transpose(2, 1, 0), expected_voxels(3))
    assert (volume.unit, volume.warnings) == ("HU", ())


def test_contenders_take_turns_after_one_try_each():
    order = []
    times = measure.in_turns({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 2)
    assert "".join(order) == "ababab"
    assert all(len(one) == 2 and min(one) >= 0 for took in times.values() for one in (took.wall, took.cpu))


def test_a_busy_round_does_not_decide():
    ours, peer = Times([2.0, 90.0, 2.0], [1.0] * 3), Times([1.0, 1.0, 1.0], [2.0] * 3)
    assert (ours.over(peer), ours.cpu_over(peer)) == (2.0, 0.5)


@pytest.mark.parametrize(
    ("target", "code", "line"),
    [
        (Target("speed", 2.0, at_most=3), 0, "holds  speed: 2.00 (at most 3)"),
        (Target("speed", 3.5, at_most=3), 1, "MISSED speed: 3.50 (at most 3)"),
        (Target("share", 0.9, at_least=0.9), 0, "holds  share: 0.90 (at least 0.9)"),
        (Target("share", 0.8, at_least=0.9), 1, "MISSED share: 0.80 (at least 0.9)"),
    ],
)
def test_a_missed_target_is_said_and_counts(capsys, target, code, line):
    assert measure.verdict([Target("other", 1.0, at_most=1), target]) == code
    assert line in capsys.readouterr().out


def test_others_learn_between_the_batches_of_a_training_run(tmp_path):
    config = Config(
        out=tmp_path, preprocess=PreprocessSection(size=(32, 32)), augment=training.AUGMENT,
        model=ModelSection(dimensions=2, backbone="resnet10t"), train=TrainSection(batch_size=2, epochs=1),
    )  # fmt: skip
    times = training.measure(config, tmp_path, training.Options(turn=2, rounds=3, workers=0))
    assert list(times) == [training.OURS, training.LIMIT, training.MONAI]
    assert all(len(one) == 3 and min(one) > 0 for took in times.values() for one in (took.wall, took.cpu))
    claims = list(training.targets("tiny", times, "cpu"))
    assert claims[0].measured == pytest.approx(times[training.LIMIT].cpu_over(times[training.OURS]))
