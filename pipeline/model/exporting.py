"""The model folder in other formats, with what a user of theirs must know beside it, compared with torch."""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import torch

from pipeline import __version__
from pipeline.console import count
from pipeline.domain import UsageError
from pipeline.files import make_folder, write_json, write_sums, write_text
from pipeline.model import bundle
from pipeline.model.compared import Array
from pipeline.model.engines import TOLERANCE, Graph, disagreement, load_graph, write_openvino
from pipeline.model.exported import INPUT, write_onnx
from pipeline.model.package import Model

Format: TypeAlias = Literal["onnx", "openvino", "monai-bundle"]
FILES: Mapping[Format, str] = {"onnx": "model.onnx", "openvino": "model.xml", "monai-bundle": "configs/inference.json"}
"""The file of each format that its engine is given."""
BEGUN = ("model.onnx", "model.xml", "model.bin", "configs", "models")
"""What an export that did not end has left, at most."""
NOISE_INPUTS = 8
"""Inputs of noise that an export is compared on where no scans are given."""
INTENSITIES = {
    "window": "clip to [low, high] = window, then (x - low) / (high - low)",
    "minmax": "(x - min) / (max - min) over the input",
    "zscore": "(x - mean) / standard deviation over the input",
}
INFERENCE = {
    "imports": ["$import pipeline.model.bundle as ours"],
    "bundle_root": ".",
    "scans": "scans",
    "output": "predictions.csv",
    "model_folder": "$@bundle_root + '/models/model'",
    "batch_size": 8,
    "network_def": {"_target_": "pipeline.model.bundle.network", "model_folder": "@model_folder"},
    "preprocessing": {"_target_": "pipeline.model.bundle.ReadScand", "keys": "image", "model_folder": "@model_folder"},
    "dataset": {
        "_target_": "Dataset",
        "data": "$ours.items(@scans, @model_folder)",
        "transform": "@preprocessing",
    },
    "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": "@batch_size", "num_workers": 0},
    "inferer": {"_target_": "SimpleInferer"},
    "run": ["$ours.write_predictions(@output, @dataloader, @inferer, @network_def)"],
}
"""configs/inference.json: MONAI's dataset, loader and inferer around our reading and network."""


def export(model: Model, format_: Format, out: Path, inputs: Sequence[Array], scans: int) -> float:
    """Write the model to `out` in a format and return how far its probabilities are from torch's.

    All is made beside `out` and moved there once it was compared: what differs leaves nothing, an earlier export stays.

    Args:
        model: What to export.
        format_: "onnx", "openvino" or "monai-bundle".
        out: Folder for the format's files, export.json, README.md and SHA256SUMS.
        inputs: Model inputs [channel, (z,) y, x] to compare on.
        scans: How many of them are real scans; 0 for noise.

    Raises:
        UsageError: If `out` holds something else, an engine is not installed, or its probabilities differ from torch's.
    """
    _check_own(out)
    make_folder(out.parent)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as temporary:
        made = Path(temporary)
        _write(model, format_, made)
        graph = _bundle_graph(made) if format_ == "monai-bundle" else load_graph(made / FILES[format_])
        gap = disagreement(model, graph, np.stack(inputs))
        if not gap <= TOLERANCE:
            raise UsageError(
                f"{format_}: its probabilities differ from torch's by {gap:.2g}, where {TOLERANCE:g} is allowed; "
                "nothing was written"
            )
        _move_into(out, made)
    facts = description(model) | {
        "format": format_,
        "compared_with_torch": {
            "inputs": len(inputs),
            "of": "real scans" if scans else "noise",
            "largest_difference": gap,
        },
    }
    write_json(out / "export.json", facts)
    write_text(out / "README.md", _readme(model, format_))
    write_sums(out)
    return gap


def _move_into(out: Path, made: Path) -> None:
    """Move files and folders to `out`, in place of those of an earlier export."""
    out.mkdir(exist_ok=True)
    for one in sorted(made.iterdir()):
        if one.is_dir():
            shutil.rmtree(out / one.name, ignore_errors=True)
        one.replace(out / one.name)


def _check_own(out: Path) -> None:
    if out.is_dir() and not (out / "export.json").is_file():
        foreign = sorted(one.name for one in out.iterdir() if one.name not in BEGUN and not one.name.startswith("."))
        if foreign:
            raise UsageError(f"--out {out}: holds {foreign[0]}, which is no export; choose a new or an empty folder")


def noise(model: Model) -> list[Array]:
    """Inputs of noise, the same ones each time."""
    random = np.random.default_rng(0)
    return [random.random(bundle.input_shape(model), dtype=np.float32) for _ in range(NOISE_INPUTS)]


def description(model: Model) -> dict[str, object]:
    """What goes in, how it is made from a scan, what comes out and what it means; for export.json."""
    rules = model.preprocess
    flat = len(rules.size) == 2
    return {
        "model": model.model_id,
        "software": f"scanline {__version__}",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "research_use_only": True,
        "intended_use": model.intended_use,
        "input": {
            "name": INPUT,
            "type": "float32",
            "axes": ["batch", "channel", *([] if flat else ["z"]), "y", "x"],
            "shape": [None, model.channels, *reversed(rules.size)],
        },
        "outputs": {
            "probabilities": {"axes": ["batch", "finding"], "findings": list(model.findings), "calibrated": True},
            "logits": {"axes": ["member", "batch", "finding"]},
            "features": {"axes": ["member", "batch", "feature"]},
        },
        "positive_at_or_above": {finding: point.threshold for finding, point in model.operating_points.items()},
        "read": asdict(model.read_rules),
        "preprocess": {
            **rules.model_dump(mode="json"),
            "values": "HU for CT, SUVbw or stored units else: modality LUT and rescale applied, no window",
            "axes": "x right to left, y anterior to posterior, z inferior to superior, along the scan's own axes"
            if not flat
            else "columns and rows as radiologists show the slice",
            "grid": "centred on the scan; `size` voxels (x, y, z) of `spacing_mm`, or over its full extent without",
            "interpolation": "linear; means over whole blocks first where the grid is coarser by 2 or more",
            "intensity_rule": INTENSITIES[rules.intensity],
            "reference": "pipeline.model.preprocess.preprocess",
        },
    }


def _write(model: Model, format_: Format, out: Path) -> None:
    path = out / FILES[format_]
    if format_ == "onnx":
        write_onnx(model, path)
    elif format_ == "openvino":
        write_openvino(model, path)
    else:
        shutil.copytree(model.folder, out / "models" / "model")
        write_json(path, INFERENCE)
        write_json(out / "configs" / "metadata.json", _metadata(model))


def _bundle_graph(out: Path) -> Graph:
    network = bundle.network(str(out / "models" / "model"))

    def run(arrays: Array) -> dict[str, Array]:
        with torch.inference_mode():
            return {"probabilities": network(torch.from_numpy(arrays)).numpy()}

    return run


def _metadata(model: Model) -> dict[str, object]:
    """configs/metadata.json as MONAI's bundle specification wants it."""
    return {
        "version": __version__,
        "changelog": {__version__: f"exported from {model.model_id}"},
        "monai_version": version("monai"),
        "pytorch_version": version("torch").partition("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": {"scanline": __version__},
        "task": f"{model.task} classification: {', '.join(model.findings)}",
        "description": model.intended_use or f"{model.name}. Research use only, not a medical device.",
        "authors": "see the model card in models/model",
        "copyright": "see the model card in models/model",
        "intended_use": model.intended_use or "Research use only.",
        "network_data_format": {
            "inputs": {
                "image": {
                    "type": "image",
                    "format": "magnitude",
                    "num_channels": model.channels,
                    "spatial_shape": list(reversed(model.preprocess.size)),
                    "dtype": "float32",
                    "value_range": [],
                    "is_patch_data": False,
                    "channel_def": {str(channel): "image" for channel in range(model.channels)},
                }
            },
            "outputs": {
                "pred": {
                    "type": "probabilities",
                    "format": "classes",
                    "num_channels": len(model.findings),
                    "spatial_shape": [],
                    "dtype": "float32",
                    "value_range": [0, 1],
                    "is_patch_data": False,
                    "channel_def": {str(k): finding for k, finding in enumerate(model.findings)},
                }
            },
        },
    }


RUN_WITH: Mapping[Format, str] = {
    "onnx": """import onnxruntime
session = onnxruntime.InferenceSession("model.onnx")
probabilities, logits, features = session.run(None, {"scans": inputs})""",
    "openvino": """import openvino
# Without the hint the CPU may compute in bf16: other numbers than those that the thresholds were chosen on.
compiled = openvino.Core().compile_model("model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
probabilities = compiled({"scans": inputs})["probabilities"]""",
    "monai-bundle": """\
# In an environment that holds this software, for its reading and preprocessing are used as they are. In a shell:
# python -m monai.bundle run --bundle_root . --config_file configs/inference.json --scans SCANS --output predictions.csv
from pipeline.model.bundle import network
probabilities = network("models/model")(inputs)""",
}


def _readme(model: Model, format_: Format) -> str:
    shape = ", ".join(str(n) for n in (model.channels, *reversed(model.preprocess.size)))
    return f"""# {model.name}, exported

Model {model.model_id}. Research use only, not a medical device.

`inputs` is float32 [batch, {shape}], made from a scan as export.json says under `read` and `preprocess`; a scan that
was prepared in another way gives a number without meaning. `probabilities` is [batch, finding], calibrated, the mean
of {count(len(model.networks), "network")}. Findings: {", ".join(model.findings)}.
export.json holds the thresholds, and how far the probabilities are from those of torch.

```python
{RUN_WITH[format_]}
```
"""
