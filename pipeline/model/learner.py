"""The thin LightningModule: two steps and the optimizer."""

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

from pipeline.config import Config
from pipeline.console import Bar
from pipeline.files import write_table
from pipeline.model.augment import apply, draw, mix, sample_seed
from pipeline.model.dataset import Batch
from pipeline.model.losses import classification_loss
from pipeline.model.stages import hold_all_norms, norms_are_held, parameter_groups, thaw


class BadLossError(FloatingPointError):
    """A loss that is not a finite number.

    Attributes:
        epoch: Counted from 1. rows: Rows of the cohort's table in the batch.
    """

    def __init__(self, epoch: int, rows: list[int]) -> None:
        super().__init__(f"the loss is not a finite number in epoch {epoch}")
        self.epoch, self.rows = epoch, rows


class Learner(lightning.LightningModule):
    """A network with its loss, its tune AUROC and its optimizer. Final numbers never come from here.

    Args:
        widths: [row, d] how wide the input of each row of the table is along x, y(, z); None: each voxel is a cube.
    """

    def __init__(
        self, network: nn.Module, config: Config, task: str, class_weights: Tensor, seed: int,
        widths: Tensor | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.network, self.config, self.task, self.seed = network, config, task, seed
        self.class_weights: Tensor
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.widths = widths
        self.losses: list[Tensor] = []
        self.seen = 0
        self.outputs: list[tuple[Tensor, Tensor]] = []

    def on_train_epoch_start(self) -> None:
        """Let the stages learn whose turn it is."""
        rules = self.config.train
        self.losses, self.seen = [], 0
        thaw(self.network, self.current_epoch, rules.unfreeze_epochs)
        if norms_are_held(rules, pretrained=self.config.model.weights != "none"):
            hold_all_norms(self.network)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """The loss of one augmented batch; dropout's stream begins anew, so that a resumed run draws the same."""
        inputs, targets, rows = batch
        rules = self.config
        _begin_dropout(sample_seed(self.seed, self.current_epoch, index), inputs.device)
        widths = rules.preprocess.size if self.widths is None else self.widths[rows]
        drawn = draw(rules.augment, widths, self.seed, self.current_epoch, rows)
        with torch.autocast(inputs.device.type, enabled=False):
            inputs, targets = mix(apply(inputs, drawn), targets, drawn)
        loss = self.loss(self.network(inputs), targets)
        if not bool(torch.isfinite(loss)):
            raise BadLossError(self.current_epoch + 1, rows)
        self.losses.append(loss.detach() * len(rows))
        self.seen += len(rows)
        return loss

    def validation_step(self, batch: Batch, _: int) -> None:
        """Keep logits and targets of the tune split until the epoch's end."""
        inputs, targets, _rows = batch
        logits = self.network(inputs)
        self.outputs.append((logits.float(), targets))

    def on_validation_epoch_end(self) -> None:
        """Log the epoch's loss, and loss and AUROC (mean over findings that have both classes) of the tune split."""
        logits, targets = (torch.cat(parts) for parts in zip(*self.outputs, strict=True))
        self.outputs.clear()
        loss = float(self.loss(logits, targets))
        auroc = mean_auroc(logits.cpu().numpy(), targets.cpu().numpy())
        # A small tune split ties at the top for many epochs: equal AUROCs are told apart by their loss.
        learned = float(torch.stack(self.losses).sum()) / self.seen
        self.log_dict(
            {"train_loss": learned, "tune_loss": loss, "tune_auroc": auroc, "tune_score": auroc - 1e-3 * loss}
        )

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Weighted cross entropy; missing labels (NaN) count nothing."""
        rules = self.config.train
        return classification_loss(
            logits.float(), targets, self.task, self.class_weights, rules.label_smoothing, rules.loss == "focal"
        )

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW (rates by stage, no decay on norms and biases), linear warm-up, then a cosine to zero."""
        rules = self.config.train
        optimizer = torch.optim.AdamW(parameter_groups(self.network, rules), lr=rules.learning_rate, fused=True)
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


def _begin_dropout(seed: int, device: torch.device) -> None:
    """Start the stream that dropout draws from; `torch.manual_seed` takes 5 ms to do it for devices that sleep."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


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
