"""The moving average of a network's weights, which is what is judged and kept."""

from functools import partial

from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor


def moving_average(decay: float) -> WeightAveraging:
    """Lightning's callback that averages the weights after each step.

    A fixed decay of 0.99 would leave a third of what the network was after its first step in a training of a hundred
    steps. So the average begins short, as TensorFlow's ExponentialMovingAverage does with `num_updates`.
    """
    return WeightAveraging(avg_fn=partial(_average, decay))


def _average(decay: float, mean: Tensor, value: Tensor, n: Tensor) -> Tensor:
    """The average after `n` earlier ones; counters are not averaged."""
    if not mean.is_floating_point():
        return value
    return mean.lerp(value, 1 - min(decay, (1 + int(n)) / (10 + int(n))))
