"""What a network can't take is refused before anything is read."""

import pytest

from pipeline.config import parse_config
from pipeline.domain import UsageError
from pipeline.model.batch import check_input


def config(size, batch=8, **model):
    return parse_config({"preprocess": {"size": size}, "model": model, "train": {"batch_size": batch}}, "test")


@pytest.mark.parametrize(
    ("size", "batch", "model", "message"),
    [
        ((16, 16, 16), 1, {"backbone": "resnet10", "width": 0.125}, r"of 16 x 16 x 16 at a time resnet10 leaves one"),
        ((64, 64), 8, {"dimensions": 2, "backbone": "mixer_s32_224"}, r"can't take .* \(Input height \(64\) doesn't"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(size, batch, model, message) -> None:
    with pytest.raises(UsageError, match=message):
        check_input(config(size, batch, **model), 1)


@pytest.mark.parametrize(
    ("size", "batch", "model"),
    [
        ((16, 16, 16), 2, {"backbone": "resnet10", "width": 0.125}),
        ((64, 64, 64), 1, {"backbone": "resnet10", "width": 0.125}),
        ((16, 16, 16), 1, {"backbone": "resnet10", "width": 0.125, "weights": "medicalnet"}),  # its norms are held
        ((16, 16), 8, {"dimensions": 2, "backbone": "resnet10t"}),
    ],
)
def test_inputs_that_fit_pass(size, batch, model) -> None:
    check_input(config(size, batch, **model), 1)
