"""`score` end to end, beside its parts alone and beside a plain MONAI pipeline, on the same CT series and network.

    python -m benchmarks.scoring        5 minutes on 2 cores

A cost is that of one more scan: a run over many less a run over few, so that starting up counts for neither. CPU times
are those of all processes; on a busy machine they tell more than wall times. MONAI gets as many processes as `score`.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import pydicom
import torch
from rich.table import Table
from torch.utils.data import DataLoader

from benchmarks.measure import Target, console, verdict
from benchmarks.series import SLICES, UID_ROOT, write_series
from pipeline.domain import ReadRules
from pipeline.evaluation.calibration import uncalibrated
from pipeline.model.backbone import build_network
from pipeline.model.inference import BATCH
from pipeline.model.package import Model, Settings, load_model, save_model
from pipeline.model.preprocess import preprocess
from pipeline.scans.find import find_scans, read_volume
from pipeline.scoring.folder import Request, score
from pipeline.sections import ModelSection, PreprocessSection

FEW, MANY, PEER, ROUNDS = BATCH, 6 * BATCH, 6 * BATCH, 3
SIDE_MM, SIZE, WORKERS = 5.0, 64, 2
LEAST_OF_THE_PARTS = 0.9
LEAST_TIMES_MONAI = 3.0


@dataclass(frozen=True)
class Cost:
    """Seconds for one scan."""

    wall: float
    cpu: float

    def per(self, scans: int) -> "Cost":
        """The same for one of so many."""
        return Cost(self.wall / scans, self.cpu / scans)

    def less(self, other: "Cost") -> "Cost":
        """What is left without the other."""
        return Cost(self.wall - other.wall, self.cpu - other.cpu)


def cost_of(work: Callable[[], object]) -> Cost:
    """What a piece of work takes, in this process and in those that it starts and ends."""
    wall, before = time.perf_counter(), os.times()
    work()
    after = os.times()
    return Cost(time.perf_counter() - wall, sum(after[:4]) - sum(before[:4]))


def write_scans(folder: Path, count: int, slices: int = SLICES) -> Path:
    """`count` series of the same pixels, each a series of its own."""
    files = [pydicom.dcmread(path) for path in write_series(folder / "000", slices=slices)]
    for n in range(1, count):
        (folder / f"{n:03d}").mkdir()
        for k, ds in enumerate(files):
            ds.StudyInstanceUID, ds.SeriesInstanceUID = f"{UID_ROOT}{n}.1", f"{UID_ROOT}{n}.2"
            ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{UID_ROOT}{n}.3.{k}"
            ds.save_as(folder / f"{n:03d}" / f"{k:03d}.dcm")
    return folder


def write_model(folder: Path, backbone: str = "resnet18", width: float = 1.0, size: int = SIZE) -> Model:
    """An untrained 3D ResNet."""
    network = ModelSection(dimensions=3, backbone=backbone, width=width)
    settings = Settings(
        name="benchmark", task="binary", findings=("nodule",), read=ReadRules(), model=network, operating_points={},
        preprocess=PreprocessSection(size=(size,) * 3, spacing_mm=(SIDE_MM,) * 3, window=(-1000, 400)),
        calibration=uncalibrated("binary", 1),
    )  # fmt: skip
    save_model(folder, settings, [build_network(network, 1)])
    return load_model(folder)


def alone(folder: Path, model: Model) -> dict[str, Cost]:
    """Step -> cost of one scan, each step for itself, in this process."""
    scans = find_scans(folder)[0][:BATCH]
    volume = read_volume(scans[0])
    inputs = [preprocess(volume, model.preprocess)] * BATCH

    def read() -> None:
        for scan in scans:
            read_volume(scan)

    def prepare() -> None:
        for _ in scans:
            preprocess(volume, model.preprocess)

    return {
        "read": cost_of(read).per(BATCH),
        "preprocess": cost_of(prepare).per(BATCH),
        "forward": cost_of(lambda: model.predict_inputs(inputs, [""] * BATCH)).per(BATCH),
    }


def ours(folder: Path, few: Path, model: Model, out: Path, count: int) -> Cost:
    """Cost of one more scan with `score`."""
    runs = [
        cost_of(lambda name=name, scans=scans: score(Request(model.folder, scans, out / name, WORKERS)))  # type: ignore[misc]
        for name, scans in (("many", folder), ("few", few))
    ]
    return runs[0].less(runs[1]).per(count - FEW)


def monai(folders: Sequence[Path], model: Model) -> None:
    """Scores the series as MONAI's tutorials do."""
    from monai.data import Dataset
    from monai.transforms import (
        Compose,
        EnsureChannelFirstd,
        LoadImaged,
        Orientationd,
        Resized,
        ScaleIntensityRanged,
        Spacingd,
    )

    key, (network,) = "image", model.networks
    transform = Compose([
        LoadImaged(key, reader="PydicomReader"),
        EnsureChannelFirstd(key),
        Orientationd(key, axcodes="RAS", labels=None),
        Spacingd(key, pixdim=(SIDE_MM,) * 3),
        Resized(key, spatial_size=(SIZE,) * 3),
        ScaleIntensityRanged(key, a_min=-1000, a_max=400, b_min=0, b_max=1, clip=True),
    ])  # fmt: skip
    loader = DataLoader(Dataset([{key: str(one)} for one in folders], transform), BATCH, num_workers=WORKERS)
    with torch.inference_mode():
        for batch in loader:
            torch.sigmoid(network(torch.as_tensor(batch[key])))


def peer(folder: Path, model: Model) -> Cost:
    """Cost of one more scan with MONAI."""
    folders = sorted(folder.iterdir())
    many, few = cost_of(lambda: monai(folders[:PEER], model)), cost_of(lambda: monai(folders[:FEW], model))
    return many.less(few).per(PEER - FEW)


def main() -> int:
    """Measure, print, and say which targets hold."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        root = Path(name)
        folder, few = write_scans(root / "scans", MANY), write_scans(root / "few", FEW)
        model = write_model(root / "model")
        alone(folder, model)  # imports and caches
        rounds = []
        for n in range(ROUNDS):
            found = alone(folder, model)
            found["score, end to end"] = ours(folder, few, model, root / f"out{n}", MANY)
            found["MONAI, end to end"] = peer(folder, model)
            rounds.append(found)
    show(rounds)
    return verdict(targets(rounds))


def show(rounds: Sequence[dict[str, Cost]]) -> None:
    """Print a line a part."""
    title = (
        f"one CT series of {SLICES} slices of 512 x 512, medians of {len(rounds)} rounds, "
        f"{torch.get_num_threads()} threads"
    )
    table = Table("", "wall ms", "CPU ms", title=title, title_justify="left")
    for part in rounds[0]:
        table.add_row(part, *(f"{median(getattr(r[part], one) for r in rounds) * 1e3:.0f}" for one in ("wall", "cpu")))
    console.print(table)


def targets(rounds: Sequence[dict[str, Cost]]) -> list[Target]:
    """What is claimed, and what was measured."""
    parts = ("read", "preprocess", "forward")

    def share(one: str) -> float:
        return median(sum(getattr(r[p], one) for p in parts) / getattr(r["score, end to end"], one) for r in rounds)

    def times(one: str) -> float:
        return median(getattr(r["MONAI, end to end"], one) / getattr(r["score, end to end"], one) for r in rounds)

    return [
        Target("speed over 1 / (read + preprocess + forward), wall", share("wall"), at_least=LEAST_OF_THE_PARTS),
        Target("the same in CPU time", share("cpu"), at_least=LEAST_OF_THE_PARTS),
        Target("speed over MONAI's, wall", times("wall"), at_least=LEAST_TIMES_MONAI),
        Target("the same in CPU time", times("cpu"), at_least=LEAST_TIMES_MONAI),
    ]


if __name__ == "__main__":
    sys.exit(main())
