"""What bf16 changes and saves: a trained model's probabilities, calls and time beside fp32, on the same scans.

    python -m benchmarks.precision [MODEL SCANS]        1 minute on 2 cores, with the demo's 154 scans

Without arguments it takes what `make demo` left. It runs where a GPU is, on the GPU. For `python -m pipeline.score
--precision bf16`, which compares its first batch only, this tells what to expect of all.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.measure import Target, Times, console, in_turns, show, verdict
from pipeline.domain import ScanError, UsageError
from pipeline.model.compared import BF16_TOLERANCE, Array, with_bf16
from pipeline.model.package import Model, load_model
from pipeline.model.preprocess import read_input
from pipeline.scans.find import survey

DEMO = ("runs/demo/run/model", "data/demo/scans")
ROUNDS, MOST = 3, 400


def inputs_of(model: Model, folder: Path) -> Array:
    """The inputs of up to `MOST` scans of a folder, those that the model takes."""
    found = []
    for scan in survey(folder, rules=model.read_rules).scans[:MOST]:
        try:
            found.append(read_input(scan, model.read_rules, model.preprocess, model.channels).array)
        except ScanError:
            continue
    return np.stack(found)


def differences(model: Model, arrays: Array) -> tuple[np.ndarray, int]:
    """Each scan's largest difference in probability, and how many scans are called differently."""
    exact, half = (model.calibrated(model.passed(arrays, bf16)[0]).mean(axis=0) for bf16 in (False, True))
    return np.abs(exact - half).max(axis=1), int((model.calls(exact) != model.calls(half)).any(axis=1).sum())


def times(model: Model, arrays: Array) -> dict[str, Times]:
    """Of all forward passes, in turns."""
    return in_turns({"fp32": lambda: model.passed(arrays), "bf16": lambda: model.passed(arrays, bf16=True)}, ROUNDS)


def main(words: Sequence[str]) -> int:
    """Measure, print, and say whether the tolerance holds."""
    folder, scans = map(Path, words or DEMO)
    if not words and not folder.is_dir():
        console.print("left out: no model in runs/demo; run `make demo` first, or give MODEL SCANS")
        return 0
    model = load_model(folder)
    try:
        with_bf16(model)
    except UsageError as error:
        console.print(f"left out: {error}")
        return 0
    arrays = inputs_of(model, scans)
    gaps, turned = differences(model, arrays)
    told = ", ".join(f"{name} {np.quantile(gaps, q):.4f}" for name, q in (("median", 0.5), ("99 %", 0.99), ("most", 1)))
    console.print(f"{len(gaps)} scans on {model.device}: differences {told}; {turned} called differently")
    show("forward passes", times(model, arrays), "fp32")
    return verdict([Target("largest difference in probability", float(gaps.max()), at_most=BF16_TOLERANCE)])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
