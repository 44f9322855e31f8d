"""The thin LightningModule: two steps and the optimizer; losses that know class weights and missing labels."""

import math
from pathlib import Path

import lightning
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional

from pipeline.config import Config
from pipeline.console import Bar
from pipeline.files import write_table
from pipeline.model.augment import apply, draw

Batch = tuple[Tensor, Tensor, Tensor]
"""Inputs [n, channel, (z,) y, x], targets [n, finding] (0, 1, NaN for missing), rows [n]."""


class Learner(lightning.LightningModule):
    """A network with its loss, its tune AUROC and its optimizer. Final numbers never come from here."""

    def __init__(self, network: nn.Module, config: Config, task: str, class_weights: Tensor) -> None:
        super().__init__()
        self.network, self.config, self.task = network, config, task
        self.class_weights: Tensor
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.outputs: list[tuple[Tensor, Tensor]] = []

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """The loss of one augmented batch."""
        inputs, targets, rows = batch
        rules = self.config
        drawn = draw(rules.augment, rules.preprocess.size, rules.train.seed, self.current_epoch, rows.tolist())
        with torch.autocast(inputs.device.type, enabled=False):
            inputs = apply(inputs, drawn)
        loss = self.loss(self.network(inputs), targets)
        if not bool(torch.isfinite(loss)):
            raise FloatingPointError(
                f"the loss is not a number in epoch {self.current_epoch + 1} (table rows {rows.tolist()}); "
                "the checkpoints before it are intact. Lower train.learning_rate or check these scans"
            )
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(rows))
        return loss

    def validation_step(self, batch: Batch, _: int) -> None:
        """Keep logits and targets of the tune split until the epoch's end."""
        inputs, targets, _rows = batch
        logits = self.network(inputs)
        self.outputs.append((logits.float(), targets))

    def on_validation_epoch_end(self) -> None:
        """Log loss and AUROC (mean over the findings that have both classes) of the tune split."""
        logits, targets = (torch.cat(parts) for parts in zip(*self.outputs, strict=True))
        self.outputs.clear()
        loss = float(self.loss(logits, targets))
        auroc = mean_auroc(logits.cpu().numpy(), targets.cpu().numpy())
        # A small tune split ties at the top for many epochs: equal AUROCs are told apart by their loss.
        self.log_dict({"tune_loss": loss, "tune_auroc": auroc, "tune_score": auroc - 1e-3 * loss})

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Weighted cross entropy; missing labels (NaN) count nothing."""
        return classification_loss(
            logits.float(), targets, self.task, self.class_weights, self.config.train.label_smoothing
        )

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW (no decay on norms and biases), linear warm-up, then a cosine to zero."""
        rules = self.config.train
        decayed = [p for p in self.network.parameters() if p.requires_grad and p.ndim > 1]
        rest = [p for p in self.network.parameters() if p.requires_grad and p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": rules.weight_decay}, {"params": rest, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=rules.learning_rate)
        steps = int(self.trainer.estimated_stepping_batches)
        warm = max(1, round(rules.warmup_fraction * steps))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warmup_cosine(step, warm, steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class EpochReport(Callback):
    """Writes history.csv and moves the progress bar, once an epoch."""

    def __init__(self, history: Path, report: Bar) -> None:
        self.history, self.report = history, report

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002
        """Show the epoch and its tune AUROC."""
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        auroc = float(trainer.callback_metrics["tune_auroc"])
        self.report(trainer.current_epoch + 1, int(trainer.max_epochs or 0), f"tune AUROC {auroc:.3f}")

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002
        """Rewrite history.csv with the epoch's loss and tune AUROC; a resumed epoch replaces its row."""
        if not trainer.is_global_zero:
            return
        row: dict[str, float] = {"epoch": trainer.current_epoch + 1}
        row |= {k: float(v) for k, v in trainer.callback_metrics.items() if "_" in k}
        row["learning_rate"] = trainer.optimizers[0].param_groups[0]["lr"]
        earlier = pd.read_csv(self.history) if self.history.is_file() else pd.DataFrame({"epoch": []})
        kept = earlier[earlier["epoch"] < row["epoch"]]
        write_table(self.history, pd.concat([kept, pd.DataFrame([row])]) if len(kept) else pd.DataFrame([row]))


def classification_loss(logits: Tensor, targets: Tensor, task: str, weights: Tensor, smoothing: float) -> Tensor:
    """Mean weighted cross entropy of logits [n, finding] for targets [n, finding] with NaN where missing.

    Args:
        weights: [2, finding] weights of label 0 and 1 (binary, multilabel), or [1, finding] of each class.
    """
    if task == "multiclass":
        return functional.cross_entropy(logits, targets.argmax(1), weight=weights[0], label_smoothing=smoothing)
    known = ~torch.isnan(targets)
    labels = torch.where(known, targets, torch.zeros_like(targets))
    weight = torch.where(labels > 0.5, weights[1], weights[0]) * known
    goal = labels * (1 - 2 * smoothing) + smoothing
    losses = functional.binary_cross_entropy_with_logits(logits, goal, weight=weight, reduction="sum")
    return losses / known.sum().clamp(min=1)


def class_weights(targets: NDArray[np.float32], task: str, weighted: bool) -> Tensor:
    """Inverse class frequencies with mean 1 over the scans, in the shape `classification_loss` takes."""
    n_findings = targets.shape[1]
    if task == "multiclass":
        counts = np.nansum(targets, axis=0, keepdims=True)
        weights = counts.sum() / (n_findings * np.maximum(counts, 1))
    else:
        ones, known = np.nansum(targets, axis=0), np.sum(~np.isnan(targets), axis=0)
        counts = np.stack([known - ones, ones])
        weights = known / (2 * np.maximum(counts, 1))
    return torch.from_numpy(weights.astype(np.float32) if weighted else np.ones_like(weights, dtype=np.float32))


def mean_auroc(logits: NDArray[np.float32], targets: NDArray[np.float32]) -> float:
    """AUROC averaged over the findings that have both labels; 0.5 where none has."""
    values = []
    for column in range(targets.shape[1]):
        known = ~np.isnan(targets[:, column])
        y = targets[known, column]
        if len(np.unique(y)) == 2:
            values.append(float(roc_auc_score(y, logits[known, column])))
    return float(np.mean(values)) if values else 0.5


def warmup_cosine(step: int, warm: int, steps: int) -> float:
    """Factor of the peak learning rate: a line up to `warm` steps, then a cosine to 0 at `steps`."""
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm) / max(1, steps - warm))))
