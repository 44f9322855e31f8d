"""Bring public data sets into our layout: a folder of scans and a labels.csv.

python -m data.public medmnist --npz pneumoniamnist.npz --out data/pneumoniamnist
python -m data.public medmnist --name adrenalmnist3d --out data/adrenalmnist3d
"""

import re
import socket
import sys
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import nibabel as nib
import numpy as np
import pandas as pd
import tyro
from numpy.typing import NDArray
from PIL import Image

from data.folders import is_current, problem_with, rewriting
from pipeline.console import DONE, WRONG_USE, Report, guarded, progress, stderr, stdout
from pipeline.domain import UsageError
from pipeline.files import sha256_of, write_table

Images: TypeAlias = NDArray[np.uint8]
"""[n, row, column], [n, row, column, 3] (colour) or [n, a, b, c] (volumes)."""

SPLITS = {"train": "train", "val": "tune", "test": "test"}
"""MedMNIST's names of the splits -> ours."""
FINDINGS = {
    "pneumoniamnist": "pneumonia",
    "breastmnist": "benign",
    "adrenalmnist3d": "hyperplasia",
    "nodulemnist3d": "malignant",
    "vesselmnist3d": "aneurysm",
    "synapsemnist3d": "excitatory",
}
"""What label 1 means in the binary sets; it becomes the label column's name."""
CONTENT = ("scans", "labels.csv")
NETWORK_TIMEOUT_S = 10
EXAMPLE = "python -m data.public medmnist --npz pneumoniamnist.npz --out data/pneumoniamnist"


@dataclass(frozen=True)
class MedMNIST:
    """Write a MedMNIST set as PNG (2D) or NIfTI (3D) files, its train/val/test as train/tune/test in labels.csv."""

    out: Path
    """Folder to write: scans/ and labels.csv."""
    npz: Path | None = None
    """A MedMNIST .npz file that is already here."""
    name: str = ""
    """Name of a set to download with the medmnist package instead, for example pneumoniamnist."""
    size: int = 28
    """Edge length in pixels of the set to download: 28, 64, 128 or 224 (3D: 28 or 64)."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; its exit code."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    if not arguments or arguments[0] not in ("medmnist", "-h", "--help"):
        found = f", got {arguments[0]!r}" if arguments else ""
        stderr.print(f"error: expected the kind of data set (medmnist){found}; for example: {EXAMPLE}", markup=False)
        return WRONG_USE
    rest = arguments[1:] if arguments[0] == "medmnist" else arguments
    options = tyro.cli(MedMNIST, args=rest or ["--help"], prog="python -m data.public medmnist")
    return guarded(lambda: _run(options))


def _run(options: MedMNIST) -> int:
    _check(options)
    source = options.npz or _download(options.name.lower(), options.size)
    name = set_name(source)
    made_with: dict[str, object] = {"set": name, "sha256": sha256_of(source)}
    written = not is_current(options.out, made_with)
    if written:
        with rewriting(options.out, CONTENT, made_with) as staging, progress("writing scans") as report:
            write_medmnist(source, staging, report)
    table = pd.read_csv(options.out / "labels.csv")
    counts = ", ".join(f"{count} {split}" for split, count in table["split"].value_counts(sort=False).items())
    state = "written" if written else "there already, nothing to do"
    labels = [column for column in table.columns if column not in ("path", "split")]
    stdout.print(f"{options.out}: {state}. {len(table)} scans ({counts})", markup=False)
    stdout.print(
        f"next: python -m pipeline.prepare {options.out / 'scans'} --labels {options.out / 'labels.csv'} "
        f"--label {' '.join(labels)} --out runs/{name}/cohort",
        markup=False,
    )
    return DONE


def _check(options: MedMNIST) -> None:
    problems = [problem_with(options.out)]
    if (options.npz is None) == (not options.name):
        problems.append("give either --npz FILE or --name SET")
    if options.npz is not None and not options.npz.is_file():
        problems.append(f"npz: {options.npz} is no file")
    if any(problems):
        raise UsageError("\n".join(filter(None, problems)))


def set_name(npz: Path) -> str:
    """The name of a set from its file's name: adrenalmnist3d for adrenalmnist3d_64.npz."""
    match = re.match(r"[a-z]+mnist(3d)?", npz.name.lower())
    return match.group() if match else npz.stem


def write_medmnist(npz: Path, folder: Path, report: Report) -> None:
    """Write every image of a MedMNIST file below `folder`/scans, and `folder`/labels.csv.

    Raises:
        UsageError: If the file is no .npz, or does not hold images and labels as MedMNIST has them.
    """
    tables = []
    for split, images, labels in _splits(npz):
        names = [f"{split}/{index:05d}{'.png' if _is_picture(images) else '.nii.gz'}" for index in range(len(images))]
        (folder / "scans" / split).mkdir(parents=True)
        for done, (name, image) in enumerate(zip(names, images, strict=True), 1):
            _write_image(folder / "scans" / name, image)
            report(done, len(images))
        table = pd.DataFrame(labels, columns=_label_columns(set_name(npz), labels.shape[1]))
        table.insert(0, "path", names)
        tables.append(table.assign(split=split))
    write_table(folder / "labels.csv", pd.concat(tables))


def _splits(npz: Path) -> Iterator[tuple[str, Images, NDArray[np.integer]]]:
    """Our split's name, images and labels [n, label] of each split in the file."""
    try:
        with npz.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            found = [split for split in SPLITS if f"{split}_images" in arrays and f"{split}_labels" in arrays]
            if not found:
                raise UsageError(
                    f"{npz.name}: expected arrays train_images and train_labels (val_, test_), "
                    f"found {', '.join(arrays) or 'none'}"
                )
            for split in found:
                images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
                _check_arrays(f"{npz.name}, {split}", images, labels)
                yield SPLITS[split], images, labels.reshape(len(labels), -1)
    except UsageError:
        raise
    except (zipfile.BadZipFile, EOFError, ValueError, TypeError, AttributeError) as error:
        raise UsageError(f"{npz.name}: is no readable .npz file ({error.__class__.__name__})") from None


def _check_arrays(where: str, images: Images, labels: NDArray[np.integer]) -> None:
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        raise UsageError(f"{where}: expected uint8 images [n, ...] in 2D or 3D, found {images.dtype} {images.shape}")
    if labels.dtype.kind not in "iu" or labels.ndim not in (1, 2) or len(labels) != len(images):
        raise UsageError(
            f"{where}: expected whole numbers as labels of {len(images)} images, found {labels.dtype} {labels.shape}"
        )


def _label_columns(name: str, count: int) -> list[str]:
    return [FINDINGS.get(name, "label")] if count == 1 else [f"label_{index}" for index in range(count)]


def _is_picture(images: Images) -> bool:
    return images.ndim == 3 or images.shape[-1] == 3


def _write_image(path: Path, image: Images) -> None:
    """PNG for [row, column] and [row, column, 3]; NIfTI with identity affine for [a, b, c] -> voxel [i, j, k]."""
    if path.suffix == ".png":
        Image.fromarray(image).save(path)
        return
    nifti = nib.Nifti1Image(image, np.eye(4))
    nifti.set_sform(np.eye(4), code=1)
    nifti.set_qform(np.eye(4), code=1)
    nib.save(nifti, path)


def _download(name: str, size: int) -> Path:
    """The .npz file of a set, fetched by the medmnist package into its own cache and checked by its MD5."""
    try:
        import medmnist
    except ImportError:
        raise UsageError("--name needs the medmnist package: pip install medmnist; or give --npz FILE") from None
    if name not in medmnist.INFO:
        raise UsageError(f"name: expected one of {', '.join(medmnist.INFO)}; got {name!r}")
    kind = getattr(medmnist, medmnist.INFO[name]["python_class"])
    if size not in kind.available_sizes:
        raise UsageError(f"size: {name} comes in {', '.join(map(str, kind.available_sizes))}; got {size}")
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(NETWORK_TIMEOUT_S)
    try:
        found = kind(split="train", download=True, size=size)
    except (OSError, RuntimeError) as error:
        raise UsageError(
            f"{name} can't be downloaded ({error.__class__.__name__}): is there a network? Get the .npz file from "
            f"https://medmnist.com on another machine and give it with --npz FILE"
        ) from None
    finally:
        socket.setdefaulttimeout(before)
    return Path(found.root) / f"{name}{found.size_flag}.npz"


if __name__ == "__main__":
    sys.exit(main())
