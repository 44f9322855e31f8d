"""The proposed config: what it chooses for typical cohorts, that it explains itself, and that edits stay."""

import pandas as pd
import pytest
import yaml

from pipeline.cohort.explained import explained
from pipeline.cohort.manifest import write_cohort
from pipeline.cohort.proposal import VOXELS, propose
from pipeline.config import Config, load_config, parse_config
from pipeline.domain import ReadRules
from pipeline.sections import CohortSection


def proposed(
    tmp_path, n=100, shape="512x512x120", spacing="0.7x0.7x2.5", modality="CT", unit="HU", gpu=False, folds=4, **more
):
    table = pd.DataFrame({
        "shape": shape, "spacing_mm": spacing, "modality": modality, "patient_id": [f"P{i}" for i in range(n)],
        "split": ["train", "train", "train", "tune", "test"] * (n // 5),
        "fold": [*[str(k) for k in range(folds)], *[""] * (n - folds)],
    })  # fmt: skip
    intensities = {unit: {"p0.5": -1010.0, "p99.5": 430.0}}
    fingerprint = {"units": {unit: n}, "intensities_outside_test": intensities, **more}
    section = CohortSection()
    return propose(table, fingerprint, tmp_path / "mine" / "cohort", section, ReadRules(allow_gaps=True), gpu)


def test_a_chest_ct_on_a_laptop(tmp_path) -> None:
    config = proposed(tmp_path).config
    assert (config.model.dimensions, config.model.backbone) == (3, "resnet10")
    assert config.preprocess.intensity == "window"
    assert config.preprocess.window == (-1000, 450)
    x, y, z = config.preprocess.size
    assert 0.8 < x * y * z / VOXELS["cpu", 3] < 1.4
    spacing = config.preprocess.spacing_mm
    for n, mm, extent in zip((x, y, z), spacing, (358.4, 358.4, 300), strict=True):
        assert extent <= n * mm < extent + 9 * mm
    assert config.train.folds == 4
    assert config.read.allow_gaps
    assert config.cohort.folder == tmp_path / "mine" / "cohort"
    assert config.out == tmp_path / "mine" / "run"


def test_a_gpu_gets_more_and_thick_slices_are_never_made_thinner(tmp_path) -> None:
    config = proposed(tmp_path, n=2000, gpu=True, shape="512x512x40", spacing="0.7x0.7x8").config
    assert config.preprocess.spacing_mm[2] == 8
    assert config.preprocess.spacing_mm[0] < 3
    assert 0.8 < pd.Series(config.preprocess.size).prod() / VOXELS["gpu", 3] < 1.3
    assert (config.model.backbone, config.model.width, config.train.folds) == ("resnet18", 1.0, 0)


@pytest.mark.parametrize(
    ("scans", "size", "dimensions", "intensity"),
    [
        ({"shape": "28x28x1", "modality": "", "unit": "a.u."}, (28, 28), 2, "minmax"),
        ({"shape": "2048x2500x1", "modality": "DX", "unit": "a.u."}, (96, 96), 2, "minmax"),
        ({"shape": "512x512x1"}, (96, 96), 2, "window"),
        ({"shape": "28x28x28", "spacing": "1x1x1", "modality": "", "unit": "a.u."}, (28, 28, 28), 3, "minmax"),
        ({"shape": "24x24x20", "modality": "MR", "unit": "a.u."}, (24, 24, 20), 3, "zscore"),
        ({"shape": "24x24x20", "modality": "PT", "unit": "SUVbw"}, (24, 24, 20), 3, "window"),
    ],
)
def test_each_kind_of_scan_gets_its_own(tmp_path, scans, size, dimensions, intensity) -> None:
    config = proposed(tmp_path, **scans).config
    assert (config.preprocess.size, config.model.dimensions) == (size, dimensions)
    assert config.preprocess.intensity == intensity
    assert config.model.stem_stride == (1 if max(size) <= 40 else 2)
    assert ("x" in config.augment.flip_axes) is (dimensions == 3 or intensity == "window")
    assert config.augment.probability == 0.5  # some inputs stay as sharp as those in use


@pytest.mark.parametrize(("colour", "channels"), [(0, 1), (1, 3), (100, 3)])
def test_one_colour_scan_makes_a_model_of_three_channels(tmp_path, colour, channels) -> None:
    proposal = proposed(tmp_path, shape="90x80x1", modality="", unit="a.u.", colour_scans=colour)
    assert proposal.config.model.channels == channels
    assert ("model.channels" in proposal.reasons) is (colour > 0)


def test_without_folds_a_small_cohort_trains_on_its_split(tmp_path) -> None:
    assert proposed(tmp_path, folds=0).config.train.folds == 0


def test_it_says_what_each_key_means_and_why_it_is_so(tmp_path) -> None:
    found = proposed(tmp_path)
    text = explained(found.config, found.reasons, "two\nlines")
    assert text.startswith("# two\n# lines\n")
    assert parse_config(yaml.safe_load(text), "it") == found.config
    lines = [line.strip() for line in text.splitlines()]
    for name, value in found.config.model_dump().items():
        for key in value if isinstance(value, dict) else ():
            at = next(i for i, line in enumerate(lines) if line.startswith(f"{key}:"))
            assert lines[at - 1].startswith("# "), f"{name}.{key}"
    assert all(f"Chosen: {reason}." in " ".join(text.replace("#", "").split()) for reason in found.reasons.values())
    assert max(len(line) for line in lines) <= 120


def test_long_values_survive(tmp_path) -> None:
    config = proposed(tmp_path).config
    sites = {"site": [f"hospital {n}" for n in range(300)]}
    long = config.model_copy(update={"cohort": config.cohort.model_copy(update={"hold_out": sites})})
    assert parse_config(yaml.safe_load(explained(long, {}, "it")), "it") == long


@pytest.mark.parametrize("folds", [3, 0])
def test_folds_are_those_that_the_cohort_has(tmp_path, folds) -> None:
    """Whoever drew them: the user's own column, or none where there were too few groups."""
    assert proposed(tmp_path, folds=folds).config.train.folds == folds


def test_an_edited_config_stays_and_an_untouched_one_is_renewed(tmp_path) -> None:
    def write(text: str, sha256: str) -> bool:
        return write_cohort(tmp_path, {"scans.csv": pd.DataFrame({"a": [1]})}, {"config_sha256": sha256}, "page", text)

    import hashlib

    def digest(text: str) -> str:
        return hashlib.sha256(text.encode()).hexdigest()

    path = tmp_path / "config.yaml"
    assert write("name: one\n", digest("name: one\n"))
    assert write("name: two\n", digest("name: two\n"))
    assert path.read_text() == "name: two\n"
    path.write_text("name: mine\n")
    for text in ("name: three\n", "name: four\n"):
        assert not write(text, digest(text))
        assert path.read_text() == "name: mine\n"
    assert load_config(path) == Config(name="mine")
    path.unlink()
    assert write("name: five\n", digest("name: five\n"))
