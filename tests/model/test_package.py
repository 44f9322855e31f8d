import json
import os
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline import load_model
from pipeline.files import write_sums
from pipeline.model.package import ModelError, binary_entropy_bits, verify
from pipeline.sections import ModelSection
from tests.model.tiny import SECTION, marked, save_tiny

VOLUME = marked((30, 30, 20), np.diag([2.0, 2, 3, 1]), (10, 20, 8), radius=3)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "model")


def test_a_saved_model_predicts(saved) -> None:
    model = load_model(saved)
    prediction = model.predict(VOLUME)
    p = prediction.probabilities["nodule"]
    assert 0 < p < 1
    assert prediction.positive == {"nodule": p >= 0.5}
    assert prediction.uncertainty == pytest.approx(float(binary_entropy_bits(np.array(p))), abs=1e-4)
    assert (prediction.spread, prediction.in_distribution) == (0, None)
    assert prediction.model == model.model_id
    assert model.model_id.startswith("tiny-")
    assert prediction == load_model(saved).predict(VOLUME)


def test_a_prediction_does_not_depend_on_its_neighbours(saved) -> None:
    model = load_model(saved)
    rng = np.random.default_rng(0)
    arrays = rng.random((11, 1, 16, 24, 24)).astype(np.float32)
    together = model.outputs(arrays)[0][0]
    alone = np.concatenate([model.outputs(arrays[k : k + 1])[0][0] for k in range(11)])
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize(
    ("section", "layout"),
    [
        ({"model": SECTION}, torch.channels_last_3d),
        ({"model": ModelSection(dimensions=2, backbone="resnet10t")}, torch.channels_last),
    ],
    ids=["3d", "2d"],
)
def test_a_loaded_network_has_the_layout_that_it_was_trained_in(tmp_path, section, layout) -> None:
    """Which is a third faster; what is loaded and moved to a device must not lose it."""
    (network,) = load_model(save_tiny(tmp_path / "model", **section), "cpu").networks
    kernels = [p for p in network.parameters() if p.ndim > 2 and p.shape[1] > 1 and max(p.shape[2:]) > 1]
    assert kernels
    assert all(p.is_contiguous(memory_format=layout) and not p.is_contiguous() for p in kernels)


def test_an_ensemble_averages_probabilities(tmp_path) -> None:
    model = load_model(save_tiny(tmp_path / "model", members=3))
    assert sorted(p.name for p in (tmp_path / "model" / "members").iterdir()) == ["0", "1", "2"]
    prediction = model.predict(VOLUME)
    members = model.calibrated(model.outputs(_array(model))[0])[:, 0, 0]
    assert prediction.probabilities["nodule"] == pytest.approx(members.mean(), abs=1e-6)
    assert prediction.spread == pytest.approx(members.std())
    assert prediction.spread > 0


def _array(model):
    from pipeline.model.preprocess import preprocess

    return preprocess(VOLUME, model.preprocess).array[None]


def test_evaluation_files_do_not_change_the_models_identity(folder) -> None:
    before = load_model(folder).model_id
    (folder / "evaluation.json").write_text('{"test": {}}')
    (folder / "MODEL_CARD.md").write_text("# card")
    write_sums(folder)
    assert load_model(folder).model_id == before
    assert load_model(folder).evaluation == {"test": {}}


@pytest.mark.parametrize("name", ["weights.safetensors", "model.json"])
@pytest.mark.parametrize("where", [0.1, 0.5, 0.999])
def test_one_changed_byte_is_refused(folder, name, where) -> None:
    path = folder / name
    content = bytearray(path.read_bytes())
    content[int(where * len(content))] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match=rf"\(checksum\): {name} was changed"):
        load_model(folder)


def _break(folder, kind: str) -> None:
    settings = json.loads((folder / "model.json").read_text())
    if kind == "nan":
        state = load_file(folder / "weights.safetensors")
        state["head.weight"][0, 0] = float("nan")
        save_file(state, folder / "weights.safetensors")
    elif kind == "keys":
        state = load_file(folder / "weights.safetensors")
        save_file({"x": state["head.weight"]}, folder / "weights.safetensors")
    elif kind == "truncated":
        path = folder / "weights.safetensors"
        os.truncate(path, path.stat().st_size // 2)
    elif kind == "version":
        (folder / "model.json").write_text(json.dumps(settings | {"schema_version": 99}))
    elif kind == "settings":
        (folder / "model.json").write_text(json.dumps(settings | {"extra": 1}))
    elif kind == "json":
        (folder / "model.json").write_text("[1, 2]")
    write_sums(folder)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("nan", "non_finite_weights"),
        ("keys", "architecture"),
        ("truncated", "corrupt_model"),
        ("version", r"format_version\): made for format 99, this program reads format 1"),
        ("settings", "corrupt_model.*\n.*extra"),
        ("json", "corrupt_model"),
    ],
)
def test_damaged_models_are_refused_with_a_code(folder, kind, message) -> None:
    _break(folder, kind)
    with pytest.raises(ModelError, match=message):
        load_model(folder)


POINT = {"finding": "nodule", "threshold": 0.5, "target": "youden"}
BINARY = {"task": "binary", "temperature": [1.0], "intercept": [0.0]}
PARTS_OF_ANOTHER_MODEL = [
    ({"members": 10**9}, "members: Input should be less than or equal to 1000"),
    ({"members": 0}, "members: Input should be greater than or equal to 1"),
    ({"findings": []}, "findings: 0 of task binary"),
    ({"findings": ["nodule", "cyst"]}, "findings: 2 of task binary"),
    ({"findings": ["a", "a"], "task": "multilabel"}, "each must have a name of its own"),
    ({"operating_points": {"cyst": POINT | {"finding": "cyst"}}}, "operating_points: 'cyst' needs a finding of this"),
    ({"operating_points": {"nodule": POINT | {"finding": "cyst"}}}, "operating_points: 'nodule' needs a finding"),
    ({"operating_points": {"nodule": POINT | {"threshold": float("nan")}}}, "needs .* a finite threshold"),
    ({"test_time_flips": ["x", "x"]}, "test_time_flips: each axis once"),
    ({"member_calibrations": [BINARY, BINARY]}, "member_calibrations: 2 for 1 members"),
    ({"member_calibrations": [BINARY | {"intercept": []}]}, "needs a temperature and an intercept for each of 1"),
    ({"calibration": BINARY | {"task": "multilabel"}}, "it is for task multilabel, the model's is binary"),
    ({"calibration": BINARY | {"temperature": [1.0, 1.0]}}, "needs a temperature and an intercept for each of 1"),
    ({"calibration": BINARY | {"temperature": [0.0]}}, "needs temperatures above 0"),
    ({"calibration": BINARY | {"intercept": [float("nan")]}}, "needs finite numbers"),
    ({"calibration": BINARY | {"knots": [[0.0, 1.0]], "levels": [[0.5]]}}, "needs knots and levels of equal length"),
]


@pytest.mark.parametrize(("changes", "message"), PARTS_OF_ANOTHER_MODEL)
def test_parts_of_another_model_are_refused_before_they_answer(folder, changes, message) -> None:
    settings = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(settings | changes))
    write_sums(folder)
    with pytest.raises(ModelError, match=rf"\(corrupt_model\)(.|\n)*{message}"):
        load_model(folder)


@pytest.mark.parametrize("name", ["extra.pkl", "weights.pt", "run.py", "members/0/net.pth"])
def test_files_that_could_run_code_are_refused_unopened(folder, name) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    torch.save({"a": torch.zeros(1)}, folder / name)
    with pytest.raises(ModelError, match="unsafe_model"):
        load_model(folder)


def test_unlisted_and_missing_files(folder) -> None:
    (folder / "notes.md").write_text("x")
    with pytest.raises(ModelError, match=r"differ: notes\.md"):
        verify(folder)
    (folder / "SHA256SUMS").unlink()
    with pytest.raises(ModelError, match="no SHA256SUMS"):
        verify(folder)
    with pytest.raises(ModelError, match="missing"):
        verify(folder / "nowhere")


def test_a_listing_that_points_outside_is_refused(folder) -> None:
    (folder / "SHA256SUMS").write_text(f"{'0' * 64}  ../../etc/passwd\n")
    with pytest.raises(ModelError, match="manifest"):
        verify(folder)


def test_a_run_given_for_its_model_is_told(folder) -> None:
    run = folder.parent / "run"
    run.mkdir()
    folder.rename(run / "model")
    (run / "curve.csv").touch()
    with pytest.raises(ModelError, match=r"run is a run, its model is .*run.model: give that"):
        load_model(run)
