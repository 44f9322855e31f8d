from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from pipeline import load_model
from pipeline.domain import UsageError
from pipeline.explanation.similar import INDEX, similar, write_index
from pipeline.model.preprocess import preprocess
from tests.model.tiny import lively, marked, save_tiny

VOLUMES = [marked((30, 30, 20), np.diag([2.0, 2, 3, 1]), at, radius=3) for at in ((8, 8, 8), (22, 8, 8), (8, 22, 14))]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    run = tmp_path_factory.mktemp("run")
    model = load_model(save_tiny(run / "model", members=2), "cpu")
    for network in model.networks:
        lively(network)
    arrays = np.stack([preprocess(volume, model.preprocess).array for volume in VOLUMES])
    # beside them: a scan of the test split, a refused one, one without a label
    features = [np.concatenate([member, member]) for member in model.outputs(arrays)[1]]
    table = pd.DataFrame({
        "scan_id": ["a", "b", "c", "d", "e", "f"],
        "split": ["train", "train", "oof", "test", "train", "train"],
        "status": ["ok", "ok", "ok", "ok", "rejected", "ok"],
    })  # fmt: skip
    y = np.array([[1], [0], [np.nan], [1], [0], [1]], dtype=np.float32)
    usable = np.array([True, True, True, True, False, False])
    write_index(run, SimpleNamespace(table=table, features=features, y=y, usable=usable))
    return model


def test_the_scan_itself_is_nearest_and_labels_stand_beside(model) -> None:
    found = similar(model.folder.parent, model, VOLUMES[1], k=5)
    assert found[0].scan_id == "b"
    assert {one.scan_id for one in found} == {"a", "b", "c"}  # what was learned from
    assert found[0].distance == pytest.approx(0, abs=0.02)  # as half floats
    assert found[1].distance > 0.3
    assert {one.scan_id: one.labels["nodule"] for one in found} == {"a": 1, "b": 0, "c": None}
    assert [one.distance for one in found] == sorted(one.distance for one in found)
    assert len(similar(model.folder.parent, model, VOLUMES[1], k=2)) == 2


def test_the_index_holds_what_it_says_and_nothing_else(model) -> None:
    with np.load(model.folder.parent / INDEX, allow_pickle=False) as index:
        assert sorted(index.files) == ["features", "labels", "model", "scan_id", "spread"]
        assert index["features"].dtype == np.float16


def test_another_model_or_no_index_is_refused(model, tmp_path) -> None:
    with pytest.raises(UsageError, match=r"holds no readable similar\.npz; give the RUN folder"):
        similar(tmp_path, model, VOLUMES[0])
    (tmp_path / INDEX).write_bytes(b"no archive")
    with pytest.raises(UsageError, match=r"holds no readable similar\.npz"):
        similar(tmp_path, model, VOLUMES[0])
    other = load_model(save_tiny(tmp_path / "model", name="tiny2", intended_use="another"), "cpu")
    with pytest.raises(UsageError, match=r"its similar\.npz is of the model .*, not of this one"):
        similar(model.folder.parent, other, VOLUMES[0])
