import numpy as np
import onnx
import pytest
import torch

from pipeline.domain import UsageError
from pipeline.evaluation.calibration import Calibration
from pipeline.model import engines
from pipeline.model.engines import disagreement, load_graph, with_engine, write_openvino
from pipeline.model.exported import CalibrationLayer, WholeModel, write_onnx
from pipeline.model.preprocess import ModelInput
from pipeline.sections import ModelSection, PreprocessSection
from tests.model.tiny import SECTION, lively_model

CALIBRATIONS = {
    "binary": Calibration("binary", (0.7,), (0.3,)),
    "multilabel": Calibration("multilabel", (0.7, 2.0), (0.3, -1.0), "platt"),
    "multiclass": Calibration("multiclass", (1.7,), (0.3, -0.1, -0.2)),
    "multiclass_platt": Calibration("multiclass", (1.7, 1.0, 0.5), (0.3, -0.1, -0.2), "platt"),
    "isotonic": Calibration(
        "multilabel", (1.0, 1.0), (0.0, 0.0), "isotonic", ((-2.0, -1.0, 0.5, 3.0), ()), ((0.1, 0.3, 0.3, 0.9), ())
    ),
}


@pytest.mark.parametrize("calibration", CALIBRATIONS.values(), ids=CALIBRATIONS)
def test_calibration_in_the_graph_is_that_of_the_tables(calibration: Calibration) -> None:
    logits = np.random.default_rng(0).normal(0, 3, (50, len(calibration.intercept))).astype(np.float32)
    found = CalibrationLayer(calibration)(torch.from_numpy(logits)).numpy()
    np.testing.assert_allclose(found, calibration.apply(logits.astype(np.float64)), atol=1e-6)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Two members with calibrations of their own, mirror images, norms as after training."""
    own = (Calibration("binary", (0.7,), (0.3,)), Calibration("binary", (1.4,), (-0.2,)))
    return lively_model(
        tmp_path_factory.mktemp("model"), members=2, test_time_flips=("x",), member_calibrations=own,
        preprocess=PreprocessSection(size=(16, 16, 16)),
    )  # fmt: skip


@pytest.fixture(scope="module")
def inputs() -> np.ndarray:
    return np.random.default_rng(1).random((11, 1, 16, 16, 16), dtype=np.float32)


@pytest.fixture(scope="module")
def onnx_file(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    write_onnx(model, path)
    return path


def test_onnx_gives_the_probabilities_of_torch(model, inputs, onnx_file) -> None:
    assert disagreement(model, load_graph(onnx_file), inputs) < 1e-5
    onnx.checker.check_model(str(onnx_file), full_check=True)


def test_the_onnx_file_takes_any_batch_and_names_its_ends(inputs, onnx_file) -> None:
    graph = load_graph(onnx_file)
    alone = np.concatenate([graph(one[np.newaxis])["probabilities"] for one in inputs])
    found = graph(inputs)
    assert {name: array.shape for name, array in found.items()} == {
        "probabilities": (11, 1), "logits": (2, 11, 1), "features": (2, 11, 64),
    }  # fmt: skip
    np.testing.assert_allclose(alone, found["probabilities"], atol=1e-6)


def test_openvino_gives_the_probabilities_of_torch(model, inputs, tmp_path) -> None:
    write_openvino(model, tmp_path / "model.xml")
    assert disagreement(model, load_graph(tmp_path / "model.xml"), inputs) < 1e-5


def test_predictions_with_another_engine_are_those_of_torch(model, inputs) -> None:
    items = [ModelInput(array, np.eye(4)) for array in inputs]
    ours = model.predict_inputs(items, [""] * 11)
    theirs = with_engine(model, "onnx").predict_inputs(items, [""] * 11)
    for one, other in zip(ours, theirs, strict=True):
        assert other.probabilities["nodule"] == pytest.approx(one.probabilities["nodule"], abs=2e-6)
        assert (other.model, other.in_distribution) == (one.model, one.in_distribution)


def test_an_engine_that_differs_is_refused_on_its_first_batch(model, inputs, monkeypatch, onnx_file) -> None:
    true = load_graph(onnx_file)

    def wrong(arrays):
        found = true(arrays)
        return found | {"logits": found["logits"] + np.float32(0.01)}

    monkeypatch.setattr(engines, "load_graph", lambda path: wrong)
    monkeypatch.setattr(engines, "write_onnx", lambda model, path: None)
    with pytest.raises(
        UsageError, match=r"onnx and torch differ by 0\.00\d+ in probability .* score without --backend"
    ):
        with_engine(model, "onnx").outputs(inputs)


def test_an_engine_that_is_not_installed_is_named(model, monkeypatch) -> None:
    monkeypatch.setitem(engines._MODULES, "onnx", "no_such_engine")
    with pytest.raises(UsageError, match=r"no_such_engine is not installed; .*\.\[export\]"):
        with_engine(model, "onnx")


@pytest.mark.parametrize(
    "section",
    [
        ModelSection(dimensions=2, backbone="resnet10t"),
        SECTION.model_copy(update={"pooling": "max", "shortcut": "A"}),
        ModelSection(dimensions=3, architecture="slices", backbone="resnet10t"),
        ModelSection(dimensions=3, architecture="inflated", backbone="resnet10t"),
    ],
    ids=["2d", "3d_max_pool_shortcut_a", "slices", "inflated"],
)
@pytest.mark.slow
def test_every_architecture_can_be_exported(section, tmp_path) -> None:
    size = (32, 32) if section.dimensions == 2 else (32, 32, 8)
    loaded = lively_model(tmp_path / "model", model=section, preprocess=PreprocessSection(size=size))
    write_onnx(loaded, tmp_path / "model.onnx")
    arrays = np.random.default_rng(2).random((3, 1, *reversed(size)), dtype=np.float32)
    assert disagreement(loaded, load_graph(tmp_path / "model.onnx"), arrays) < 1e-5
    with torch.inference_mode():
        assert torch.isfinite(WholeModel(loaded)(torch.from_numpy(arrays))[0]).all()
