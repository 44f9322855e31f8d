"""The evidence curve: of models that look at slices, and of the others."""

from types import SimpleNamespace

import numpy as np
import pytest

from app import evidence
from app.evidence import brightest, evidence_curve
from app.session import OpenScan
from pipeline.domain import Identity, Prediction, Volume
from pipeline.model.package import load_model


def open_scan(shape=(20, 18, 12)) -> OpenScan:
    voxels = np.random.default_rng(0).normal(-500, 300, shape).astype(np.float32)
    result = Prediction("a", {"nodule": 0.5}, {}, 1.0, 0.0, None, (), "m")
    return OpenScan("a", Volume(voxels, np.diag([2.0, 2.0, 3.0, 1.0]), "HU"), True, Identity(), result)


def test_the_curve_of_a_volume_network_is_its_maps_highest_value(model_folder, monkeypatch):
    heat = np.zeros((20, 18, 12), np.uint8)
    heat[3, 4, 5], heat[1, 1, 7] = 255, 51
    monkeypatch.setattr(evidence, "heat_map", lambda *_: heat)
    assert evidence_curve(load_model(model_folder), open_scan(), "nodule") == [0] * 5 + [1, 0, 0.2] + [0] * 4
    assert brightest(heat).dtype == np.float32


def test_the_curve_of_a_slices_network_is_what_each_slice_adds(monkeypatch):
    model = SimpleNamespace(settings=SimpleNamespace(model=SimpleNamespace(architecture="slices")))
    monkeypatch.setattr(evidence, "slice_evidence", lambda *_: np.array([-0.25, 1.5], np.float32))
    assert evidence_curve(model, open_scan(), "nodule") == [-0.25, 1.5]


@pytest.mark.parametrize("shape", [(20, 18, 1)])
def test_a_single_slice_has_no_curve(model_folder, shape):
    assert evidence_curve(load_model(model_folder), open_scan(shape), "nodule") is None
