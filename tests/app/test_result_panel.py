"""The result panel's words: what a probability, a positive and a test are worth, in every language."""

import re
from html import unescape
from types import SimpleNamespace

import pytest

from app import result_panel
from app.language import LANGUAGES, words
from pipeline.domain import OperatingPoint, Prediction

ENGLISH = words("en")
POINT = OperatingPoint("nodule", 0.43, "sensitivity >= 0.95")


def metric(value, low=None, high=None) -> dict[str, object]:
    return {"value": value, "low": low, "high": high, "level": 0.95, "method": "bootstrap", "n": 32}


def evaluated(split="test", **metrics) -> dict[str, object]:
    findings = {"nodule": {"n_scans": 32, **metrics}}
    return {split: {"findings": findings, "n_scans": 32, "n_patients": 24}}


def card(probability=0.87, evaluation=None, point=POINT, code="en", finding="nodule") -> str:
    model = SimpleNamespace(evaluation=evaluation, operating_points={finding: point} if point else {})
    positive = {finding: probability >= point.threshold} if point else {}
    prediction = Prediction("a", {finding: probability}, positive, 0.4, 0.1, None, (), "m")
    return result_panel.result_card(words(code), model, prediction, finding)


def text(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


@pytest.mark.parametrize(
    ("probability", "said"),
    [
        (0.001, "less than 1 has"),
        (0.01, "about 1 has"),
        (0.2, "about 20 have"),
        (0.996, "more than 99 have"),
        (0.994, "about 99 have"),
    ],
)
def test_a_probability_is_said_as_a_frequency(probability, said):
    assert said in result_panel.meaning(ENGLISH, probability)


def test_the_card_says_what_a_positive_was_worth_on_the_test_set():
    numbers = {"ppv": metric(0.9375, 0.546, 0.9947), "sensitivity": metric(0.88, 0.43, 0.99)}
    said = text(card(evaluation=evaluated(**numbers)))
    assert "nodule positive 87 % calibrated probability 0.870" in said
    assert "Positive: at or above 0.430, fixed on the tune split for sensitivity >= 0.95." in said
    assert "On the test set (32 scans, 24 patients)" in said
    assert "A positive was right 94 % (55 % to 99 %)" in said
    assert "Sensitivity 88 % (43 % to 99 %)" in said
    assert "Specificity not defined" in said
    assert "In brackets: 95 % intervals." in said


def test_a_number_without_interval_stands_alone():
    assert "Specificity 50 %" in text(card(evaluation=evaluated(specificity=metric(0.5))))
    assert "Specificity not defined" in text(card(evaluation=evaluated(specificity=metric(None))))


def test_predictions_out_of_fold_count_where_there_is_no_test():
    assert "Out of fold (32 scans, 24 patients)" in text(card(evaluation=evaluated("oof")))


@pytest.mark.parametrize("evaluation", [None, {}, evaluated("tune"), {"test": {"findings": {}, "n_scans": 0}}])
def test_a_model_without_a_test_says_so(evaluation):
    assert "No test is recorded in the model folder" in text(card(evaluation=evaluation))


def test_without_operating_point_there_is_no_verdict():
    said = card(point=None)
    assert "verdict" not in said
    assert "The model has no operating point for this finding" in text(said)


def test_the_youden_point_is_explained():
    said = result_panel.point_words(ENGLISH, OperatingPoint("nodule", 0.5, "youden"))
    assert said.endswith("for the best sum of sensitivity and specificity (Youden).")


def test_names_from_outside_are_escaped():
    assert "<script>" not in card(finding="<script>alert(1)</script>", evaluation=None)


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_language_says_it_all(code):
    said = text(card(evaluation=evaluated(ppv=metric(0.9, 0.5, 1.0)), code=code))
    assert "90 %" in said
    assert "{" not in said


@pytest.mark.parametrize(("known", "said"), [(True, "is like those"), (None, "can't tell whether the scan is like")])
def test_doubts_say_whether_the_model_knows_such_scans(known, said):
    prediction = Prediction("a", {"nodule": 0.5}, {}, 1.0, 0.12, known, (), "m")
    assert said in " ".join(result_panel.doubts(ENGLISH, prediction, 1))
    assert "The 3 networks of the model differ by 0.12" in " ".join(result_panel.doubts(ENGLISH, prediction, 3))


def test_an_unfamiliar_scan_is_left_to_the_warnings():
    prediction = Prediction("a", {"nodule": 0.5}, {}, 1.0, 0.1, False, (), "m")
    assert result_panel.doubts(ENGLISH, prediction, 1) == ["Uncertainty 1.00 bit (0: sure, 1: can't tell)."]


def test_the_signature_names_the_model_and_says_research_only():
    said = text(result_panel.signature(ENGLISH, SimpleNamespace(model_id="demo-1")))
    assert said == "Research use only. Not a medical device. Model demo-1"
