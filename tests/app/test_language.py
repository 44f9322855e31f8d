"""The languages of the viewer: complete, alike, and asked only for what they hold."""

import re
from pathlib import Path
from string import Formatter

import pytest
import streamlit as st

from app import language
from app.language import CHOSEN, LANGUAGES, read, spoken, words

ASKED = re.compile(r'(?:words|spoken\(\))\(\s*"([a-z_]+\.[a-z_0-9]+)"')


def placeholders(sentence: str) -> list[str]:
    return sorted(name for _, name, _, _ in Formatter().parse(sentence) if name is not None)


@pytest.mark.parametrize("code", [code for code in LANGUAGES if code != "en"])
def test_a_language_has_the_keys_and_placeholders_of_english(code):
    english, other = read("en"), read(code)
    assert list(other) == list(english)
    for key, sentence in english.items():
        assert placeholders(other[key]) == placeholders(sentence), key
        assert other[key].strip(), key


def test_every_sentence_that_the_pages_ask_for_exists():
    sources = [path.read_text(encoding="utf-8") for path in Path(language.__file__).parent.rglob("*.py")]
    asked = {key for text in sources for key in ASKED.findall(text)}
    assert asked
    assert asked <= set(read("en"))


@pytest.mark.parametrize("code", LANGUAGES)
def test_words_in_a_style_sheet_end_no_string(code):
    assert not any(mark in words(code)(f"upload.choose_{key}") for key in ("files", "folder") for mark in "'\\<\n")


def test_placeholders_are_filled():
    assert words("en")("review.earlier", when="2020") == "Earlier study 2020"
    assert words("it")("review.finding") == "Reperto"


def test_an_unknown_sentence_is_a_fault():
    with pytest.raises(KeyError, match=r"review\.nothing"):
        words("en")("review.nothing")


def test_a_section_is_given_as_it_is_written():
    assert words("es").section("review")["finding"] == "Hallazgo"
    assert "{when}" in words("es").section("review")["earlier"]


@pytest.mark.parametrize(("chosen", "code"), [("pt", "pt"), ("xx", "en"), (None, "en")])
def test_the_chosen_language_is_spoken(monkeypatch, chosen, code):
    monkeypatch.setattr(st, "session_state", {} if chosen is None else {CHOSEN: chosen})
    assert spoken().code == code


@pytest.mark.parametrize("code", LANGUAGES)
def test_one_thing_is_counted_in_singular(code):
    say, keys = words(code), read(code)
    for one in (key for key in keys if key.startswith(("count.", "worklist.")) and key.endswith("_one")):
        many = one.removesuffix("_one")
        assert (say.count(many, 1), say.count(many, 2)) == (keys[one].format(n=1), keys[many].format(n=2))
    assert say.count("count.scans", 1) != say.count("count.scans", 2).replace("2", "1")


def test_many_things_are_counted_with_separators():
    assert words("en").count("count.scans", 1200) == "1,200 scans"
    assert words("it").count("worklist.refused", 1) == "rifiutato"
