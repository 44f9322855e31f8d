"""bf16 is compared with fp32 before its numbers are used, and told apart from it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.domain import OperatingPoint, UsageError
from pipeline.model.compared import BF16_TOLERANCE, Compared, with_bf16
from pipeline.model.package import Model
from pipeline.model.preprocess import ModelInput
from tests.model.tiny import lively_model


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU that has instructions for bf16; without them torch computes the same, slowly."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return lively_model(tmp_path_factory.mktemp("model") / "m", members=2, test_time_flips=("x",))


@pytest.fixture(scope="module")
def inputs() -> np.ndarray:
    return np.random.default_rng(1).random((11, 1, 16, 24, 24), dtype=np.float32)


@pytest.mark.usefixtures("native")
def test_bf16_gives_the_probabilities_of_fp32_but_not_its_bits(model: Model, inputs: np.ndarray) -> None:
    half = with_bf16(model)
    assert half.engine is not None
    assert half.engine.difference is None
    items = [ModelInput(array, np.eye(4)) for array in inputs]
    ours, theirs = (m.predict_inputs(items, [""] * 11) for m in (model, half))
    gaps = [abs(a.probabilities["nodule"] - b.probabilities["nodule"]) for a, b in zip(ours, theirs, strict=True)]
    assert 0 < max(gaps) < BF16_TOLERANCE
    assert half.engine.difference == pytest.approx(max(gaps), abs=1e-6)
    half.outputs(inputs[:1])
    assert half.engine.difference == pytest.approx(max(gaps), abs=1e-6)  # of the first batch
    assert model.engine is None


@pytest.mark.usefixtures("native")
def test_a_row_in_bf16_does_not_depend_on_its_neighbours(model: Model, inputs: np.ndarray) -> None:
    half = with_bf16(model)
    together = half.outputs(inputs)[0]
    alone = np.concatenate([half.outputs(inputs[k : k + 1])[0] for k in range(len(inputs))], axis=1)
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize(("shift", "differ"), [(0.5, r"0\.1\d*"), (np.nan, "nan")])
def test_what_differs_by_too_much_is_refused(model: Model, inputs: np.ndarray, shift: float, differ: str) -> None:
    def run(arrays: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        logits, features = model.outputs(arrays)
        return logits + np.float32(shift), features

    engine = Compared(run, model, "this and that", 0.02, "take that")
    with pytest.raises(
        UsageError, match=rf"this and that differ by {differ} in probability .* 0\.02 is allowed: take that"
    ):
        engine(inputs)
    assert engine.difference is None


@pytest.mark.usefixtures("native")
def test_a_call_that_turns_is_refused(model: Model, inputs: np.ndarray) -> None:
    """Here the third scan's probability in fp32 is the threshold, which it meets, and bf16 gives it less."""
    exact, half = (m.calibrated(m.outputs(inputs)[0]).mean(axis=0) for m in (model, with_bf16(model)))
    scan = int(np.argmax(exact - half))
    threshold = round(float(exact[scan, 0]), 6)
    points = {"nodule": OperatingPoint("nodule", threshold, "youden")}
    strict = replace(model, settings=model.settings.model_copy(update={"operating_points": points}))
    with pytest.raises(UsageError, match=r"call 1 of the first 1 scan differently, positive or not: .*precision fp32"):
        with_bf16(strict).outputs(inputs[scan : scan + 1])
    engine = Compared(lambda arrays: model.passed(arrays, bf16=True), strict, "", 0.02, "")
    assert engine(inputs[scan : scan + 1])
    assert engine.difference is not None


def test_a_cpu_without_instructions_for_it_is_told_so(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict, raising=False)
    with pytest.raises(UsageError, match=r"--precision bf16 is slower .* no avx512_bf16: score with --precision fp32"):
        with_bf16(model)
