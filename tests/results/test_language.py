import re
import string
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.audit.local_check import NO_CARD, OTHER_UNIT, sentences
from pipeline.evaluate import UNCHECKED_MAPS
from pipeline.evaluation.join import join
from pipeline.evaluation.table import shared_patients
from pipeline.explanation.sanity import EMPTY, _judged
from pipeline.explanation.trust import MapTrust
from pipeline.publish import _sentence
from pipeline.results import words
from pipeline.results.drawing import page_svg
from pipeline.results.language import LANGUAGES, Language, read
from pipeline.results.report import METHODS, render
from pipeline.results.robustness import gate_sentences, robustness_drawing
from pipeline.results.shortcuts import WHAT, warnings_of
from pipeline.results.words import MEANINGS, NAMES
from tests.evaluation.runs import predictions
from tests.results.test_figures import drawings
from tests.results.test_report import class_sets, evaluation, full_report, measured

OTHERS = [code for code in LANGUAGES if code != "en"]
SAME = frozenset({
    "AUROC", "MCC", "LR+", "LR−", "F1", "Wilson", "logit", "log", "atanh", "train", "tune", "test", "nodule", "mass",
    "truncated",
})  # fmt: skip
"""Words that are the same in every language, and names."""


class Recording(Language):
    """Remembers what it could not translate."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.left: set[str] = set()

    def __call__(self, text: str) -> str:
        found = super().__call__(text)
        if found == text and re.search("[a-z]{3}", text):
            self.left.add(text)
        return found


@pytest.mark.parametrize("code", OTHERS)
@pytest.mark.parametrize("columns", [{}, {"y_nodule": 1}, {"age": [str(20 + k % 60) for k in range(90)]}])
def test_no_sentence_of_the_report_stays_english(code: str, columns: dict[str, Any]) -> None:
    say = Recording(code)
    for found in (evaluation(**columns), evaluation(("nodule", "mass"))):
        for split in found:
            text = render(full_report(found, split, say))
            assert f'<html lang="{code}">' in text
    say.left -= SAME
    assert say.left == set()


@pytest.mark.parametrize("code", OTHERS)
def test_every_name_meaning_method_and_figure_is_translated(code: str) -> None:
    say = Recording(code)
    for text in [*NAMES.values(), *MEANINGS.values(), *METHODS]:
        say(text)
    figures = robustness_drawing(full_report(evaluation(), "test", say).robustness["nodule"])
    for drawing in [*drawings(), *figures]:
        say(drawing.title)
        page_svg(drawing, say)
    assert say.left - SAME - {"site: A", "site: B"} == set()


def notes() -> list[str]:
    """Every kind of note that `evaluate` may put above the numbers, from where it is made."""
    rows = predictions().astype(str)
    twice = rows.assign(patient="one", content_sha256="two", split=["train", "tune", "test"] * 30)
    probes = {"nodule": {name: measured(0.95) | {"low": 0.9} for name in WHAT}}
    strange = {"as it is": {"flagged": measured(0.1)}, "static": {"auroc": measured(0.9), "flagged": measured(0.7)}}
    found = [
        *shared_patients(twice, allowed=True),
        *shared_patients(twice.drop(columns="content_sha256"), allowed=True),
    ]
    found += join(rows[["scan_id", "p_nodule"]].iloc[1:80], rows[["scan_id", "y_nodule"]].iloc[:70]).notes
    found += [note for own in (0.97, 1.0) for note in warnings_of(probes, {"nodule": own + 0.02})]
    found += gate_sentences(strange)
    return found


def local() -> list[str]:
    """What a local check may say."""
    reach, found = measured(0.8), list[str]()
    for slope, intercept in ((0.5, 0.9), (2.0, -0.9), (1.0, 0.0)):
        off = {name: {"here": measured(v) | {"low": v - 0.1, "high": v + 0.1}, "card": None}
               for name, v in (("slope", slope), ("intercept", intercept))}  # fmt: skip
        point = {"threshold": {"frozen": 0.5, "here": 0.4}, "target": "youden",
                 "at_frozen_threshold": {"sensitivity": reach, "specificity": reach | {"low": None}}}  # fmt: skip
        found += sentences({"nodule": off | point | {"auroc": {"here": reach, "card": reach}, "holds": True}})
    bare: dict[str, Any] = {"slope": {"here": None}, "intercept": {"here": None}}
    for holds, card, why in ((False, reach, ""), (None, reach, ""), (None, None, NO_CARD),
                             (None, None, OTHER_UNIT.format("patient"))):  # fmt: skip
        found += sentences({"nodule": bare | {"auroc": {"here": reach, "card": card}, "holds": holds} | (
            {"not_compared": why})})  # fmt: skip
    return found


def of_maps() -> list[str]:
    """Every verdict on heat maps."""
    trust = MapTrust(None, "", "gradcam", "layer4", "0", 8, {"head": 0.6, "stem": 0.1}, 0.9)
    bad = replace(trust, randomised={"stem": 0.9}, noise=0.1, hits=1, n_masks=9)
    judged = [_judged(one).sentence for one in (trust, replace(trust, hits=9, n_masks=9), bad)]
    return [*judged, EMPTY, UNCHECKED_MAPS]


@pytest.mark.parametrize("code", OTHERS)
def test_no_note_stays_english(code: str) -> None:
    english = (
        [_sentence(note, {"nodule"}) for note in [*notes(), *local()]] + of_maps() + words.class_sets(class_sets())
    )
    assert len(english) > 20
    say = Recording(code)
    for text in english:
        assert say(text) != text
    assert say.left - SAME - {"{}", "youden", "--recalibrate"} == set()


def test_a_finding_keeps_its_name_at_the_start_of_a_sentence() -> None:
    assert _sentence("nodule: the header alone says it", {"nodule"}) == "nodule: the header alone says it."
    assert _sentence("each row is a patient", {"nodule"}) == "Each row is a patient."


def fields(text: str) -> int:
    return sum(name is not None for _, name, _, _ in string.Formatter().parse(text.replace("{#}", "{}")))


@pytest.mark.parametrize("code", OTHERS)
def test_translations_have_the_same_sentences_and_as_many_places(code: str) -> None:
    table = read(code)
    assert list(table) == list(read("es"))
    assert [key for key, value in table.items() if fields(key) != fields(value) or not value.strip()] == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("24 patients, 1 scan, held out for the test", "24 pacientes, 1 estudio, reservados para la prueba"),
        ("0.86 to > 0.99", "0.86 a > 0.99"),
        ("only one class: 0 of 29 scans are positive", "una sola clase: 0 de 29 estudios son positivos"),
        ("a sentence to be translated some day", "a sentence to be translated some day"),
        ("", ""),
    ],
)
def test_sentences_are_translated_part_by_part(text: str, expected: str) -> None:
    assert Language("es")(text) == expected
    assert Language("en")(text) == text


def test_the_tables_are_shipped_with_the_package() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    assert "languages/*.toml" in project["tool"]["setuptools"]["package-data"]["*"]
