"""The reader's language: English sentences and their translations, one plain table a language.

The English sentence is the key; `{}` stands for words that vary and are translated too, `{#}` for a number. So the
program is written in English, a missing translation is shown in English, and a translator edits a text file. (gettext
would need compiled catalogues in the package, and every sentence taken apart where it is made.)
"""

import re
import tomllib
from functools import cache
from pathlib import Path

LANGUAGES = ("en", "es", "pt", "it")
FOLDER = Path(__file__).parent / "languages"


class Language:
    """Translates whole sentences: `Language("es")("24 patients")` is "24 pacientes".

    Args:
        code: One of `LANGUAGES`.
    """

    def __init__(self, code: str) -> None:
        self.code = code
        self._sentences = {} if code == "en" else read(code)

    def __call__(self, text: str) -> str:
        """The text in this language; English where the table has no sentence for it."""
        if not self._sentences or not text:
            return text
        exact = self._sentences.get(text)
        if exact is not None:
            return exact
        for pattern, translated in _patterns(self.code):
            if found := pattern.fullmatch(text):
                return translated.format(*(self(part) for part in found.groups()))
        return text


def read(code: str) -> dict[str, str]:
    """The sentences of a language: English -> translated."""
    with (FOLDER / f"{code}.toml").open("rb") as file:
        return {str(key): str(value) for key, value in tomllib.load(file).items()}


NUMBER = r"([\d.,−<>–\- ]+?)"


@cache
def _patterns(code: str) -> list[tuple[re.Pattern[str], str]]:
    """Sentences with something that varies, the most specific first."""
    varying = {key: value for key, value in read(code).items() if "{}" in key or "{#}" in key}
    ordered = sorted(varying, key=lambda key: (-len(re.sub(r"\{#?\}", "", key)), key))
    return [(re.compile(_expression(key), re.DOTALL), varying[key]) for key in ordered]


def _expression(key: str) -> str:
    parts = re.split(r"(\{#?\})", key)
    return "".join({"{}": "(.+?)", "{#}": NUMBER}.get(part, re.escape(part)) for part in parts)
