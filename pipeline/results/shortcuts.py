"""Shortcut probes in words: where the header, the border or a thumbnail alone come near the model."""

from collections.abc import Mapping
from typing import Any

NEAR = 0.05
"""A probe within this AUROC of the model's comes near it."""
NOTABLE = 0.7
"""A probe below this AUROC says little, however near the model is."""
WHAT = {"header": "the header (scanner, geometry, sex, age)", "border": "the image's border",
        "thumbnail": "a thumbnail of 8 x 8 pixels (4 x 4 x 4 voxels)"}  # fmt: skip
ADVICE = {
    "header": "compare scanners and sites apart, and balance them",
    "border": "crop to the anatomy, and look for tables, markers or burned-in text",
    "thumbnail": "coarse brightness is enough: check exposure, field of view and reconstruction",
}


def warnings_of(probes: Mapping[str, Mapping[str, Any]], model: Mapping[str, float | None]) -> list[str]:
    """Sentences about probes that come near the model.

    Args:
        probes: What `probe_all` gave.
        model: Finding -> AUROC of the model, None where undefined.
    """
    said = []
    for finding, found in probes.items():
        own = model.get(finding)
        for name, auroc in found.items():
            value = auroc["value"]
            if value is None or own is None or value < max(NOTABLE, own - NEAR):
                continue
            said.append(
                f"{finding}: {WHAT[name]} alone predicts the label with AUROC {value:.2f} ({auroc['low']:.2f} to "
                f"{auroc['high']:.2f}), near the model's {own:.2f}. The model may have learned that instead of the "
                f"finding; {ADVICE[name]}"
            )
    return said
