"""The whole training step, beside the same network on tensors in memory and beside a plain MONAI loop.

    python -m benchmarks.training        a minute of CPU time; on a GPU where there is one

All take turns inside one run of ours: after every few batches the others pass as many. Ours reads the memory-mapped
cache, augments, learns and keeps its records through Lightning. The limit passes one batch, already on the device,
again and again. MONAI's loop is CacheDataset, Compose with the same augmentation, DataLoader. Network, layout, loss,
precision, clipping, optimizer and batch size are the same for all. On a CPU all keep freed memory, as a run of ours
does; alone, the others would be a tenth to a fifth slower.
"""

import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import lightning
import numpy as np
import torch
import tyro
from lightning.pytorch.callbacks import Callback
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.measure import Target, Times, cpu_seconds, show, verdict
from pipeline.config import Config
from pipeline.model.backbone import build_network
from pipeline.model.dataset import ScanDataset, plain_loader, train_loader
from pipeline.model.fit import build_trainer, device_of, quiet_lightning
from pipeline.model.learner import Learner
from pipeline.model.memory import keep_freed_memory
from pipeline.model.plan import Job
from pipeline.sections import AugmentSection, ModelSection, PreprocessSection, TrainSection

LEAST_SHARE_OF_THE_LIMIT = 0.95
"""Samples per second, of those on tensors in memory."""
LEAST_TIMES_MONAI = {"cpu": 0.98, "cuda": 1.5}
"""Samples per second, of those of MONAI's loop; on a CPU no slower, within the 2 % by which equal runs differ."""
OURS, LIMIT, MONAI = "ours, everything included", "limit: tensors in memory", "MONAI loop"
AUGMENT = AugmentSection(flip_axes=("x",), probability=1, rotate_degrees=10, scale=0.1, translate=0.05, intensity=0.05)
"""What `prepare` proposes for volumes, but of every input, as MONAI's loop has it."""
SCANS = 24
"""Scans in memory or in the cache; they come again and again."""


@dataclass(frozen=True)
class Options:
    """How much is measured; 0: what suits the device."""

    pictures: int = 0
    """Pictures of 224 x 224 in a batch (4 on a CPU, 32 on a GPU)."""
    volumes: int = 0
    """Volumes of 96 x 96 x 96 in a batch (2 on a CPU, 8 on a GPU)."""
    turn: int = 0
    """Batches that each passes in its turn (1 on a CPU, 20 on a GPU)."""
    rounds: int = 9
    """Turns of each that count."""
    workers: int = -1
    """Loader processes of MONAI's loop (0 on a CPU, where the network needs every core; 4 on a GPU)."""


class Enough(Exception):  # noqa: N818
    """All rounds are measured: training may stop."""


class Turns(Callback):
    """Times a run of ours, and lets others work between its batches.

    Attributes:
        times: Contender -> its times, a first turn included that only warms up.
    """

    def __init__(self, others: Mapping[str, Callable[[], object]], turn: int, rounds: int) -> None:
        self.others, self.turn, self.rounds, self.passed = others, turn, rounds, 0
        self.times = {name: Times([], []) for name in (OURS, *others)}
        self.began = now()

    def on_train_batch_end(self, *_: object) -> None:
        """After each turn of ours: note its time, then give every other as many batches."""
        self.passed += 1
        if self.passed % self.turn:
            return
        self._note(OURS)
        for name, work in self.others.items():
            for _batch in range(self.turn):
                work()
            self._note(name)
        if len(self.times[OURS].wall) > self.rounds:
            raise Enough

    def _note(self, name: str) -> None:
        end = now()
        self.times[name].wall.append(end[0] - self.began[0])
        self.times[name].cpu.append(end[1] - self.began[1])
        self.began = now()


def now() -> tuple[float, float]:
    """Wall and CPU time, after the GPU has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter(), cpu_seconds()


def passes(network: nn.Module, config: Config, batches: Iterator[tuple[Tensor, Tensor]]) -> Callable[[], object]:
    """A plain training step on the next batch: forward, loss, backward, clipping, AdamW."""
    device = device_of(config)
    network.to(device).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.train.learning_rate, fused=True)
    loss_of = nn.BCEWithLogitsLoss()

    def step() -> None:
        inputs, targets = next(batches)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.bfloat16, enabled=device.type == "cuda"):
            logits = network(inputs.to(device, non_blocking=True))
        loss_of(logits.float(), targets.to(device, non_blocking=True)).backward()
        nn.utils.clip_grad_norm_(network.parameters(), config.train.gradient_clip)
        optimizer.step()

    return step


def in_memory(arrays: NDArray[np.float32], y: NDArray[np.float32], config: Config) -> Iterator[tuple[Tensor, Tensor]]:
    """One batch on the device, again and again."""
    size, device = config.train.batch_size, device_of(config)
    batch = torch.from_numpy(arrays[:size].copy()).to(device), torch.from_numpy(y[:size]).to(device)
    while True:
        yield batch


def monai_loop(
    arrays: NDArray[np.float32], y: NDArray[np.float32], config: Config, workers: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches as MONAI's own examples make them: cached, augmented one by one, collated."""
    from monai.data import CacheDataset, DataLoader
    from monai.transforms import (
        Compose,
        EnsureTyped,
        RandAffined,
        RandFlipd,
        RandScaleIntensityd,
        RandShiftIntensityd,
    )

    d, rules = arrays.ndim - 2, config.augment
    affine = RandAffined(
        "image", prob=1, rotate_range=[np.deg2rad(rules.rotate_degrees)] * (1 if d == 2 else 3),
        scale_range=[rules.scale] * d, translate_range=[rules.translate * n for n in arrays.shape[2:]],
        padding_mode="border",
    )  # fmt: skip
    change = [
        EnsureTyped("image"),
        RandFlipd("image", prob=0.5, spatial_axis=d - 1),
        affine,
        RandScaleIntensityd("image", rules.intensity, prob=1),
        RandShiftIntensityd("image", rules.intensity, prob=1),
    ]
    scans = [{"image": one.copy(), "label": label} for one, label in zip(arrays, y, strict=True)]
    cached = CacheDataset(scans, Compose(change), progress=False)
    loader = DataLoader(
        cached, workers, batch_size=config.train.batch_size, shuffle=True, persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(), drop_last=True,
    )  # fmt: skip
    while True:
        for batch in loader:
            yield batch["image"].as_tensor(), batch["label"]


def measure(config: Config, folder: Path, options: Options) -> dict[str, Times]:
    """Times of all contenders with one network."""
    size, shape = config.train.batch_size, tuple(reversed(config.preprocess.size))
    scans = -(-SCANS // size) * size
    arrays = open_memmap(folder / "inputs.npy", mode="w+", dtype=np.float32, shape=(scans, 1, *shape))
    arrays[:] = np.random.default_rng(0).random(arrays.shape, dtype=np.float32)
    arrays.flush()
    inputs = np.load(folder / "inputs.npy", mmap_mode="r")
    y = (np.arange(scans) % 2).astype(np.float32)[:, None]
    networks = [build_network(config.model, 1) for _ in range(3)]
    others = {
        LIMIT: passes(networks[1], config, in_memory(inputs, y, config)),
        MONAI: passes(networks[2], config, monai_loop(inputs, y, config, options.workers)),
    }
    turns = Turns(others, options.turn, options.rounds)
    batches = (options.rounds + 1) * options.turn
    rows = np.resize(np.arange(scans), batches * size)
    job = Job("single", rows, rows[:1], select=True)
    with suppress(Enough), quiet_lightning():
        build_trainer(job, config, lambda *_: None, turns).fit(
            Learner(networks[0], config, "binary", torch.ones(2, 1), 0),
            train_loader(ScanDataset(inputs, y, rows.tolist()), size, 0),
            plain_loader(ScanDataset(inputs, y, [0]), size),
        )
    return {name: Times(took.wall[1:], took.cpu[1:]) for name, took in turns.times.items()}


def main(options: Options) -> int:
    """Measure, print, and say which targets hold."""
    kind = device_of(Config()).type
    if kind == "cpu":
        keep_freed_memory()
    chosen = Options(
        options.pictures or (32 if kind == "cuda" else 4), options.volumes or (8 if kind == "cuda" else 2),
        options.turn or (20 if kind == "cuda" else 1), options.rounds,
        options.workers if options.workers >= 0 else 4 if kind == "cuda" else 0,
    )  # fmt: skip
    claims = []
    for name, section, size, batch in (
        ("2D resnet50", ModelSection(dimensions=2, backbone="resnet50"), (224, 224), chosen.pictures),
        ("3D resnet18", ModelSection(backbone="resnet18"), (96, 96, 96), chosen.volumes),
    ):
        with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
            config = Config(
                out=Path(folder), preprocess=PreprocessSection(size=size), model=section, augment=AUGMENT,
                train=TrainSection(batch_size=batch, epochs=1),
            )  # fmt: skip
            times = measure(config, Path(folder), chosen)
        what = f"{name}, {' x '.join(map(str, size))}"
        show(f"{what}: {chosen.turn} x {batch} scans on a {_device_name()}; {chosen.rounds} rounds", times, LIMIT)
        claims += targets(what, times, kind)
    return verdict(claims)


def targets(what: str, times: Mapping[str, Times], kind: str) -> Iterator[Target]:
    """What is claimed, and what was measured; on a CPU in CPU time, which other work hardly changes."""

    def speed(peer: str) -> float:
        took, other = times[peer], times[OURS]
        return took.over(other) if kind == "cuda" else took.cpu_over(other)

    yield Target(f"{what}: speed, of the same on tensors in memory", speed(LIMIT), at_least=LEAST_SHARE_OF_THE_LIMIT)
    yield Target(f"{what}: speed, of MONAI's loop", speed(MONAI), at_least=LEAST_TIMES_MONAI[kind])


def _device_name() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    lightning.seed_everything(0, verbose=False)
    sys.exit(main(tyro.cli(Options)))
