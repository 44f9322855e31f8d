"""The model folder: everything that scoring and the viewer need, verified byte for byte, nothing that can run code."""

import math
import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from scipy.special import xlogy

from pipeline.console import count
from pipeline.domain import OperatingPoint, Prediction, ReadRules, Reason, Scan, ScanError, UsageError, Volume
from pipeline.files import write_bytes, write_json, write_sums
from pipeline.model.backbone import Classifier, all_finite, build_network
from pipeline.model.gate import Gate, excess, look_of, with_look
from pipeline.model.inference import outputs_of
from pipeline.model.integrity import identity, verify
from pipeline.model.preprocess import ModelInput, preprocess
from pipeline.model.settings import Settings, read_model_json, read_settings
from pipeline.model.tensor_files import ModelError, read_safetensors
from pipeline.scans.find import only_scan, read_volume
from pipeline.scans.kept import headers_kept
from pipeline.sections import PreprocessSection

GATE = "gate.safetensors"


class Engine(Protocol):
    """What runs the networks of a model: inputs -> what `Model.outputs` gives (`pipeline.model.compared`)."""

    @property
    def difference(self) -> float | None:
        """The largest one from torch in single precision on the first inputs, in probability; None before them."""

    def __call__(self, arrays: NDArray[np.float32]) -> tuple[NDArray[np.float32], list[NDArray[np.float32]]]:
        """Raw outputs [member, scan, finding], each member's features beside."""


@dataclass(frozen=True)
class Model:
    """A verified model, ready to predict.

    Attributes:
        networks: The ensemble's members, in evaluation mode on `device`.
        evaluation: Content of evaluation.json, None before `evaluate` has run.
        gates: What knows scans unlike those learned from, one a network; empty where there were too few to learn it.
        engine: What runs the networks instead of torch in single precision.
        in_use: Held while the networks run: heat maps hook into them, so that two threads must not run them at once.
    """

    folder: Path
    model_id: str
    settings: Settings
    networks: list[Classifier]
    device: torch.device
    evaluation: Mapping[str, object] | None = None
    gates: tuple[Gate, ...] = ()
    engine: Engine | None = None
    in_use: AbstractContextManager[bool] = field(default_factory=threading.RLock, repr=False, compare=False)

    @property
    def name(self) -> str:
        """The model's name."""
        return self.settings.name

    @property
    def task(self) -> str:
        """binary, multiclass or multilabel."""
        return self.settings.task

    @property
    def findings(self) -> tuple[str, ...]:
        """What the model predicts, in the order of its outputs."""
        return self.settings.findings

    @property
    def read_rules(self) -> ReadRules:
        """How its scans are read and chosen."""
        return self.settings.read

    @property
    def preprocess(self) -> PreprocessSection:
        """From a volume to its input."""
        return self.settings.preprocess

    @property
    def channels(self) -> int:
        """1 for gray, 3 for colour inputs."""
        return self.settings.model.channels

    @property
    def operating_points(self) -> dict[str, OperatingPoint]:
        """Finding -> threshold, frozen before the test split was opened."""
        return self.settings.operating_points

    @property
    def intended_use(self) -> str:
        """What the model is for, in its owner's words."""
        return self.settings.intended_use

    @cached_property
    def _thresholds(self) -> dict[str, float]:
        return {finding: point.threshold for finding, point in self.operating_points.items()}

    def predict(self, scan: str | Path | Scan | Volume) -> Prediction:
        """The prediction for a scan on disk or a volume in memory; its scan_id is "" for a volume.

        Raises:
            ScanError: If the scan is refused.
        """
        if isinstance(scan, Volume):
            return self._predict(scan, "")
        with headers_kept():  # those that tell which scan it is are read once
            found = scan if isinstance(scan, Scan) else only_scan(scan)
            return self._predict(read_volume(found, self.read_rules), found.scan_id)

    def _predict(self, volume: Volume, scan_id: str) -> Prediction:
        return self.predict_inputs([preprocess(volume, self.preprocess, self.channels)], [scan_id])[0]

    def predict_inputs(self, inputs: Sequence[ModelInput], scan_ids: Sequence[str]) -> list[Prediction]:
        """One prediction an input, in order."""
        arrays = np.stack([item.array for item in inputs])
        logits, features = self.outputs(arrays)
        members, near = self.calibrated(logits), self._near(arrays, features)
        return [
            self._prediction(members[:, row], item.warnings, scan_id, near[row])
            for row, (item, scan_id) in enumerate(zip(inputs, scan_ids, strict=True))
        ]

    def outputs(self, arrays: NDArray[np.float32]) -> tuple[NDArray[np.float32], list[NDArray[np.float32]]]:
        """Raw outputs [member, scan, finding] of inputs [scan, channel, (z,) y, x], each member's features beside."""
        return self.passed(arrays) if self.engine is None else self.engine(arrays)

    def passed(
        self, arrays: NDArray[np.float32], bf16: bool = False
    ) -> tuple[NDArray[np.float32], list[NDArray[np.float32]]]:
        """The same by torch, whatever the engine."""
        flips = self.settings.test_time_flips
        with self.in_use:
            each = [outputs_of(network, arrays, self.device, flips, bf16) for network in self.networks]
        return np.stack([logits for logits, _ in each]), [features for _, features in each]

    def _near(self, arrays: NDArray[np.float32], features: Sequence[NDArray[np.float32]]) -> list[bool | None]:
        """Whether each scan is like those learned from; None without a gate."""
        if not self.gates:
            return [None] * len(arrays)
        look = look_of(arrays)
        return [bool(far <= 1) for far in excess(self.gates, [with_look(f, look) for f in features])]

    def calibrated(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        """Calibrated probabilities [member, scan, finding] of raw outputs."""
        each = self.settings.member_calibrations or (self.settings.calibration,) * len(logits)
        return np.stack([c.apply(member.astype(np.float64)) for c, member in zip(each, logits, strict=True)])

    def calls(self, probabilities: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether each probability [scan, finding] is positive; findings without an operating point never are."""
        thresholds = [self._thresholds.get(finding, math.inf) for finding in self.findings]
        return np.asarray(probabilities.round(6) >= thresholds)

    def _prediction(
        self, members: NDArray[np.float64], warnings: tuple[str, ...], scan_id: str, near: bool | None
    ) -> Prediction:
        if not np.isfinite(members).all():
            raise ScanError(Reason.NON_FINITE, "the network's output for this scan is not a finite number")
        mean = members.mean(axis=0)
        # Decisions use the probability as it is written to tables, so that a reader of the table can repeat them.
        probabilities = {f: round(float(p), 6) for f, p in zip(self.findings, mean, strict=True)}
        return Prediction(
            scan_id=scan_id,
            probabilities=probabilities,
            positive={f: probabilities[f] >= t for f, t in self._thresholds.items()},
            uncertainty=float(max(binary_entropy_bits(mean))),
            spread=float(members.std(axis=0).max()),
            in_distribution=near,
            warnings=(*warnings, "ood") if near is False else warnings,
            model=self.model_id,
        )


def binary_entropy_bits(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Entropy of a yes/no answer with probability p: 0 when sure, 1 at p = 0.5."""
    return np.asarray(-(xlogy(p, p) + xlogy(1 - p, 1 - p)) / np.log(2))


def save_model(folder: Path, settings: Settings, networks: Sequence[Classifier], gates: Sequence[Gate] = ()) -> None:
    """Write a model folder: model.json, weights (members/ for an ensemble), gate and SHA256SUMS, each file atomically.

    Args:
        gates: One a network, or none.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for path, network in zip(_weight_files(folder, len(networks)), networks, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        state = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
        write_bytes(path, save(state))
    if gates:
        kept = {f"{k}.{name}": tensor for k, gate in enumerate(gates) for name, tensor in gate.tensors().items()}
        write_bytes(folder / GATE, save(kept))
    content = settings.model_copy(update={"members": len(networks)}).model_dump(mode="json")
    write_json(folder / "model.json", content)
    write_sums(folder)


def load_model(folder: str | Path, device: str | None = None) -> Model:
    """A model from its folder, after every byte was checked against SHA256SUMS.

    Args:
        folder: The model folder that `train` wrote (RUN/model).
        device: "cpu" or "cuda"; by default a GPU where there is one.

    Raises:
        ModelError: If the folder is no model, was changed, is damaged, unsafe or of a newer version.
    """
    folder = Path(folder)
    sums = verify(folder)
    settings = read_settings(folder)
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    networks = [_load_network(path, settings, where) for path in _weight_files(folder, settings.members)]
    gates = _load_gates(folder / GATE, len(networks))
    report = folder / "evaluation.json"
    evaluation = read_model_json(report) if report.is_file() else None
    return Model(folder, f"{settings.name}-{identity(sums)}", settings, networks, where, evaluation, gates)


def _load_network(path: Path, settings: Settings, device: torch.device) -> Classifier:
    state = read_safetensors(path, ModelError)
    try:
        with torch.device("meta"):  # how large it is, before anything is allocated
            planned = build_network(settings.model, len(settings.findings))
        wanted, held = (sum(t.numel() for t in tensors.values()) for tensors in (planned.state_dict(), state))
        if wanted > 2 * held:
            raise UsageError(f"it needs {wanted} numbers, the file holds {held}")
        network = build_network(settings.model, len(settings.findings))
        network.load_state_dict(state)
    except (UsageError, RuntimeError) as error:
        raise ModelError("architecture", f"{path.name} does not fit model.json: {str(error)[:500]}") from None
    if not all_finite(network):
        raise ModelError("non_finite_weights", f"{path.name} holds weights that are not finite numbers")
    return network.to(device).eval()


def _load_gates(path: Path, members: int) -> tuple[Gate, ...]:
    if not path.is_file():
        return ()
    tensors = read_safetensors(path, ModelError)
    try:
        return tuple(
            Gate.of_tensors({n.removeprefix(f"{k}."): t for n, t in tensors.items() if n.startswith(f"{k}.")})
            for k in range(members)
        )
    except (KeyError, IndexError):
        raise ModelError(
            "corrupt_model", f"{path.name} does not hold a gate for each of {count(members, 'member')}"
        ) from None


def _weight_files(folder: Path, members: int) -> list[Path]:
    if members == 1:
        return [folder / "weights.safetensors"]
    return [folder / "members" / str(k) / "weights.safetensors" for k in range(members)]
