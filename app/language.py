"""The reader's language: the page's words, one plain table a language, one section a part of the page.

A sentence is asked for by section and key: `spoken()("review.earlier", when="2020")`. Every language has the same keys
and the same placeholders (tested), so no page mixes languages and a translator edits a text file only.
"""

import tomllib
from functools import cache
from pathlib import Path

import streamlit as st

LANGUAGES = {"en": "English", "es": "Español", "pt": "Português", "it": "Italiano"}
"""Code -> the language's own name, as the reader chooses it."""
CHOSEN = "language"
"""Where the page's state keeps the code of the chosen language."""
FOLDER = Path(__file__).parent / "languages"


class Words:
    """The sentences of one language.

    Args:
        code: One of `LANGUAGES`.
    """

    def __init__(self, code: str) -> None:
        self.code = code
        self._sentences = read(code)

    def __call__(self, key: str, **values: object) -> str:
        """The sentence of "section.key", its placeholders filled.

        Raises:
            KeyError: If there is no such sentence, or a placeholder's value is missing.
        """
        return self._sentences[key].format(**values)

    def count(self, key: str, n: int) -> str:
        """The sentence of "section.key" for `n` of something: that of "section.key_one" where there is just one.

        Raises:
            KeyError: If there is no such sentence.
        """
        return self(f"{key}_one" if n == 1 else key, n=f"{n:,}")

    def section(self, name: str) -> dict[str, str]:
        """Every sentence of one section as it is written, placeholders open: key -> sentence."""
        head = f"{name}."
        return {key.removeprefix(head): text for key, text in self._sentences.items() if key.startswith(head)}


@cache
def words(code: str) -> Words:
    """The words of a language, read once."""
    return Words(code)


def spoken() -> Words:
    """The words of the language that the reader chose; English at first."""
    code = str(st.session_state.get(CHOSEN, "en"))
    return words(code if code in LANGUAGES else "en")


def read(code: str) -> dict[str, str]:
    """The sentences of a language: "section.key" -> sentence."""
    with (FOLDER / f"{code}.toml").open("rb") as file:
        tables = tomllib.load(file)
    return {f"{section}.{key}": str(text) for section, table in tables.items() for key, text in table.items()}
