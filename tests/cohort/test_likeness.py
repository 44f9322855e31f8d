import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from pipeline.cohort.leakage import copies_to_drop, images, leaks
from pipeline.cohort.likeness import image_hash, near_identical
from pipeline.cohort.reading import content_sha256
from pipeline.domain import ReadRules
from pipeline.prepare import main
from pipeline.scans.find import read_volume
from tests.cohort.cases import table

DATASETS = Path(os.environ.get("SCAN_DATASETS", Path(__file__).parents[2] / ".." / "shared" / "datasets"))
SHAPES = [(96, 80, 1), (1, 96, 80), (40, 36, 20)]


def picture(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """Clouds in HU: nothing alike in two of them but that they are smooth."""
    noise = np.random.default_rng(seed).normal(size=shape)
    smooth = ndimage.gaussian_filter(noise, [n / 12 if n > 1 else 0 for n in shape])
    return (400 * smooth / smooth.std()).astype(np.float32)


def saved_again(how: str, voxels: np.ndarray) -> np.ndarray:
    low, high = voxels.min(), voxels.max()
    unit = (voxels - low) / (high - low)
    if how == "half":
        for axis in (axis for axis, n in enumerate(voxels.shape) if n > 1):
            even, odd = (voxels.take(range(k, voxels.shape[axis], 2), axis) for k in (0, 1))
            voxels = (even + odd) / 2
        return voxels
    changes = {
        "stored values": voxels + 1024, "gamma": unit**0.7, "window": np.clip(voxels, -600, 600),
        "noise": unit + np.random.default_rng(1).normal(0, 0.02, unit.shape),
        "8 bit": np.round(unit * 255), "colour": np.stack([unit] * 3, axis=-1),
    }  # fmt: skip
    return np.asarray(changes[how], dtype=np.float32)


def found(voxels: list[np.ndarray], patient_ids: list[str] | None = None, correlation: float = 0.99) -> list[str]:
    who = patient_ids or [""] * len(voxels)
    rows = table([{"image_hash": image_hash(v), "patient_id": p} for v, p in zip(voxels, who, strict=True)])
    return list(near_identical(rows, correlation)[0])


@pytest.mark.parametrize("how", ["stored values", "gamma", "noise", "window", "8 bit", "half", "colour"])
@pytest.mark.parametrize("shape", SHAPES)
def test_an_image_that_was_saved_again_is_known(shape: tuple[int, ...], how: str) -> None:
    one, other = picture(0, shape), picture(1, shape)
    assert found([other, one, saved_again(how, one)]) == ["", "s001", "s001"]


def test_scans_of_one_patient_and_identical_voxels_are_no_matter_here() -> None:
    one = picture(0, SHAPES[0])
    assert found([one, one + 1], ["p", "p"]) == ["", ""]
    rows = table([{"image_hash": image_hash(one), "content_sha256": "same"}] * 2).assign(scan_id=["a", "b"])
    assert list(near_identical(rows, 0.99)[0]) == ["", ""]


def test_pictures_are_not_compared_with_volumes_and_what_shows_nothing_with_nothing() -> None:
    flat, line = np.ones((9, 9, 1), np.float32), np.ones((9, 1, 1), np.float32)
    assert (image_hash(flat), image_hash(line)) == ("", "")
    assert found([flat, flat, line, picture(0, SHAPES[0]), picture(0, SHAPES[2])]) == [""] * 5


def test_images_that_are_alike_by_nature_are_no_copies() -> None:
    """Registered brains, say: where everything is near-identical, nothing is."""
    one = picture(0, SHAPES[0])
    alike = [one + picture(k + 1, SHAPES[0]) / 50 for k in range(11)]
    assert found(alike[:10]) == ["s000"] * 10
    assert found(alike) == [""] * 11
    rows = table([{"image_hash": image_hash(v)} for v in [*alike, picture(99, SHAPES[0])]])
    assert near_identical(rows, 0.99)[1] == 11


def test_correlation_1_takes_only_identical_images_for_copies() -> None:
    one = picture(0, SHAPES[0])
    assert found([one, one + 1], correlation=1) == ["", ""]


def test_the_hash_is_the_same_whatever_the_rounding() -> None:
    one = np.round(picture(0, SHAPES[2]) / 50) * 50  # large areas of one value
    assert image_hash(one) == image_hash(one * np.float32(1.1)) == image_hash(np.asfortranarray(one))
    assert len(image_hash(one)) == 2 * (8**3 - 1)


def test_prepare_keeps_near_identical_images_together_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import nibabel as nib

    from pipeline.files import read_table

    (tmp_path / "in").mkdir()
    lines = ["path,label,patient_id"]
    for n in range(24):
        voxels = picture(n, (24, 20, 12)) if n != 1 else saved_again("noise", picture(0, (24, 20, 12)))
        nib.save(nib.Nifti1Image(voxels, np.diag([2.0, 2, 3, 1])), tmp_path / "in" / f"{n}.nii.gz")
        lines.append(f"{n}.nii.gz,{n % 2},p{n}")
    (tmp_path / "l.csv").write_text("\n".join(lines) + "\n")
    words = [str(tmp_path / "in"), "--labels", str(tmp_path / "l.csv"), "--workers", "0"]
    assert main([*words, "--out", str(tmp_path / "c")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "scans whose image is nearly that of another patient: 2 (duplicates.csv)" in said
    rows = read_table(tmp_path / "c" / "scans.csv").set_index("path")
    twins = rows.loc[["0.nii.gz", "1.nii.gz"]]
    assert twins["near_identical"].nunique() == twins["split"].nunique() == 1
    assert (twins["warnings"] == "near_identical_image").all()
    assert len(read_table(tmp_path / "c" / "duplicates.csv")) == 2
    split = ["test", "train", *["train", "tune", "test"] * 7, "train"]
    given = [lines[0] + ",split", *(f"{line},{s}" for line, s in zip(lines[1:], split, strict=True))]
    (tmp_path / "l.csv").write_text("\n".join(given) + "\n")
    assert main([*words, "--out", str(tmp_path / "c")]) == 0
    rows = read_table(tmp_path / "c" / "scans.csv").set_index("path")
    assert rows.loc["1.nii.gz", "split"] == ""
    assert "duplicate_dropped" in rows.loc["1.nii.gz", "warnings"]
    assert main([*words, "--out", str(tmp_path / "c"), "--cohort.near-identical", "1"]) == 0
    assert read_table(tmp_path / "c" / "scans.csv").set_index("path").loc["1.nii.gz", "split"] == "train"
    assert main([*words, "--out", str(tmp_path / "c"), "--cohort.duplicates", "refuse"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "2 labelled scans share their image with another, to the voxel or nearly" in said


def dataset(name: str) -> Path:
    if not (DATASETS / name).is_dir():
        pytest.skip(f"data set {name} is not in {DATASETS} (set SCAN_DATASETS)")
    return DATASETS / name


def hashed(volumes: list[np.ndarray], splits: list[str]) -> pd.DataFrame:
    cells = [{"image_hash": image_hash(v), "content_sha256": content_sha256(v), "split": s}
             for v, s in zip(volumes, splits, strict=True)]  # fmt: skip
    return table(cells).assign(scan_id=[f"s{n:05d}" for n in range(len(cells))])


@pytest.mark.datasets
def test_the_known_duplicates_of_pneumoniamnist_are_found_and_nothing_else() -> None:
    kept = np.load(dataset("pneumoniamnist_28") / "pneumoniamnist_train_val.npz")
    volumes = [x[..., None].astype(np.float32) for part in ("train", "val") for x in kept[f"{part}_images"]]
    rows = hashed(volumes, ["train"] * len(kept["train_images"]) + ["tune"] * len(kept["val_images"]))
    assert leaks(rows) == ["identical images in more than one split: 8"]
    blind = rows.assign(content_sha256=rows["scan_id"])  # the hash alone
    assert not (near_identical(rows, 0.99)[0] != "").any()
    near = blind.assign(near_identical=near_identical(blind, 0.99)[0])
    assert leaks(near) == ["near-identical images in more than one split: 8"]
    assert list(images(near)) == list(images(rows))
    assert copies_to_drop(near).equals(copies_to_drop(rows))


@pytest.mark.datasets
def test_the_known_duplicates_of_siim_are_found_and_nothing_else() -> None:
    files = sorted((dataset("siim_ct_contrast") / "dicom_dir").glob("*.dcm"))
    rows = hashed([read_volume(file, ReadRules()).voxels for file in files], ["train"] * len(files))
    assert not (near_identical(rows, 0.99)[0] != "").any()
    near, _ = near_identical(rows.assign(content_sha256=rows["scan_id"]), 0.99)
    assert len(set(near) - {""}) == 6
    assert list(images(rows.assign(content_sha256="", near_identical=near))) == list(images(rows))
