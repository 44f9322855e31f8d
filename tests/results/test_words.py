from typing import Any

import pytest

from pipeline.results import words

FOUND = {"value": 0.967, "low": 0.912, "high": 0.9961, "level": 0.95, "method": "x", "n": 24}
NOTHING = {
    "value": None,
    "low": None,
    "high": None,
    "level": 0.95,
    "method": "none",
    "n": 4,
    "reason": "only one class",
}


def numbers(auroc: dict[str, Any], **counts: int) -> dict[str, Any]:
    finding = {
        "auroc": auroc, "n_scans": 24, "n_positive": 12, "confusion": {"tp": 11, "fp": 2, "tn": 10, "fn": 1},
        "operating_point": {"threshold": 0.43, "target": "youden", "chosen_on": "tune"},
    }  # fmt: skip
    return {
        "findings": {"nodule": finding},
        "n_patients": 24,
        "n_scans": 24,
        "n_rejected": 0,
        "n_unlabelled": 0,
    } | counts


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.967, "0.97"),
        (1.0, "1.00"),
        (0.9961, "> 0.99"),
        (-0.0004, "0.00"),
        (0.0, "0.00"),
        (-0.5, "−0.50"),
        (None, "–"),
    ],
)
def test_a_number_is_never_rounded_to_perfect(value: float | None, text: str) -> None:
    assert words.plain(value) == text


def test_the_headline_says_split_finding_interval_and_patients() -> None:
    assert words.headline(numbers(FOUND), "test") == [
        "test AUROC nodule 0.97 (95 % interval 0.91 to > 0.99, 24 patients)"
    ]


def test_an_undefined_headline_says_why() -> None:
    assert words.headline(numbers(NOTHING), "test") == ["test AUROC nodule undefined: only one class"]


def test_the_answer_is_in_words() -> None:
    ranking, decision = words.answer(numbers(FOUND), "nodule")
    assert ranking == "Of 100 pairs of one scan with nodule and one without, it ranks 97 in the right order."
    assert "fixed on the tune split it finds 11 of 12 scans with nodule, and calls 10 of 12 scans without" in decision


@pytest.mark.parametrize(("area", "said"), [(1.0, "all"), (0.997, "more than 99"), (0.5, "50")])
def test_pairs_are_never_rounded_to_all(area: float, said: str) -> None:
    assert words.pairs(area) == said


@pytest.mark.parametrize(
    ("found", "split", "counts", "said"),
    [
        (FOUND, "tune", {}, "chose the checkpoint, the calibration and the threshold"),
        (FOUND | {"low": 0.6}, "test", {}, "the interval is wide; the smaller class holds 12 scans"),
        (NOTHING, "test", {}, "AUROC undefined, only one class"),
        (FOUND, "test", {"n_rejected": 1}, "1 scan could not be read"),
        (FOUND, "test", {"n_unlabelled": 3}, "3 scans had no label"),
    ],
)
def test_cautions_come_where_they_are_due(found: dict[str, Any], split: str, counts: dict[str, int], said: str) -> None:
    assert [line for line in words.cautions(numbers(found, **counts), split) if said in line]
    assert not [line for line in words.cautions(numbers(FOUND), "test") if said in line]
