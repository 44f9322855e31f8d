import pytest
import torch

from pipeline.config import AugmentSection
from pipeline.model.augment import apply, draw

ALL = AugmentSection(flip_axes=("x", "y", "z"), rotate_degrees=20, scale=0.2, translate=0.1, intensity=0.1, noise=0.1)


@pytest.mark.parametrize("size", [(12, 10), (12, 10, 8)])
def test_each_sample_has_its_own_stream(size) -> None:
    batch = torch.rand(3, 1, *reversed(size))
    together = apply(batch, draw(ALL, size, 7, 2, [4, 9, 1]))
    alone = torch.cat([apply(batch[k : k + 1], draw(ALL, size, 7, 2, [i])) for k, i in enumerate([4, 9, 1])])
    torch.testing.assert_close(together, alone)
    assert not torch.allclose(together, apply(batch, draw(ALL, size, 7, 3, [4, 9, 1])))


def test_nothing_asked_for_changes_nothing() -> None:
    batch = torch.rand(2, 1, 6, 6)
    torch.testing.assert_close(apply(batch, draw(AugmentSection(), (6, 6), 0, 0, [0, 1])), batch)


@pytest.mark.parametrize(("axis", "dimension"), [("x", -1), ("y", -2), ("z", -3)])
def test_a_flip_mirrors_its_own_axis_half_of_the_time(axis, dimension) -> None:
    batch = torch.rand(1, 1, 4, 5, 6)
    flipped = 0
    for index in range(60):
        out = apply(batch, draw(AugmentSection(flip_axes=(axis,)), (6, 5, 4), 0, 0, [index]))
        mirrored = torch.allclose(out, batch.flip(dimension), atol=1e-5)
        assert mirrored or torch.allclose(out, batch, atol=1e-5)
        flipped += mirrored
    assert 18 < flipped < 42


def test_rotation_keeps_shapes_in_an_oblong_input() -> None:
    z, y, x = torch.meshgrid(torch.arange(16.0), torch.arange(32.0), torch.arange(32.0), indexing="ij")
    ball = ((x - 15.5) ** 2 + (y - 15.5) ** 2 + (z - 7.5) ** 2 < 25).float()[None, None]
    out = apply(ball, draw(AugmentSection(rotate_degrees=40), (32, 32, 16), 1, 0, [3]))
    assert (out - ball).abs().sum() / ball.sum() < 0.35
    assert float(out.sum() / ball.sum()) == pytest.approx(1, abs=0.05)
