"""Checkpoints that are whole or absent: the last two epochs and, where the tune split may choose, the best."""

from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from pipeline.console import stdout
from pipeline.files import replacing

LAST, BEFORE, BEST = "last.ckpt", "before_last.ckpt", "best.ckpt"
FINISHED = "finished"
"""Empty file beside the checkpoints of a network that needs no more training."""


class WholeFiles(TorchCheckpointIO):
    """Writes a checkpoint by rename; the last one before it is kept too."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None) -> None:  # noqa: ARG002
        """Write whole or not at all; a disk that is full leaves the earlier file as it was."""
        path, content = Path(path), BytesIO()
        torch.save(checkpoint, content)  # into memory: on a full disk torch raises anything but an OSError
        with replacing(path) as temporary:
            temporary.write_bytes(content.getbuffer())
            if path.name == LAST and path.is_file():
                path.replace(path.with_name(BEFORE))


def keepers(home: Path, select: bool) -> list[Callback]:
    """What saves every epoch's checkpoint in `home` and, with `select`, the best by the tune split."""
    kept: list[Callback] = [ModelCheckpoint(home, Path(LAST).stem, save_top_k=1, enable_version_counter=False)]
    if select:
        best = ModelCheckpoint(home, Path(BEST).stem, "tune_score", mode="max", enable_version_counter=False)
        kept.insert(0, best)  # first the best, so that a last checkpoint knows it
    return kept


def newest(home: Path) -> Path | None:
    """The newest checkpoint in `home` that can be read, or None; a damaged one is passed over, aloud."""
    for path in (home / LAST, home / BEFORE):
        if not path.is_file():
            continue
        if not (fault := damage(path)):
            return path
        note = f"{path} is damaged ({fault}) and passed over"
        stdout.print(f"{note}; going on from the epoch before it, if there is one", markup=False)
    return None


def damage(path: Path) -> str:
    """Why a checkpoint can't be read, "" where it can."""
    try:
        torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises EOFError, RuntimeError, OSError or UnpicklingError on damaged files
        return type(error).__name__
    return ""


def forget_if_lost(home: Path, select: bool) -> None:
    """Let a network be trained again, aloud, where the checkpoint that it would be taken from is damaged or gone.

    A last epoch is had again from the one before it; the best one only from the start, to the same weights.
    """
    kept = home / (BEST if select else LAST)
    begun = (home / LAST, home / FINISHED) if select else (home / FINISHED,)
    if not any(path.is_file() for path in begun) or not (fault := damage(kept)):
        return
    stdout.print(f"{kept} is damaged or gone ({fault}): {home.name} is trained again", markup=False)
    for path in (home / FINISHED, *((home / LAST, home / BEFORE, kept) if select else ())):
        path.unlink(missing_ok=True)


def stopped_early(checkpoint: Path) -> bool:
    """Whether training came to its early stop with this epoch: going on would train past it."""
    states = torch.load(checkpoint, map_location="cpu", weights_only=True)["callbacks"]
    return any(s["wait_count"] >= s["patience"] for name, s in states.items() if name.startswith("EarlyStopping"))
