import numpy as np
import pytest
import torch

from pipeline.model import warp as warping
from pipeline.model.augment import apply, blurred, draw, mix
from pipeline.model.warp import affine_grid, warp
from pipeline.sections import AugmentSection

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


def test_turning_keeps_lengths_in_millimetres_however_far_apart_the_slices_lie() -> None:
    """Two inputs of one batch, 64 x 64 x 12 voxels: of 1 x 1 x 5 mm, and of cubes."""
    voxels, mm = torch.tensor([64.0, 64, 12]), torch.tensor([[1.0, 1, 5], [1, 1, 1]])
    theta = draw(AugmentSection(rotate_degrees=30, probability=1), voxels * mm, 0, 0, [1, 2]).theta
    half = voxels * mm / 2
    turn = torch.diag_embed(half) @ theta[:, :, :3] @ torch.diag_embed(1 / half)  # half widths -> millimetres
    torch.testing.assert_close(turn @ turn.mT, torch.eye(3).expand(2, 3, 3), atol=1e-5, rtol=0)
    assert (turn - torch.eye(3)).abs().amax((1, 2)).min() > 0.05
    torch.testing.assert_close(
        theta[1:], draw(AugmentSection(rotate_degrees=30, probability=1), (64, 64, 12), 0, 0, [2]).theta
    )


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


EVERYTHING = AugmentSection(
    flip_axes=("x", "y", "z"), probability=1, rotate_degrees=20, scale=0.2, translate=0.1, intensity=0.1,
    noise=0.1, elastic=0.05, blur=1.0, low_resolution=1.0, cutout=0.4, mixup=0.4,
)  # fmt: skip


@pytest.mark.parametrize("size", [(12, 10), (12, 10, 8)])
def test_the_whole_stream_of_a_sample_is_its_own(size) -> None:
    batch = torch.rand(3, 2, *reversed(size))
    together = apply(batch, draw(EVERYTHING, size, 7, 2, [4, 9, 1]))
    alone = torch.cat([apply(batch[k : k + 1], draw(EVERYTHING, size, 7, 2, [i])) for k, i in enumerate([4, 9, 1])])
    torch.testing.assert_close(together, alone)


def only(**rules):
    """What is drawn for the first of many samples that the rule changes at all (some happen half of the time)."""
    batch = torch.rand(1, 1, 16, 16)
    for index in range(20):
        drawn = draw(AugmentSection(**rules), (16, 16), 0, 0, [index])
        changed = apply(batch, drawn)
        if not torch.allclose(changed, batch):
            return batch, changed
    raise AssertionError("nothing changed")


@pytest.mark.parametrize("rules", [{"blur": 1.5}, {"low_resolution": 2.0}, {"elastic": 0.1}])
def test_smoothing_changes_never_leave_the_range_of_the_input(rules) -> None:
    batch, changed = only(**rules)
    assert batch.min() - 1e-6 <= changed.min()
    assert changed.max() <= batch.max() + 1e-6


@pytest.mark.parametrize("rules", [{"blur": 1.5}, {"low_resolution": 2.0}])
def test_blur_and_low_resolution_take_detail_away(rules) -> None:
    batch, changed = only(**rules)
    assert changed.std() < 0.9 * batch.std()


def test_each_sample_is_blurred_by_its_own_width() -> None:
    point = torch.zeros(2, 1, 15, 15)
    point[..., 7, 7] = 1
    out = blurred(point, torch.tensor([0.0, 2.0]))
    torch.testing.assert_close(out[0], point[0])
    assert float(out[1].sum()) == pytest.approx(1, abs=1e-4)
    assert float(out[1, 0, 7, 7]) == pytest.approx(1 / (2 * np.pi * 4), rel=0.05)  # the peak of a Gaussian of width 2


def test_a_hole_holds_the_mean_and_the_rest_stays() -> None:
    batch, changed = only(cutout=0.5)
    hole = changed == batch.mean()
    assert 0 < hole.sum() <= 64
    torch.testing.assert_close(changed[~hole], batch[~hole])


def test_mixing_keeps_the_larger_share_and_knows_missing_labels() -> None:
    drawn = draw(AugmentSection(mixup=0.4), (4, 4), 0, 0, range(40))
    assert float(drawn.mix.min()) >= 0.5
    assert float(drawn.mix.max()) <= 1
    batch, targets = torch.rand(40, 1, 4, 4), torch.rand(40, 2).round()
    targets[1, 0] = torch.nan
    mixed, goals = mix(batch, targets, drawn)
    share = float(drawn.mix[5])
    torch.testing.assert_close(mixed[5], share * batch[5] + (1 - share) * batch[6])
    torch.testing.assert_close(goals[5], share * targets[5] + (1 - share) * targets[6])
    assert goals[:, 0].isnan().nonzero().flatten().tolist() == [0, 1]


@pytest.mark.parametrize("shape", [(5, 8), (4, 6, 7)])
def test_the_grid_is_torchs_own(shape) -> None:
    d = len(shape)
    theta = torch.randn(3, d, d + 1, generator=torch.Generator().manual_seed(0))
    theirs = torch.nn.functional.affine_grid(theta, [3, 1, *shape], align_corners=False)
    torch.testing.assert_close(affine_grid(theta, shape), theirs, atol=1e-5, rtol=1e-5)


def sampled_by_torch(batch, grid):
    return torch.nn.functional.grid_sample(batch, grid, padding_mode="border", align_corners=False)


@pytest.mark.parametrize(("shape", "channels"), [((7, 9, 11), 1), ((32, 24, 20), 3), ((1, 8, 6), 1)])
def test_a_volume_is_sampled_as_torch_does(shape, channels, monkeypatch) -> None:
    """Far beyond the edges too; a tall picture tells its rows a little less exactly, and the tallest are not made."""
    rules = AugmentSection(flip_axes=("x", "z"), rotate_degrees=180, scale=0.4, translate=0.5)
    theta = draw(rules, shape[::-1], 0, 0, range(4)).theta
    batch = torch.rand(4, channels, *shape, generator=torch.Generator().manual_seed(0))
    theirs = sampled_by_torch(batch, affine_grid(theta, shape))
    torch.testing.assert_close(warp(batch, theta, None), theirs, atol=1e-4, rtol=0)
    monkeypatch.setattr(warping, "MOST_ROWS", shape[0] * shape[1] - 1)
    assert torch.equal(warp(batch, theta, None), theirs)


def test_a_volume_bends_between_control_points_as_torch_interpolates() -> None:
    shape, chance = (6, 7, 9), torch.Generator().manual_seed(0)
    bend = 0.2 * torch.rand(2, 3, 4, 4, 4, generator=chance) - 0.1
    batch = torch.rand(2, 1, *shape, generator=chance)
    field = torch.nn.functional.interpolate(bend, list(shape), mode="trilinear", align_corners=True)
    theirs = sampled_by_torch(batch, affine_grid(torch.eye(3, 4).expand(2, -1, -1), shape) + field.movedim(1, -1))
    torch.testing.assert_close(warp(batch, None, bend), theirs, atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", [(12, 10), (12, 10, 8)])
def test_inputs_that_are_left_as_they_are_are_mirrored_at_the_most(size) -> None:
    batch = torch.rand(40, 1, *reversed(size))
    rules = EVERYTHING.model_copy(update={"probability": 0.5, "mixup": 0.0})
    changed = apply(batch, draw(rules, size, 7, 2, range(40)))
    whole = apply(batch, draw(EVERYTHING.model_copy(update={"mixup": 0.0}), size, 7, 2, range(40)))
    mirrors = apply(batch, draw(AugmentSection(flip_axes=EVERYTHING.flip_axes), size, 7, 2, range(40)))
    still = [torch.allclose(one, mirror, atol=1e-4) for one, mirror in zip(changed, mirrors, strict=True)]
    assert 10 < sum(still) < 30
    for k, left in enumerate(still):
        assert left or torch.equal(changed[k], whole[k])
