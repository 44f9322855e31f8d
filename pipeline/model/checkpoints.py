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
        try:
            torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            # torch raises EOFError, RuntimeError, OSError or UnpicklingError on damaged files.
            note = f"{path} is damaged ({type(error).__name__}) and passed over"
            stdout.print(f"{note}; going on from the epoch before it, if there is one", markup=False)
        else:
            return path
    return None
