"""Losses that know class weights, soft targets and missing labels."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

FOCAL_GAMMA = 2
"""Power of what is missing to the right answer, as in Lin 2017."""


def classification_loss(
    logits: Tensor, targets: Tensor, task: str, weights: Tensor, smoothing: float = 0.0, focal: bool = False
) -> Tensor:
    """Mean weighted cross entropy of logits [n, finding] for targets [n, finding]: 0 to 1, NaN where missing.

    Args:
        task: "multiclass": one finding of all is true; else each finding for itself.
        weights: [2, finding] weights of label 0 and 1 (binary, multilabel), or [1, finding] of each class.
        smoothing: Share of a label's mass that the other classes get.
        focal: Weigh each scan by the square of what is missing to its label (Lin 2017; for soft labels Li 2020).
    """
    if task == "multiclass":
        return _multiclass(logits, targets, weights[0], smoothing, focal)
    known = ~torch.isnan(targets)
    labels = torch.where(known, targets, torch.zeros_like(targets))
    weight = torch.lerp(weights[0].expand_as(labels), weights[1].expand_as(labels), labels) * known
    goal = labels * (1 - 2 * smoothing) + smoothing
    losses = weight * functional.binary_cross_entropy_with_logits(logits, goal, reduction="none")
    if focal:
        losses = losses * (labels - logits.sigmoid()).abs() ** FOCAL_GAMMA
    return losses.sum() / known.sum().clamp(min=1)


def _multiclass(logits: Tensor, targets: Tensor, weights: Tensor, smoothing: float, focal: bool) -> Tensor:
    goal = targets * (1 - smoothing) + smoothing / targets.shape[1]
    losses = -(weights * goal * logits.log_softmax(1)).sum(1)
    if focal:
        losses = losses * (1 - (targets * logits.softmax(1)).sum(1)) ** FOCAL_GAMMA
    return losses.sum() / (weights * targets).sum()


def class_weights(targets: NDArray[np.float32], task: str, weighted: bool) -> Tensor:
    """Inverse class frequencies with mean 1 over the scans, in the shape `classification_loss` takes; or ones."""
    n_findings = targets.shape[1]
    if task == "multiclass":
        counts = np.nansum(targets, axis=0, keepdims=True)
        weights = counts.sum() / (n_findings * np.maximum(counts, 1))
    else:
        ones, known = np.nansum(targets, axis=0), np.sum(~np.isnan(targets), axis=0)
        counts = np.stack([known - ones, ones])
        weights = known / (2 * np.maximum(counts, 1))
    return torch.from_numpy(weights.astype(np.float32) if weighted else np.ones_like(weights, dtype=np.float32))


def scan_weights(targets: NDArray[np.float32], task: str) -> NDArray[np.float64]:
    """How often each scan [n] is to be drawn: the mean weight of the labels that it has (1 on average)."""
    weights = class_weights(targets, task, True).numpy().astype(np.float64)
    if task == "multiclass":
        return np.asarray(np.nansum(targets * weights, axis=1))
    own = np.where(targets > 0.5, weights[1], weights[0])
    return np.asarray(np.nanmean(np.where(np.isnan(targets), np.nan, own), axis=1))
