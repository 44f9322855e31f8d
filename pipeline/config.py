"""The run's settings: frozen pydantic sections, one YAML file, overrides from the command line. No torch here."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    model_validator,
)

from pipeline.domain import ReadRules, UsageError
from pipeline.files import write_text

Fraction = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
PositiveFinite = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFinite = Annotated[float, Field(ge=0, allow_inf_nan=False)]

MAX_CONFIG_BYTES = 1_000_000
"""A config larger than this is no config of ours (and YAML aliases can grow without bound)."""


class ConfigError(UsageError):
    """A config that can't be used; the message lists every problem, one a line, by dotted key."""


class Section(BaseModel):
    """A group of settings: frozen, unknown keys refused, the string under a field is its help text."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class CohortSection(Section):
    """How `prepare` turns scans and labels into train, tune and test."""

    folder: Path | None = None
    """COHORT folder that `prepare` wrote and `train` reads."""
    test_fraction: Fraction = 0.2
    """Share of the patients held out for the final test."""
    tune_fraction: Fraction = 0.2
    """Share of the patients for early stopping, calibration and the operating point."""
    folds: NonNegativeInt = 5
    """Cross-validation folds (by patient) written for everything outside the test split; 0 writes none."""
    seed: NonNegativeInt = 0
    """Seed of the split."""
    duplicates: Literal["keep_together", "drop_from_train", "refuse", "auto"] = "auto"
    """Identical images: keep them in one split, drop the train copies, or refuse. auto: keep_together for our own
    split, drop_from_train for a split given in labels.csv."""
    group_by: str | None = None
    """Column of labels.csv whose values are never split (site, household); patients are never split anyway."""
    hold_out: dict[str, list[str]] = {}
    """Column -> values that are the test split, with all scans of their patients, for example {site: [B]};
    test_fraction then only sets how the rest is shared."""

    @model_validator(mode="after")
    def _some_left_to_train(self) -> Self:
        if self.test_fraction + self.tune_fraction >= 1:
            raise ValueError("test_fraction + tune_fraction must leave patients for training (sum below 1)")
        if self.folds == 1:
            raise ValueError("folds must be 0 (none) or at least 2")
        return self


class PreprocessSection(Section):
    """From a scan's grid to the model's input, in one resampling step; stored in the model folder."""

    size: tuple[PositiveInt, ...] = (96, 96, 96)
    """Input size in voxels along x, y (2D) or x, y, z (3D) of the patient."""
    spacing_mm: tuple[PositiveFinite, ...] | None = None
    """Voxel spacing in mm along the same axes: the grid is centred on the scan and crops or pads it.
    Empty: the scan's whole field of view is resized to `size`."""
    intensity: Literal["window", "zscore", "minmax"] = "window"
    """window: clip to `window`, then 0..1; zscore: mean 0, standard deviation 1 per scan; minmax: 0..1 per scan."""
    window: tuple[FiniteFloat, FiniteFloat] = (-1000.0, 400.0)
    """Lower and upper bound for `intensity: window`, in the scan's unit (HU for CT)."""

    @model_validator(mode="after")
    def _axes_agree(self) -> Self:
        if len(self.size) not in (2, 3):
            raise ValueError(f"size needs 2 or 3 numbers, got {len(self.size)}")
        if self.spacing_mm is not None and len(self.spacing_mm) != len(self.size):
            raise ValueError(f"spacing_mm needs as many numbers as size ({len(self.size)}), got {len(self.spacing_mm)}")
        if self.intensity == "window" and self.window[0] >= self.window[1]:
            raise ValueError("window must run from low to high")
        return self


class ModelSection(Section):
    """The network."""

    dimensions: Literal[2, 3] = 3
    """2: one slice or radiograph through a timm network; 3: a volume through MONAI's ResNet."""
    backbone: str = "resnet18"
    """resnet10, 18, 34, 50, 101, 152, 200 in 3D; any timm name in 2D (resnet18, resnet50, ...)."""
    channels: Literal[1, 3] = 1
    """1: gray scale; 3: colour (gray scans are repeated). A gray model refuses colour scans."""
    weights: str = "none"
    """Where the backbone's weights come from: none, a .safetensors/.pth/.ckpt file, or a timm/Hugging Face name."""
    min_match: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Refuse weights of which less than this share of the backbone's tensors matched."""
    width: PositiveFinite = 1.0
    """Channel multiplier of a 3D ResNet (0.25: a quarter of the channels)."""
    stem_size: Literal[3, 5, 7] = 7
    """Kernel width of a 3D ResNet's first convolution; 3 is much faster where it runs at stride 1."""
    stem_stride: Literal[1, 2] = 2
    """Stride of the first convolution; 1 for small inputs (28 voxels and the like)."""
    stem_pool: bool = True
    """Max-pool after the first convolution; off for small inputs."""
    pooling: Literal["avg", "max"] = "avg"
    """How the last feature map becomes one vector; max finds small lesions with few scans."""
    dropout: Fraction = 0.0
    """Dropout before the last layer."""


class AugmentSection(Section):
    """Random changes of training inputs, batched on the device."""

    flip_axes: tuple[Literal["x", "y", "z"], ...] = ()
    """Patient axes to mirror half of the time: x left-right, y front-back, z up-down. Only where anatomy allows."""
    rotate_degrees: NonNegativeFinite = 0.0
    """Largest rotation about each axis (in 2D: in the plane)."""
    scale: Fraction = 0.0
    """Largest relative change of size."""
    translate: Fraction = 0.0
    """Largest shift as a share of the input's width."""
    intensity: NonNegativeFinite = 0.0
    """Standard deviation of a random gain (around 1) and offset (around 0) of the intensity."""
    noise: NonNegativeFinite = 0.0
    """Largest standard deviation of added Gaussian noise."""


class TrainSection(Section):
    """Fine-tuning."""

    epochs: PositiveInt = 30
    """Passes over the training scans."""
    folds: NonNegativeInt = 0
    """0: train once on the split; K: one model a fold, kept as an ensemble, with out-of-fold predictions ("oof")."""
    batch_size: PositiveInt = 8
    """Scans in one optimizer step."""
    learning_rate: PositiveFinite = 1e-3
    """Peak learning rate of AdamW."""
    weight_decay: NonNegativeFinite = 0.01
    """AdamW weight decay, off for norms and biases."""
    warmup_fraction: Fraction = 0.1
    """Share of the steps during which the learning rate rises; then it falls along a cosine."""
    class_weights: bool = True
    """Weigh each class by the inverse of its frequency in the train split."""
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """Share of the label's mass given to the other class(es)."""
    patience: NonNegativeInt = 10
    """Stop after this many epochs without a better tune AUROC; 0 never stops early."""
    gradient_clip: NonNegativeFinite = 1.0
    """Largest norm of the gradient; 0 does not clip."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bf16 mixed precision on a GPU that has it, fp32 on a CPU (bf16 computes wrong 3D gradients there)."""
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    """auto takes a GPU where there is one."""
    workers: NonNegativeInt = 2
    """Processes that read scans."""
    seed: NonNegativeInt = 0
    """Seed of weights, order and augmentation."""


class EvaluateSection(Section):
    """What the evaluation reports."""

    target: str = "youden"
    """How the operating point is chosen on the tune split: "youden", "sensitivity >= 0.95", "specificity >= 0.9", or
    "cost ratio 5" (a miss costs as much as five false alarms)."""
    calibration: Literal["temperature", "platt", "isotonic"] = "temperature"
    """How train turns logits into probabilities, fitted on tune. temperature: one slope (for all classes of multiclass)
    and an intercept a finding; platt: a slope and an intercept for each class; isotonic: any rising steps, for tune
    splits of many hundred scans."""
    unit: Literal["scan", "study", "patient"] = "scan"
    """What is judged: each scan, or the scans of a study or of a patient together."""
    aggregate: Literal["max", "mean"] = "max"
    """How the probabilities of a unit's scans become one."""
    prevalence: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of patients with the finding where the model is to be used: PPV and NPV are also given for it."""
    max_false_positive_rate: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """The partial AUROC counts only false-positive rates up to this one."""
    coverage: Annotated[float, Field(gt=0.5, lt=1)] = 0.9
    """Share of scans whose prediction set is to hold the truth (split-conformal, limits from the tune split)."""
    level: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Confidence level of all intervals."""
    resamples: PositiveInt = 2000
    """Bootstrap resamples, drawn by patient."""
    seed: NonNegativeInt = 0
    """Seed of the bootstrap."""


class Config(Section):
    """One run: every setting that changes its result."""

    name: str = "run"
    """Name of the model, shown in reports and beside predictions."""
    out: Path = Path("runs/run")
    """RUN folder to write."""
    intended_use: str = ""
    """What the model is for, in the owner's words; printed in the model card."""
    read: ReadRules = ReadRules()
    """How scans are read and chosen."""
    cohort: CohortSection = CohortSection()
    preprocess: PreprocessSection = PreprocessSection()
    model: ModelSection = ModelSection()
    augment: AugmentSection = AugmentSection()
    train: TrainSection = TrainSection()
    evaluate: EvaluateSection = EvaluateSection()

    @model_validator(mode="after")
    def _dimensions_agree(self) -> Self:
        if len(self.preprocess.size) != self.model.dimensions:
            raise ValueError(
                f"model.dimensions is {self.model.dimensions}, "
                f"but preprocess.size has {len(self.preprocess.size)} numbers"
            )
        return self


def parse_config(values: object, source: str) -> Config:
    """A checked config from plain values; `source` names it in errors.

    Raises:
        ConfigError: Listing every problem, one a line, by dotted key.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{source} is not a valid config: expected keys and values, found {type(values).__name__}")
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{source} is not a valid config:\n" + problems(error)) from None


def problems(error: ValidationError) -> str:
    """One line a problem: dotted key, what was expected, what was found."""
    lines = []
    for item in error.errors():
        key = ".".join(map(str, item["loc"])) or "config"
        found = "" if item["type"] in ("value_error", "missing") else f", got {str(item['input'])[:80]!r}"
        lines.append(f"  {key}: {item['msg'].removeprefix('Value error, ')}{found}")
    return "\n".join(lines)


def load_config(path: Path) -> Config:
    """The config in a YAML file (values only).

    Raises:
        ConfigError: If the file is missing, is no YAML, or holds values that can't be used.
    """
    return parse_config(_read_yaml(path), str(path))


def save_config(config: Config, path: Path) -> None:
    """Write the complete config as YAML, atomically."""
    write_text(path, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True))


def _read_yaml(path: Path) -> object:
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise ConfigError(f"{path}: larger than {MAX_CONFIG_BYTES} bytes; a config holds a few settings")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: can't be read ({error.__class__.__name__}); expected a YAML config file") from None
    try:
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
            raise ConfigError(f"{path}: YAML aliases (*name) are not used in configs; write the value out")
        return yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}: is not plain YAML{where}; only values are allowed, no tags or objects") from None
