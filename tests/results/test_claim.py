import re

import pytest

from pipeline.results.claim import OPEN, claim
from pipeline.results.cohort_flow import Flow
from tests.results.test_report import evaluation

SETTINGS = {
    "software": "scanline 9", "members": 5, "read": {"modalities": ["CT"]}, "calibration": {"method": "temperature"},
    "model": {"backbone": "resnet18", "dimensions": 3, "weights": "none"}, "training": {"scans_sha256": "ab" * 32},
    "operating_points": {"nodule": {"threshold": 0.5, "target": "youden", "chosen_on": "tune"}},
}  # fmt: skip
CONFIG = {"train": {"epochs": 7, "seed": 3}, "cohort": {"seed": 4}, "augment": {"noise": 0.1, "scale": 0.0}}
FLOW = Flow(93, {"truncated": 3}, 90, {"train": (60, 50), "test": (30, 30)})


def test_what_the_run_knows_is_filled_in() -> None:
    text = claim(SETTINGS, CONFIG, evaluation(), "test", FLOW)
    for words in (
        "93 scans found; left out: truncated 3; predicted 90 "
        "(train 60 scans of 50 patients; test 30 scans of 30 patients).",
        "epochs 7, seed 3; augmentation: noise 0.1.",
        "nodule: p >= 0.5 for youden, chosen on tune; frozen in the model folder",
        "members: 5",
        "temperature, fitted on held-out scans",
        "ab" * 32,
        "95 % intervals: DeLong, logit scale; Wilson.",
    ):
        assert words in text
    assert re.search(r"\*\*test, nodule\.\*\* AUROC 0\.\d\d \(0\.\d\d to .*; TP \d+, FP \d+, TN \d+, FN \d+\.", text)


@pytest.mark.parametrize("topic", ["Annotators", "Sample size", "Limits", "Eligibility", "Failures", "Intended use"])
def test_what_only_the_authors_know_is_open(topic: str) -> None:
    lines = claim(SETTINGS, CONFIG, evaluation(), "test", None).splitlines()
    line = next(line for line in lines if line.startswith(f"* **{topic}.**"))
    assert OPEN in line


def test_no_item_number_is_invented_and_the_owners_words_are_kept() -> None:
    text = claim(SETTINGS | {"intended_use": "Triage of chest CT."}, {}, evaluation(y_nodule=1), "test", FLOW)
    assert not re.search(r"[Ii]tem \d", text)
    assert "* **Intended use.** Triage of chest CT." in text
    assert "undefined: only one class" in text
