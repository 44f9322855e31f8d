"""Fitting one network with Lightning's Trainer: device, precision, checkpoints, early stop, resume."""

import gc
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Literal

import lightning
import numpy as np
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, EarlyStopping, WeightAveraging
from numpy.typing import NDArray

from pipeline.cohort.manifest import Cohort
from pipeline.config import Config
from pipeline.console import Bar, progress, stdout
from pipeline.domain import UsageError
from pipeline.files import write_json, write_text
from pipeline.model.averaging import moving_average
from pipeline.model.backbone import Classifier, build_network, count_parameters
from pipeline.model.batch import check_input
from pipeline.model.checkpoints import (
    BEST,
    FINISHED,
    LAST,
    WholeFiles,
    forget_if_lost,
    keepers,
    newest,
    stopped_early,
)
from pipeline.model.dataset import Inputs, ScanDataset, plain_loader, train_loader
from pipeline.model.learner import BadLossError, EpochReport, Learner
from pipeline.model.losses import class_weights, scan_weights
from pipeline.model.memory import is_out_of_memory, keep_freed_memory
from pipeline.model.plan import Job
from pipeline.model.precision import trains_in_bf16
from pipeline.model.preprocess import input_widths
from pipeline.model.processes import rank
from pipeline.model.stages import recompute_stages
from pipeline.model.tracking import check_tracking, loggers
from pipeline.model.weights import load_backbone
from pipeline.sections import TrainSection


def fit(job: Job, config: Config, cohort: Cohort, inputs: Inputs, y: NDArray[np.float32], resume: bool) -> Classifier:
    """The fitted network of one job, on the CPU: its best checkpoint by the tune split, or the last one of a fold.

    Where memory ends, the step's scans pass in twice as many parts, from the last whole epoch on.

    Args:
        y: Targets [row, finding], NaN where missing.
        resume: Go on from checkpoints/<job>/last.ckpt where there is one.

    Raises:
        UsageError: If the loss is no number, or one scan is too large for the memory.
    """
    home, rules = config.out / "checkpoints" / job.name, config.train
    finished = home / FINISHED
    if resume:
        forget_if_lost(home, job.select)
    while True:
        try:
            if resume and finished.is_file():  # going on would train past an early stop
                network = build_network(config.model, len(cohort.findings))
            else:
                network = _fit_once(job, config.model_copy(update={"train": rules}), cohort, inputs, y, resume)
            break
        except BadLossError as bad:
            ids = ", ".join(str(cohort.table["scan_id"].iloc[row]) for row in bad.rows)
            raise UsageError(
                f"{bad} (scans {ids}); the checkpoints before it are kept in {home}. Lower train.learning_rate, or "
                "look at these scans"
            ) from None
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            rules, resume = _in_more_parts(rules), True
        gc.collect()  # what the failed try still holds
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    if rank() == 0:
        write_text(finished, "")
    kept = home / (BEST if job.select else LAST)
    state = torch.load(kept, map_location="cpu", weights_only=True)["state_dict"]
    network.load_state_dict({k.removeprefix("network."): v for k, v in state.items() if k.startswith("network.")})
    return network.cpu().eval()


def _fit_once(
    job: Job, config: Config, cohort: Cohort, inputs: Inputs, y: NDArray[np.float32], resume: bool
) -> Classifier:
    """The network after its last epoch."""
    rules, home = config.train, config.out / "checkpoints" / job.name
    lightning.seed_everything(job.seed, verbose=False)
    if device_of(config).type == "cpu":
        keep_freed_memory()
    network = build_network(config.model, len(cohort.findings))
    checkpoint = newest(home) if resume else None
    if checkpoint and stopped_early(checkpoint):
        return network
    match = load_backbone(network.trunk, config.model)
    if rank() == 0:
        write_json(config.out / "weights.json", match.as_json())
    if rules.recompute:
        recompute_stages(network)
    millions = count_parameters(network) / 1e6
    stdout.print(f"{job.name}: {config.model.backbone}, {millions:.1f} million parameters; {match}", markup=False)
    weights = class_weights(y[job.learn], cohort.task, rules.imbalance == "weights")
    drawn_by = scan_weights(y[job.learn], cohort.task) if rules.imbalance == "sampler" else None
    learn, watch = (ScanDataset(inputs.arrays, y, rows.tolist()) for rows in (job.learn, job.watch))
    size = rules.scans_at_once
    with progress(f"Training {job.name}") as bar, quiet_lightning():
        try:
            build_trainer(job, config, bar).fit(
                Learner(network, config, cohort.task, weights, job.seed, _widths(cohort, config)),
                train_loader(learn, size, job.seed, drawn_by, (rank(), rules.devices * rules.num_nodes)),
                plain_loader(watch, size),
                ckpt_path=str(checkpoint) if checkpoint else None,
                weights_only=True,
            )
        except SystemExit as stop:
            # Lightning leaves without an exit code when it is told to stop (SIGTERM, Ctrl-C): that is not "done".
            raise KeyboardInterrupt from stop
    return network


def _widths(cohort: Cohort, config: Config) -> torch.Tensor:
    """[row, d] widths of the inputs along x, y(, z) in mm, over that of the first axis, as multiples of its voxels.

    So inputs whose voxels are cubes are turned in voxels, to the last bit.
    """
    measured = [[[float(n) for n in word.split("x")] for word in cohort.table[key]] for key in ("shape", "spacing_mm")]
    rules = config.preprocess
    mm = np.stack([input_widths(shape, spacing, rules) for shape, spacing in zip(*measured, strict=True)])
    return torch.from_numpy(mm / mm[:, :1] * np.float32(rules.size[0]))


def build_trainer(job: Job, config: Config, bar: Bar, *more: Callback) -> lightning.Trainer:
    """Lightning's trainer of one network: its checkpoints, history, precision and devices, and callbacks of yours."""
    rules = config.train
    history = config.out / ("history.csv" if job.name == "single" else f"history_{job.name}.csv")
    callbacks = [*keepers(config.out / "checkpoints" / job.name, job.select), EpochReport(history, bar), *more]
    if job.select and rules.patience:
        callbacks.append(EarlyStopping("tune_score", mode="max", patience=rules.patience))
    if rules.ema:
        callbacks.append(WeightAveraging(avg_fn=partial(moving_average, rules.ema)))
    several, strategy = rules.devices * rules.num_nodes > 1, rules.strategy
    if several and strategy in ("auto", "ddp"):
        strategy = "ddp_find_unused_parameters_true" if _some_do_not_learn(config) else "ddp"
    return lightning.Trainer(
        max_epochs=rules.epochs, accelerator=rules.accelerator, precision=_precision(config), devices=rules.devices,
        num_nodes=rules.num_nodes, strategy=strategy, sync_batchnorm=several and device_of(config).type == "cuda",
        use_distributed_sampler=False,
        gradient_clip_val=rules.gradient_clip or None, accumulate_grad_batches=rules.accumulate, callbacks=callbacks,
        enable_progress_bar=False, logger=loggers(config, job.name),
        enable_model_summary=False, num_sanity_val_steps=0, log_every_n_steps=1, plugins=[WholeFiles()],
    )  # fmt: skip


def _some_do_not_learn(config: Config) -> bool:
    """Whether weights may have no gradients, which plain ddp waits for: frozen stages, heads of timm's other networks.

    A ResNet uses all that it has up to its last feature map.
    """
    return config.train.unfreeze_epochs > 0 or "resne" not in config.model.backbone


def _in_more_parts(rules: TrainSection) -> TrainSection:
    """The same steps in smaller parts, said aloud.

    Raises:
        UsageError: If a step passes scan by scan already.
    """
    step = int(rules.batch_size)
    divisors = [n for n in range(2 * rules.accumulate, step + 1) if step % n == 0]
    if not divisors:
        raise UsageError("one scan is too large for the memory; lower preprocess.size or take a smaller model.backbone")
    stdout.print(
        f"out of memory with {rules.scans_at_once} scans at once: going on with "
        f"{step // divisors[0]}, {divisors[0]} times a step (train.accumulate)",
        markup=False,
    )
    return rules.model_copy(update={"accumulate": divisors[0]})


def check_network(config: Config, cohort: Cohort) -> None:
    """Build the network, load its weights, choose devices, precision and tracking, only so that they can fail now.

    Raises:
        UsageError: As `fit` would, or where devices or the size of the input don't fit.
    """
    _precision(config)
    _check_devices(config.train)
    check_tracking(config)
    check_input(config, len(cohort.findings))
    load_backbone(build_network(config.model, len(cohort.findings)).trunk, config.model)


def _check_devices(rules: TrainSection) -> None:
    """Ask Lightning for the devices, and for nothing else."""
    try:
        with quiet_lightning():
            lightning.Trainer(
                accelerator=rules.accelerator, devices=rules.devices, num_nodes=rules.num_nodes,
                strategy=rules.strategy, logger=False, enable_checkpointing=False, enable_progress_bar=False,
                enable_model_summary=False,
            )  # fmt: skip
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        keys = ", ".join(f"{key}: {getattr(rules, key)}" for key in ("accelerator", "devices", "num_nodes", "strategy"))
        raise UsageError(f"train: this machine can't train with {keys}. {error}") from None


def device_of(config: Config) -> torch.device:
    """The GPU where there is one and the config allows it, else the CPU."""
    wanted = config.train.accelerator != "cpu" and torch.cuda.is_available()
    return torch.device("cuda" if wanted else "cpu")


def _precision(config: Config) -> Literal["32-true", "bf16-mixed"]:
    return "bf16-mixed" if trains_in_bf16(config.train.precision, device_of(config)) else "32-true"


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Keep Lightning's advice about workers and logging intervals off the user's screen; errors still pass."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"lightning\..*")
        warnings.filterwarnings("ignore", module=r"torch\.utils\.tensorboard.*")
        try:
            yield
        finally:
            logger.setLevel(level)
