"""Where memory ends: smaller batches, then the CPU, then a refusal."""

import numpy as np
import pytest
import torch

from pipeline.domain import ScanError
from pipeline.model import inference
from pipeline.model.inference import BATCH, outputs_of

ARRAYS = np.arange(11, dtype=np.float32).reshape(11, 1, 1, 1)
CPU, GPU = torch.device("cpu"), torch.device("cuda")


class Network:
    """Doubles its input, on a device that holds only so many inputs at once."""

    def __init__(self, holds: int, error: Exception) -> None:
        self.holds, self.error, self.sizes, self.moves = holds, error, [], []

    def embed(self, batch: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(batch))
        if len(batch) > self.holds:
            raise self.error
        return 2 * batch.flatten(1)

    def head(self, features: torch.Tensor) -> torch.Tensor:
        return features + 1

    def cpu(self) -> "Network":
        self.moves.append("cpu")
        return self

    def to(self, device: torch.device) -> "Network":
        self.moves.append(device.type)
        return self


OUT_OF_MEMORY = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"),
    RuntimeError("CUDA error: out of memory"),  # of pinned memory
    MemoryError(),
)


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(("holds", "sizes"), [(8, [8, 8]), (4, [8, 4, 4, 8, 4]), (1, [8, 4, 2, *[1] * 8])])
def test_smaller_batches_give_the_same_rows(holds: int, sizes: list[int], error: Exception) -> None:
    network = Network(holds, error)
    logits, features = outputs_of(network, ARRAYS, CPU)
    np.testing.assert_array_equal(logits[:, 0], 2 * np.arange(11) + 1)
    np.testing.assert_array_equal(features[:, 0], 2 * np.arange(11))
    assert network.sizes[: len(sizes)] == sizes
    assert network.moves == []


def test_after_the_gpu_comes_the_cpu_and_the_network_goes_back(monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    whole = inference._in_batches

    def in_batches(network, part, device, *how):
        if device.type == "cuda":
            raise OUT_OF_MEMORY[0]
        return whole(network, part, device, *how)

    monkeypatch.setattr(inference, "_in_batches", in_batches)
    network = Network(BATCH, OUT_OF_MEMORY[0])
    logits, _ = outputs_of(network, ARRAYS[:3], GPU)
    np.testing.assert_array_equal(logits[:, 0], [1, 3, 5])
    assert network.moves == ["cpu", "cuda"]
    assert "not enough memory on cuda; next: batches of 4" in caplog.text
    assert "not enough memory on cuda; next: another device" in caplog.text


def test_a_scan_that_is_too_much_for_all_is_refused() -> None:
    with pytest.raises(ScanError, match="too_large: the network needs more memory for this scan than there is"):
        outputs_of(Network(0, OUT_OF_MEMORY[0]), ARRAYS[:1], CPU)


def test_other_errors_are_not_taken_for_it() -> None:
    with pytest.raises(RuntimeError, match="shapes"):
        outputs_of(Network(0, RuntimeError("shapes do not fit")), ARRAYS[:1], CPU)


class Copied:
    """A tensor that tells how it is copied."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []

    def pin_memory(self) -> "Copied":
        self.asked.append(("pin_memory",))
        return self

    def to(self, device: torch.device, non_blocking: bool = False) -> "Copied":
        self.asked.append((device.type, non_blocking))
        return self


@pytest.mark.parametrize(("device", "asked"), [(CPU, [("cpu", False)]), (GPU, [("pin_memory",), ("cuda", True)])])
def test_copies_to_a_gpu_alone_are_pinned_and_not_waited_for(device, asked) -> None:
    inputs = Copied()
    assert inference.on_device(inputs, device) is inputs
    assert inputs.asked == asked


def test_a_part_is_brought_back_when_the_next_one_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a GPU is given to do ahead, and no more: with all parts begun at once, all would lie in its memory."""
    events = []

    class Begun:
        def __init__(self, part: np.ndarray) -> None:
            self.part = part
            events.append(f"begin {part.min():g}")

        def cpu(self) -> torch.Tensor:
            events.append(f"fetch {self.part.min():g}")
            return torch.from_numpy(self.part.reshape(-1, 1))

    monkeypatch.setattr(inference, "_with_less", lambda network, part, *how: (Begun(part),) * 2)
    logits, features = outputs_of(None, np.arange(19, dtype=np.float32)[:, None, None, None], GPU)
    np.testing.assert_array_equal(logits[:, 0], np.arange(19))
    np.testing.assert_array_equal(features, logits)
    fetches = [events[i] for i in range(len(events)) if i == 0 or events[i] != events[i - 1]]
    assert fetches == ["begin 0", "begin 8", "fetch 0", "begin 16", "fetch 8", "fetch 16"]
