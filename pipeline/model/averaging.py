"""The moving average of a network's weights, which is what is judged and kept."""

from torch import Tensor


def moving_average(decay: float, mean: Tensor, value: Tensor, n: Tensor) -> Tensor:
    """The average of one tensor after `n` earlier values, as Lightning's WeightAveraging asks for it.

    A fixed decay of 0.99 would leave a third of what the network was after its first step in a training of a hundred
    steps. So the average begins short, as TensorFlow's ExponentialMovingAverage does with `num_updates`. Counters are
    not averaged.
    """
    if not mean.is_floating_point():
        return value
    return mean.lerp(value, 1 - min(decay, (1 + int(n)) / (10 + int(n))))
