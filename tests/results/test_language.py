import re
import string
import tomllib
from pathlib import Path
from typing import Any

import pytest

from pipeline.results.drawing import page_svg
from pipeline.results.language import LANGUAGES, Language, read
from pipeline.results.report import METHODS, render
from pipeline.results.robustness import robustness_drawing
from pipeline.results.words import MEANINGS, NAMES
from tests.results.test_figures import drawings
from tests.results.test_report import evaluation, full_report

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
