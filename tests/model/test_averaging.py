from functools import partial

import pytest
from torch import nn
from torch.optim.swa_utils import AveragedModel

from pipeline.model.averaging import moving_average


def average_of(values, decay):
    """What the callback keeps of weights that pass through these values."""
    network = nn.BatchNorm1d(1)
    mean = AveragedModel(network, avg_fn=partial(moving_average, decay), use_buffers=True)
    for value in values:
        nn.init.constant_(network.weight, value)
        network.num_batches_tracked += 1
        mean.update_parameters(network)
    assert int(mean.module.num_batches_tracked) == len(values)
    return mean.module.weight.item()


@pytest.mark.parametrize("steps", [20, 100, 1000])
def test_short_trainings_forget_how_they_began(steps) -> None:
    assert average_of([1.0] + [0.0] * (steps - 1), 0.99) < 1e-4  # a fixed decay: 0.83, 0.37, 4e-5


def test_the_window_grows_up_to_the_decay() -> None:
    expected = 1.0
    for n, value in enumerate([4.0, 2.0, 8.0], start=1):
        kept = min(0.25, (1 + n) / (10 + n))
        expected = kept * expected + (1 - kept) * value
    assert average_of([1.0, 4.0, 2.0, 8.0], 0.25) == pytest.approx(expected)
    assert average_of([1.0] * 50 + [2.0], 0.5) == pytest.approx(1.5)
