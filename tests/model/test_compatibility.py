"""Model folders of earlier versions still load and predict the same."""

from pathlib import Path

import numpy as np
import pytest

from pipeline import load_model
from tests.model.tiny import marked

FOLDER = Path(__file__).parent / "fixtures" / "model_v1"
AFFINE = np.diag([2.0, 2, 3, 1])


@pytest.mark.parametrize(
    ("at", "radius", "expected"),
    [
        ((10, 20, 8), 3, {"nodule": 0.434308, "effusion": 0.387591}),
        ((22, 6, 12), 5, {"nodule": 0.442428, "effusion": 0.406042}),
    ],
)
def test_a_model_of_the_first_version(at, radius, expected) -> None:
    """Its model.json has no `architecture`, and a stem_size that had no effect then."""
    model = load_model(FOLDER, "cpu")
    assert model.settings.model.architecture == "native"
    assert model.settings.model.stem_size == 7
    found = model.predict(marked((30, 30, 20), AFFINE, at, radius=radius)).probabilities
    assert found == pytest.approx(expected, abs=1e-5)
