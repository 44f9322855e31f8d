import numpy as np
import pytest
import torch
from torch.nn import functional

from pipeline.model.losses import class_weights, classification_loss, scan_weights

LOGITS = torch.tensor([[2.0, -1.0, 0.3], [0.5, 0.1, -2.0], [-1.0, 3.0, 0.0], [0.2, 0.2, 0.2]])
ONE_HOT = torch.eye(3)[[0, 2, 1, 1]]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_multiclass_equals_torch(smoothing) -> None:
    weights = class_weights(ONE_HOT.numpy(), "multiclass", True)
    ours = classification_loss(LOGITS, ONE_HOT, "multiclass", weights, smoothing)
    theirs = functional.cross_entropy(LOGITS, ONE_HOT.argmax(1), weight=weights[0], label_smoothing=smoothing)
    torch.testing.assert_close(ours, theirs)


def test_missing_labels_count_nothing() -> None:
    targets = torch.tensor([[1.0, torch.nan, 0.0], [0.0, 1.0, torch.nan]])
    known = ~torch.isnan(targets)
    ours = classification_loss(LOGITS[:2], targets, "multilabel", torch.ones(2, 3))
    torch.testing.assert_close(ours, functional.binary_cross_entropy_with_logits(LOGITS[:2][known], targets[known]))


def test_focal_counts_what_is_right_already_less() -> None:
    """Lin 2017, equation 4, by hand."""
    logits, targets = torch.tensor([[2.0], [-1.0]]), torch.tensor([[1.0], [1.0]])
    p = torch.sigmoid(logits)
    torch.testing.assert_close(
        classification_loss(logits, targets, "binary", torch.ones(2, 1), focal=True), (-((1 - p) ** 2) * p.log()).mean()
    )
    p = LOGITS.softmax(1)[ONE_HOT.bool()]
    torch.testing.assert_close(
        classification_loss(LOGITS, ONE_HOT, "multiclass", torch.ones(1, 3), focal=True),
        (-((1 - p) ** 2) * p.log()).mean(),
    )


def test_soft_labels_take_their_share_of_both_weights() -> None:
    weights = torch.tensor([[0.5], [4.0]])
    soft = classification_loss(torch.zeros(1, 1), torch.tensor([[0.25]]), "binary", weights)
    assert float(soft) == pytest.approx((0.75 * 0.5 + 0.25 * 4.0) * np.log(2))


def test_rare_classes_weigh_more() -> None:
    y = np.array([[1], [0], [0], [0]], dtype=np.float32)
    np.testing.assert_allclose(class_weights(y, "binary", True), [[4 / 6], [2.0]], rtol=1e-6)
    np.testing.assert_allclose(class_weights(y, "binary", False), [[1.0], [1.0]])


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_the_sampler_evens_the_classes_out(task) -> None:
    y = np.repeat([[1, 0, 0], [0, 1, 0], [0, 0, 1]], [60, 30, 10], axis=0).astype(np.float32)
    y = y if task == "multiclass" else y[:, 2:]
    weights = scan_weights(y, task)
    assert weights.mean() == pytest.approx(1)
    for column in y.T:
        assert weights[column == 1].sum() == pytest.approx(100 / (3 if task == "multiclass" else 2))


def test_the_sampler_knows_missing_labels() -> None:
    y = np.array([[1, np.nan], [0, 1], [0, 0], [0, 0]], dtype=np.float32)
    weights = scan_weights(y, "multilabel")
    assert np.isfinite(weights).all()
    assert weights.argmax() == 0
