import threading
from dataclasses import replace

import numpy as np
import pytest

from pipeline import load_model
from pipeline.domain import UsageError
from pipeline.explanation.evidence import slice_evidence
from pipeline.model.preprocess import preprocess
from pipeline.sections import ModelSection, PreprocessSection
from tests.model.tiny import lively_model, marked, save_tiny

SLICES = ModelSection(architecture="slices", backbone="test_resnet")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    rules = PreprocessSection(size=(64, 64, 10))
    return lively_model(tmp_path_factory.mktemp("slices") / "model", members=2, model=SLICES, preprocess=rules)


def test_the_sum_over_the_slices_is_the_logit(model) -> None:
    volume = marked((40, 40, 10), np.diag([2.0, 2, 3, 1]), (10, 20, 6), radius=3)  # one slice of the model each
    logits = model.outputs(preprocess(volume, model.preprocess).array[None])[0][:, 0, 0]
    biases = [float(network.head.bias[0].detach()) for network in model.networks]
    assert slice_evidence(model, volume, "nodule").sum() == pytest.approx(float(np.mean(logits - biases)), abs=1e-4)


@pytest.mark.parametrize("n_slices", [7, 30])
def test_the_curve_follows_the_scans_slices(model, n_slices) -> None:
    """Slices that differ from the rest carry another evidence, wherever the model's own slices lie."""
    spacing = 60 / n_slices
    low = marked((40, 40, n_slices), np.diag([2.0, 2, spacing, 1]), (20, 20, 0), radius=1)
    curve = slice_evidence(model, low, "nodule")
    assert curve.shape == (n_slices,)
    middle = curve[n_slices // 2]
    assert np.argmax(np.abs(curve - middle)) == 0
    assert curve[-1] == pytest.approx(middle, abs=1e-6)


def test_outside_the_models_grid_there_is_none(model) -> None:
    rules = PreprocessSection(size=(64, 64, 10), spacing_mm=(2, 2, 2))
    near = replace(model, settings=model.settings.model_copy(update={"preprocess": rules}))
    curve = slice_evidence(near, marked((40, 40, 30), np.diag([2.0, 2, 2, 1]), (20, 20, 15), radius=3), "nodule")
    assert not curve[:10].any()
    assert curve[10:20].all()
    assert not curve[20:].any()


def test_other_models_and_findings_are_refused(model, tmp_path) -> None:
    volume = marked((9, 9, 9), np.eye(4), (4, 4, 4))
    with pytest.raises(KeyError, match="the model predicts nodule, not cyst"):
        slice_evidence(model, volume, "cyst")
    with pytest.raises(UsageError, match="evidence per slice needs a model"):
        slice_evidence(load_model(save_tiny(tmp_path / "model")), volume, "nodule")


def test_it_waits_while_another_thread_runs_the_network(model) -> None:
    volume, curves = marked((40, 40, 10), np.diag([2.0, 2, 3, 1]), (10, 20, 6)), []
    reader = threading.Thread(target=lambda: curves.append(slice_evidence(model, volume, "nodule")))
    with model.in_use:
        reader.start()
        reader.join(0.5)
        assert reader.is_alive()
    reader.join(60)
    assert len(curves) == 1
