"""Other engines for the forward pass: ONNX Runtime and OpenVINO, on the CPU. Each is compared with torch before use."""

import importlib
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from pipeline.domain import UsageError
from pipeline.model.compared import Array, Compared, Run
from pipeline.model.exported import INPUT, OUTPUTS, write_onnx
from pipeline.model.inference import padded_batches
from pipeline.model.package import Model

Graph: TypeAlias = Callable[[Array], dict[str, Array]]
"""Inputs [batch, channel, (z,) y, x] -> `exported.OUTPUTS` by name."""
EngineName: TypeAlias = Literal["onnx", "openvino"]
TOLERANCE = 1e-4
"""Largest difference from torch, in probability; single precision gives 1e-6."""


def load_graph(path: Path) -> Graph:
    """The graph of a file that `pipeline.export` wrote: model.onnx or model.xml.

    Raises:
        UsageError: If the engine is not installed.
    """
    return _openvino_graph(path) if path.suffix == ".xml" else _onnx_graph(path)


def write_openvino(model: Model, path: Path) -> None:
    """Write the whole model as OpenVINO IR: `path` (.xml) and its weights (.bin) beside it, in single precision."""
    openvino = _engine("openvino")
    with tempfile.TemporaryDirectory() as folder:
        onnx = Path(folder) / "model.onnx"
        write_onnx(model, onnx)
        openvino.save_model(openvino.convert_model(onnx), path, compress_to_fp16=False)


def with_engine(model: Model, name: EngineName) -> Model:
    """The model with its forward pass done by another engine, and everything else as it was.

    Its first batch goes through torch, too.

    Raises:
        UsageError: If the engine is not installed. Its first batch raises it where the two disagree.
    """
    _engine(_MODULES[name])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("model.xml" if name == "openvino" else "model.onnx")
        (write_openvino if name == "openvino" else write_onnx)(model, path)
        graph = load_graph(path)
    return replace(
        model, engine=Compared(_run_of(graph), model, f"{name} and torch", TOLERANCE, "score without --backend")
    )


def disagreement(model: Model, graph: Graph, arrays: Array) -> float:
    """The largest difference between torch's calibrated probabilities of these inputs and the graph's."""
    logits, _ = model.outputs(arrays)
    other = np.concatenate([graph(batch)["probabilities"][:filled] for batch, filled in padded_batches(arrays)])
    return float(np.abs(model.calibrated(logits).mean(axis=0) - other).max())


def _run_of(graph: Graph) -> Run:
    """A graph as `Compared` wants it: in padded batches, as torch is run."""

    def run(arrays: Array) -> tuple[Array, list[Array]]:
        found = [(graph(batch), filled) for batch, filled in padded_batches(arrays)]
        logits, features = (
            np.concatenate([outputs[name][:, :filled] for outputs, filled in found], axis=1) for name in OUTPUTS[1:]
        )
        return logits, list(features)

    return run


_MODULES: dict[str, str] = {"onnx": "onnxruntime", "openvino": "openvino"}


def _onnx_graph(path: Path) -> Graph:
    runtime = _engine("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(arrays: Array) -> dict[str, Array]:
        return dict(zip(OUTPUTS, session.run(list(OUTPUTS), {INPUT: arrays}), strict=True))

    return run


def _openvino_graph(path: Path) -> Graph:
    core = _engine("openvino").Core()
    # By default the CPU plugin takes bf16 where the processor has it: other numbers than those calibrated.
    compiled = core.compile_model(core.read_model(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(arrays: Array) -> dict[str, Array]:
        found = compiled({INPUT: arrays})
        return {name: np.array(found[name]) for name in OUTPUTS}

    return run


def _engine(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise UsageError(f"{module} is not installed; install this package with its export extra: .[export]") from None
