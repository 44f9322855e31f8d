"""What a step needs, what there is, and the batch that follows from both."""

from pathlib import Path

import pytest
import torch

from pipeline.config import Config
from pipeline.console import count
from pipeline.domain import UsageError
from pipeline.model import batch, memory
from pipeline.model.backbone import Classifier, build_network, count_parameters
from pipeline.model.batch import check_memory, passes, with_batch_size
from pipeline.model.memory import available_bytes, step_need
from pipeline.sections import ModelSection, PreprocessSection, TrainSection

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SMALL = Config(
    preprocess=PreprocessSection(size=(32, 24, 16)),
    model=ModelSection(backbone="resnet10", width=0.125),
    train=TrainSection(batch_size="auto"),
)


def config(**train) -> Config:
    return SMALL.model_copy(update={"train": TrainSection(**train)})


def test_what_is_counted_is_what_autograd_keeps() -> None:
    network = build_network(SMALL.model, 1).train()
    kept, weights = {}, {p.data_ptr() for p in network.parameters()}

    def note(tensor):
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    inputs = torch.rand(2, 1, 16, 24, 32)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        network(inputs).sum()
    need = step_need(SMALL, 1)
    assert need.fixed == 16 * count_parameters(network) + memory.LIBRARIES
    of_two = sum(kept.values()) + 2 * max(kept.values()) + memory.INPUT_COPIES * inputs.nbytes
    assert need.each == pytest.approx(of_two / 2, rel=0.01)
    assert need.most(need.of(5)) == 5
    assert need.most(need.of(5) - 1) == 4
    assert need.most(0) == 0


@pytest.mark.parametrize(
    "section",
    [
        ModelSection(backbone="resnet10", shortcut="A", width=0.125),
        ModelSection(architecture="inflated", backbone="test_resnet"),
        ModelSection(architecture="slices", backbone="test_resnet"),
    ],
)
def test_every_kind_of_network_can_be_counted_and_recomputing_keeps_less(section) -> None:
    plain = SMALL.model_copy(update={"model": section, "train": TrainSection()})
    frugal = plain.model_copy(update={"train": TrainSection(recompute=True)})
    assert 0 < step_need(frugal, 2).each < step_need(plain, 2).each


def test_a_network_that_can_not_be_counted_is_left_to_try(monkeypatch) -> None:
    def refuse(self, inputs):
        raise NotImplementedError("no meta kernel")

    monkeypatch.setattr(Classifier, "forward", refuse)
    assert step_need(SMALL, 1) is None
    check_memory(config(batch_size=4096), 1, CPU)


def system(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


MEMINFO = {"proc/meminfo": "MemTotal: 9000 kB\nMemAvailable:    5000 kB\n"}
V2, V1 = "sys/fs/cgroup", "sys/fs/cgroup/memory"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        (MEMINFO, 5_120_000),
        (
            MEMINFO | {"proc/self/cgroup": "0::/\n", f"{V2}/memory.max": "3000\n", f"{V2}/memory.current": "2500\n",
                       f"{V2}/memory.stat": "anon 5\ninactive_file 400\n"},
            900,
        ),
        (MEMINFO | {"proc/self/cgroup": "0::/\n", f"{V2}/memory.max": "max\n"}, 5_120_000),
        (
            MEMINFO | {"proc/self/cgroup": "0::/a/b\n", f"{V2}/a/memory.max": "800", f"{V2}/a/memory.current": "100",
                       f"{V2}/a/b/memory.max": "max"},
            700,
        ),
        (
            {"proc/self/cgroup": "4:memory:/of/the/host\n1:cpu:/\n", f"{V1}/memory.limit_in_bytes": "1000",
             f"{V1}/memory.usage_in_bytes": "600", f"{V1}/memory.stat": "inactive_file 1\ntotal_inactive_file 50\n"},
            450,
        ),
        ({"proc/self/cgroup": "0::/\n", f"{V2}/memory.max": "10", f"{V2}/memory.current": "30"}, 0),
    ],
)  # fmt: skip
def test_the_tightest_limit_counts(tmp_path, files, expected) -> None:
    assert available_bytes(system(tmp_path, files)) == expected


def test_this_machine_tells() -> None:
    assert available_bytes() is None or available_bytes() > 0


@pytest.mark.parametrize(
    ("room", "message"),
    [
        (5, "8 scans of 32 x 24 x 16 voxels at once with .*: about .* GB are available; let at most 5 pass at once"),
        (0, "not even one fits: lower preprocess.size, take a smaller model.backbone, or set train.recompute: true"),
    ],
)
def test_a_step_that_does_not_fit_is_refused_with_what_would(monkeypatch, room, message) -> None:
    monkeypatch.setattr(batch, "available_bytes", lambda: step_need(SMALL, 1).of(room))
    with pytest.raises(UsageError, match=message):
        check_memory(config(batch_size=8), 1, CPU)
    check_memory(config(batch_size=8), 1, CUDA)
    if room:
        check_memory(config(batch_size=8, accumulate=2), 1, CPU)


@pytest.mark.parametrize(
    ("device", "room", "scans", "expected"),
    [
        (CPU, 100, 1000, 32),
        (CPU, 7, 1000, 4),
        (CPU, 100, 70, 8),
        (CPU, 100, 3, 1),
        (CPU, 100, 1, 1),
        (CPU, 0, 1000, 1),
        (CUDA, 9, 1000, 8),
    ],
)
def test_auto_is_the_largest_power_of_two_that_fits(monkeypatch, capsys, device, room, scans, expected) -> None:
    monkeypatch.setattr(batch, "available_bytes", lambda: int((step_need(SMALL, 1).of(room) + 9) / batch.SHARE))
    monkeypatch.setattr(batch, "passes", lambda config, outputs, size, device: size <= room)
    assert with_batch_size(SMALL, 1, scans, device).train.batch_size == expected
    assert f"auto is {expected} here, for {count(scans, 'scan')} on a" in capsys.readouterr().out


def test_a_number_is_left_alone_and_a_trial_tells(monkeypatch) -> None:
    assert with_batch_size(config(batch_size=3), 1, 1000, CPU).train.batch_size == 3
    assert passes(config(recompute=True), 1, 2, CPU)

    def full(self, inputs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Classifier, "forward", full)
    assert not passes(SMALL, 1, 2, CPU)


def test_freed_memory_is_kept_where_the_library_can(monkeypatch) -> None:
    monkeypatch.setattr(memory.platform, "libc_ver", lambda: ("", ""))
    assert not memory.keep_freed_memory()
