"""The groups of settings of a run: frozen, unknown keys refused, the string under a field is its help text."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeInt,
    PositiveInt,
    ValidationInfo,
    field_validator,
    model_validator,
)

Fraction = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
PositiveFinite = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
NonNegativeFinite = Annotated[float, Field(ge=0, allow_inf_nan=False)]

MOST_AT_ONCE = 65_536
"""No batch is larger."""


def _number_or_auto(value: object) -> object:
    if value == "auto" or (isinstance(value, int) and 0 < value <= MOST_AT_ONCE):
        return value
    raise ValueError(f"give a whole number from 1 to {MOST_AT_ONCE}, or auto; got {str(value)[:80]!r}")


class Section(BaseModel):
    """A group of settings: frozen, unknown keys refused, the string under a field is its help text."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_switch_for_a_number(cls, value: object, info: ValidationInfo) -> object:
        """YAML reads `on` and `yes` as true, and true would count as 1."""
        switch = cls.model_fields[str(info.field_name)].annotation is bool
        if not switch and any(isinstance(v, bool) for v in (value if isinstance(value, list | tuple) else [value])):
            raise ValueError(f"true and false (in YAML also on, off, yes, no) mean nothing here; got {value!r}")
        return value


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
    seed: Seed = 0
    """Seed of the split."""
    duplicates: Literal["keep_together", "drop_from_train", "refuse", "auto"] = "auto"
    """Identical and near-identical images: keep them in one split, drop the train copies, or refuse. auto:
    keep_together for our own split, drop_from_train for a split given in labels.csv."""
    near_identical: Annotated[float, Field(gt=0.9, le=1)] = 0.99
    """Images of different patients whose small copies correlate from here on are copies too; 1: only identical ones."""
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
    """The network; docs/resnet.md says which for what."""

    dimensions: Literal[2, 3] = 3
    """2: one slice or radiograph; 3: a volume."""
    architecture: Literal["native", "inflated", "slices"] = "native"
    """native: a network of the input's own dimensions, timm's in 2D, MONAI's ResNet in 3D. Volumes also take a 2D
    network: inflated (a timm ResNet whose kernels reach over three slices) or slices (2.5D: a timm network on each
    slice, gated attention over the slices)."""
    backbone: str = "resnet18"
    """native 3D: resnet10, 18, 34, 50, 101, 152, 200; else any timm name (resnet18, resnetv2_50, resnext50_32x4d)."""
    channels: Literal[1, 3] = 1
    """1: gray scale; 3: colour (gray scans are repeated). A gray model refuses colour scans."""
    weights: str = "none"
    """Where the backbone's weights come from: none; a timm or Hugging Face name (resnet18.a1_in1k, owner/name,
    owner/name@revision:file.pth); medicalnet (native 3D); astra (chest CT, inflated resnet152);
    a .safetensors, .pth or .ckpt file; an earlier RUN or MODEL folder."""
    min_match: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Refuse weights of which less than this share of the backbone's tensors matched."""
    width: Annotated[float, Field(ge=1 / 64, le=8, allow_inf_nan=False)] = 1.0
    """native 3D: channel multiplier (0.25: a quarter of the channels; 2: a wide ResNet)."""
    shortcut: Literal["A", "B"] = "B"
    """native 3D: where a block changes its shape, its shortcut pads with zeros (A) or is a 1x1x1 convolution (B)."""
    inflation: Literal["mean", "centre"] = "mean"
    """inflated: a 2D kernel is repeated over depth and divided by it, or stands in the centre between zeros."""
    depth_padding: Literal["replicate", "zeros"] = "replicate"
    """inflated: what lies outside the first and last slice. With replicate, a volume that is the same in every slice
    gives exactly what the 2D network gives; 3D weights from elsewhere (astra) were trained with zeros."""
    stem_size: Literal[3, 5, 7] = 7
    """Kernel width of a first convolution of 7; 3 is much faster where it runs at stride 1."""
    stem_stride: Literal[1, 2] = 2
    """Stride of the first convolution; 1 for small inputs (28 voxels and the like)."""
    stem_pool: bool = True
    """Max-pool after the first convolution; off for small inputs."""
    pooling: Literal["avg", "max"] = "avg"
    """How a feature map becomes one vector; max finds small lesions with few scans. In slices: within each slice."""
    dropout: Fraction = 0.0
    """Dropout before the last layer."""

    @model_validator(mode="after")
    def _keys_have_an_effect(self) -> Self:
        if self.architecture != "native" and self.dimensions != 3:
            raise ValueError(f"architecture: {self.architecture} is for volumes (dimensions: 3); use native in 2D")
        changed = {key for key, field in type(self).model_fields.items() if getattr(self, key) != field.default}
        ours = {"native 3D": {"width", "shortcut"}, "inflated": {"inflation", "depth_padding"}}
        here = "native 3D" if (self.architecture, self.dimensions) == ("native", 3) else self.architecture
        for owner, keys in ours.items():
            if owner != here and changed & keys:
                raise ValueError(f"{', '.join(sorted(changed & keys))} only matters in a network that is {owner}")
        return self


class AugmentSection(Section):
    """Random changes of training inputs, batched on the device."""

    flip_axes: tuple[Literal["x", "y", "z"], ...] = ()
    """Axes to mirror half of the time, only where anatomy allows. Of a volume's patient: x left-right, y front-back,
    z up-down. Of a picture, as it is shown: x left-right, y up-down."""
    probability: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of the inputs that the changes below reach (but mixup); the others are mirrored at the most. Turning
    interpolates, which blurs: at 1 the network never sees an input as sharp as those that it will meet in use."""
    rotate_degrees: NonNegativeFinite = 0.0
    """Largest rotation about each axis (in 2D: in the plane), in millimetres, however far apart the slices lie."""
    scale: Fraction = 0.0
    """Largest relative change of size."""
    translate: Fraction = 0.0
    """Largest shift as a share of the input's width."""
    intensity: NonNegativeFinite = 0.0
    """Standard deviation of a random gain (around 1) and offset (around 0) of the intensity."""
    noise: NonNegativeFinite = 0.0
    """Largest standard deviation of added Gaussian noise."""
    elastic: Fraction = 0.0
    """Largest displacement of an elastic bend (a grid of four points an axis), as a share of the input's width."""
    blur: NonNegativeFinite = 0.0
    """Largest standard deviation of a Gaussian blur in voxels, half of the time."""
    low_resolution: NonNegativeFinite = 0.0
    """Largest relative loss of resolution, half of the time: 1 halves it."""
    cutout: Fraction = 0.0
    """Largest edge of a box that is blanked, as a share of the input's width, half of the time."""
    mixup: NonNegativeFinite = 0.0
    """Parameter of the beta distribution by which pairs of inputs and labels are mixed, for example 0.2; 0: never."""
    test_time: bool = False
    """Average the answers over all mirror images along `flip_axes` wherever the model predicts: 2 to 8 times slower."""


class TrainSection(Section):
    """Fine-tuning."""

    epochs: PositiveInt = 30
    """Passes over the training scans."""
    folds: NonNegativeInt = 0
    """0: train once on the split; K: one model a fold, kept as an ensemble, with out-of-fold predictions ("oof")."""
    repeats: PositiveInt = 1
    """Networks for the split, or for each fold, that differ in their seed alone; kept as an ensemble."""
    batch_size: Annotated[int | Literal["auto"], BeforeValidator(_number_or_auto)] = 8
    """Scans in one optimizer step. auto: the largest power of two up to 32 that memory holds and that leaves eight
    steps an epoch; the number is written into the run's config.yaml."""
    accumulate: PositiveInt = 1
    """Parts in which the scans of one step pass through the network, where memory is short; doubled where it ends."""
    learning_rate: PositiveFinite = 1e-3
    """Peak learning rate of AdamW."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Factor of the learning rate from one stage of the backbone to the next deeper one below the head; 0.7 keeps
    pretrained weights near where they were, 1 learns all alike."""
    unfreeze_epochs: NonNegativeInt = 0
    """Epochs after which one more stage learns: first the head alone, then the stages below; 0: all from the start."""
    weight_decay: NonNegativeFinite = 0.01
    """AdamW weight decay, off for norms and biases."""
    warmup_fraction: Fraction = 0.1
    """Share of the steps during which the learning rate rises; then it falls along a cosine."""
    imbalance: Literal["weights", "sampler", "none"] = "weights"
    """weights: a class counts by the inverse of its frequency; sampler: scans of rare classes are drawn more often."""
    loss: Literal["cross_entropy", "focal"] = "cross_entropy"
    """focal: scans that are already right count less (by the square of what is missing)."""
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """Share of the label's mass given to the other class(es)."""
    patience: NonNegativeInt = 10
    """Stop after this many epochs without a better tune AUROC; 0 never stops early. Folds never do: a held-out fold
    chooses nothing."""
    gradient_clip: NonNegativeFinite = 1.0
    """Largest norm of the gradient; 0 does not clip."""
    ema: Fraction = 0.0
    """Decay a step of a moving average of the weights, which is what is judged and kept, for example 0.99 (less in the
    first steps); 0: none."""
    recompute: bool = False
    """Keep no feature maps inside the stages for the backward pass, compute them again there: about a third slower,
    a fraction of the memory; for large volumes."""
    batch_norm: Literal["auto", "learn", "frozen"] = "auto"
    """frozen: keep the statistics of the pretrained weights; auto does so for batches of less than 8 scans."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bf16 mixed precision on a GPU that has it, fp32 on a CPU (bf16 computes wrong 3D gradients there)."""
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    """auto takes a GPU where there is one."""
    devices: PositiveInt = 1
    """GPUs (or CPU processes) of a machine that share each step; every one takes `batch_size` scans."""
    num_nodes: PositiveInt = 1
    """Machines, each with as many devices; started by torchrun or SLURM (docs/training.md)."""
    strategy: str = "auto"
    """How several devices share the work: a name that Lightning knows, for example ddp or fsdp."""
    workers: NonNegativeInt = 2
    """Processes that read scans."""
    tracking: Literal["none", "mlflow"] = "none"
    """mlflow: each network is also a run of the server that MLFLOW_TRACKING_URI names, or of RUN/mlruns; needs the
    extra [tracking]. history.csv and TensorBoard events are written anyway."""
    seed: Seed = 0
    """Seed of weights, order and augmentation."""

    @property
    def scans_at_once(self) -> int:
        """Scans that pass through the network together, once `batch_size: auto` has become a number."""
        return int(self.batch_size) // self.accumulate

    @model_validator(mode="after")
    def _parts_are_whole(self) -> Self:
        if self.batch_size == "auto":
            if self.accumulate > 1 or self.devices * self.num_nodes > 1:
                raise ValueError("batch_size: auto is for one device and whole batches; give a number")
        elif self.batch_size % self.accumulate:
            raise ValueError(f"accumulate must divide batch_size ({self.batch_size}) without rest")
        if self.folds == 1:
            raise ValueError("folds must be 0 (the split) or at least 2")
        return self


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
    interval: Literal["student", "percentile", "bca"] = "student"
    """How the bootstrap gives an interval. student: its standard error with Student's quantile, on a scale without
    bounds, which covers best in small samples; percentile and bca (Efron's): quantiles of the resamples themselves,
    too narrow with few patients. Closed forms (one scan a patient, or above 20,000 scans) stay."""
    seed: Seed = 0
    """Seed of the bootstrap."""
