"""Shortcut probes in words: where the header, the border or a thumbnail alone come near the model."""

from collections.abc import Mapping
from typing import Any

NEAR = 0.05
"""A probe within this AUROC of the model's comes near it."""
NOTABLE = 0.7
"""A probe below this AUROC says little, however near the model is."""
CHANCE = 0.5
WHAT = {"header": "the header (scanner, geometry, sex, age, body part, contrast agent)", "border": "the image's border",
        "thumbnail": "a thumbnail of 8 x 8 pixels (4 x 4 x 4 voxels)"}  # fmt: skip
ADVICE = {
    "header": "compare scanners and sites apart, and balance them",
    "border": "crop to the anatomy, and look for tables, markers or burned-in text",
    "thumbnail": "coarse brightness is enough: check exposure, field of view and reconstruction",
}


def warnings_of(probes: Mapping[str, Mapping[str, Any]], model: Mapping[str, float | None]) -> list[str]:
    """Sentences about probes that come near the model, and about a header that says much, however good the model is.

    A border or a thumbnail may hold some of the finding itself; what the header gives away is no anatomy.

    Args:
        probes: What `probe_all` gave.
        model: Finding -> AUROC of the model, None where undefined.
    """
    return [said for finding, found in probes.items() for name, auroc in found.items()
            if (said := _warning(finding, name, auroc, model.get(finding)))]  # fmt: skip


def _warning(finding: str, name: str, auroc: Mapping[str, Any], own: float | None) -> str:
    value = auroc["value"]
    if value is None or own is None or value < NOTABLE:
        return ""
    alone = (
        f"{finding}: {WHAT[name]} alone predicts the label with AUROC {value:.2f} ({auroc['low']:.2f} to "
        f"{auroc['high']:.2f})"
    )
    if value >= own - NEAR:
        where = "above" if value > own + NEAR else "near"
        near = f"{where} the model's {own:.2f}. The model may have learned that instead of the finding"
        return f"{alone}, {near}; {ADVICE[name]}"
    if name == "header" and auroc["low"] > CHANCE:
        partly = f"a part of the model's {own:.2f} may come from that"
        return f"{alone}, though it shows no anatomy; {partly}: {ADVICE[name]}"
    return ""
