"""Fitting one network with Lightning's Trainer: device, precision, checkpoints, early stop, resume."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from numpy.typing import NDArray

from pipeline.cohort.manifest import Cohort
from pipeline.config import Config
from pipeline.console import Bar, progress, stdout
from pipeline.domain import UsageError
from pipeline.model.backbone import Classifier, build_network, count_parameters
from pipeline.model.dataset import Inputs, ScanDataset, plain_loader, train_loader
from pipeline.model.learner import EpochReport, Learner, class_weights
from pipeline.model.plan import Job
from pipeline.model.weights import load_backbone


def fit(job: Job, config: Config, cohort: Cohort, inputs: Inputs, y: NDArray[np.float32], resume: bool) -> Classifier:
    """The fitted network of one job, on the CPU: its best checkpoint by the tune split, or the last one of a fold.

    Args:
        y: Targets [row, finding], NaN where missing.
        resume: Go on from checkpoints/<job>/last.ckpt where there is one.
    """
    lightning.seed_everything(config.train.seed, verbose=False)
    network = build_network(config.model, len(cohort.findings))
    match = load_backbone(network.trunk, config.model)
    millions = count_parameters(network) / 1e6
    stdout.print(f"{job.name}: {config.model.backbone}, {millions:.1f} million parameters; {match}", markup=False)
    weights = class_weights(y[job.learn], cohort.task, config.train.class_weights)
    home = config.out / "checkpoints" / job.name
    last = home / "last.ckpt"
    learn, watch = (ScanDataset(inputs.arrays, y, rows.tolist()) for rows in (job.learn, job.watch))
    with progress(f"Training {job.name}") as bar, _quiet_lightning():
        try:
            _trainer(job, config, bar).fit(
                Learner(network, config, cohort.task, weights),
                train_loader(learn, config.train.batch_size, config.train.seed),
                plain_loader(watch, config.train.batch_size),
                ckpt_path=str(last) if resume and last.is_file() else None,
                weights_only=True,
            )
        except SystemExit as stop:
            # Lightning leaves without an exit code when it is told to stop (SIGTERM, Ctrl-C): that is not "done".
            raise KeyboardInterrupt from stop
    state = torch.load(home / "best.ckpt" if job.select else last, map_location="cpu", weights_only=True)["state_dict"]
    network.load_state_dict({k.removeprefix("network."): v for k, v in state.items() if k.startswith("network.")})
    return network.cpu().eval()


def _trainer(job: Job, config: Config, bar: Bar) -> lightning.Trainer:
    rules = config.train
    history = config.out / ("history.csv" if job.select else f"history_{job.name}.csv")
    best = ModelCheckpoint(
        config.out / "checkpoints" / job.name, "best", monitor="tune_score", mode="max", save_last=True,
        enable_version_counter=False,
    )  # fmt: skip
    callbacks: list[lightning.Callback] = [best, EpochReport(history, bar)]
    if job.select and rules.patience:
        callbacks.append(EarlyStopping("tune_score", mode="max", patience=rules.patience))
    return lightning.Trainer(
        max_epochs=rules.epochs, accelerator=rules.accelerator, devices=1, precision=_precision(config),
        gradient_clip_val=rules.gradient_clip or None, callbacks=callbacks, enable_progress_bar=False,
        logger=TensorBoardLogger(config.out, "tensorboard", job.name), enable_model_summary=False,
        num_sanity_val_steps=0, log_every_n_steps=1,
    )  # fmt: skip


def device_of(config: Config) -> torch.device:
    """The GPU where there is one and the config allows it, else the CPU."""
    wanted = config.train.accelerator != "cpu" and torch.cuda.is_available()
    return torch.device("cuda" if wanted else "cpu")


def _precision(config: Config) -> Literal["32-true", "bf16-mixed"]:
    """bf16 on a CPU computes wrong weight gradients of small 3D maps, so auto takes it on capable GPUs only."""
    on_gpu = device_of(config).type == "cuda"
    if config.train.precision == "bf16" and not on_gpu:
        raise UsageError("train.precision: bf16 is for GPUs; on a CPU it computes wrong 3D gradients. Use auto or fp32")
    capable = on_gpu and torch.cuda.is_bf16_supported()
    return "bf16-mixed" if capable and config.train.precision != "fp32" else "32-true"


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Keep Lightning's advice about workers and logging intervals off the user's screen; errors still pass."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"lightning\..*")
        warnings.filterwarnings("ignore", module=r"torch\.utils\.tensorboard.*")
        yield
    logger.setLevel(level)
