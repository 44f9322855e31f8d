"""The page's words and HTML: banner, result cards, warnings, footer. Text from outside is escaped. No Streamlit."""

import re
from collections.abc import Sequence
from html import escape

from app.advice import ADVICE
from app.language import Words
from pipeline.domain import Identity, Prediction, Scan, ScanError, Volume

NAMELESS_UPLOAD = "<style>[data-testid='stFileChipName'] { visibility: hidden; }</style>"
"""Hides the name of an uploaded file, which Streamlit shows by itself."""


CODE_STRING = re.compile(r"[A-Z0-9_ ]{1,16}")


def upload_buttons(words: Words) -> str:
    """A style that says in the reader's language what Streamlit's buttons for uploads say in English."""
    rules = (
        f".st-key-{key} [data-testid='stFileUploaderDropzone'] button p::after "
        f"{{ content: '{words(f'upload.choose_{key}')}'; }}"
        for key in ("files", "folder")
    )
    return f"<style>{''.join(rules)}</style>"


def banner(words: Words, identity: Identity, hidden: bool) -> str:
    """Who is on show: name, ID, birth date, study date; a fixed bar at the top of the page."""
    if hidden:
        return _bar(words, f"<b>{escape(words('shell.hidden'))}</b>")
    fields = (
        ("name", readable_name(identity.patient_name)), ("id", identity.patient_id),
        ("born", readable_date(identity.birth_date)), ("study", readable_date(identity.study_date)),
    )  # fmt: skip
    if not any(text for _, text in fields):
        unknown = escape(words("shell.unknown_patient"))
        return _bar(words, f"<b>{unknown}</b><span>{escape(words('shell.unknown_hint'))}</span>")
    shown = ((words(f"shell.{key}"), text or words("shell.unknown")) for key, text in fields)
    return _bar(words, "".join(f"<span><i>{escape(label)}</i> <b>{escape(text)}</b></span>" for label, text in shown))


def empty_banner(words: Words) -> str:
    """The bar at the top while no scan is open."""
    return _bar(words, f"<b>{escape(words('shell.no_scan'))}</b>")


def _bar(words: Words, content: str) -> str:
    label = escape(words("fault.patient"))
    return f"<div class='banner' role='banner' aria-label='{label}'>{content}</div>"


def footer(words: Words, model: str) -> str:
    """The bar at the bottom of the page: what this is not, and which model speaks."""
    name = f"<span>{escape(words('result.model', model=model))}</span>" if model else ""
    not_a_device = escape(words("result.research_only"))
    return f"<div class='footer' role='contentinfo'><strong>{not_a_device}</strong>{name}</div>"


def alert(text: str) -> str:
    """A refusal or an error. HTML, not Streamlit's own box: that reads Markdown, and a file could smuggle links in."""
    return f"<div class='alert' role='alert'>{escape(text)}</div>"


def readable_name(name: str) -> str:
    """A DICOM person name (PS3.5 6.2, "Family^Given^Middle^Prefix^Suffix") as "Family, Given Middle"."""
    family, _, rest = name.split("=", maxsplit=1)[0].partition("^")
    given = " ".join(part for part in rest.split("^") if part.strip())
    return f"{family}, {given}" if given else family


def readable_date(date: str) -> str:
    """YYYYMMDD as YYYY-MM-DD; anything else as it is."""
    return f"{date[:4]}-{date[4:6]}-{date[6:]}" if len(date) == 8 and date.isdigit() else date


def view_words(words: Words, view: str, side: str) -> str:
    """Which view of the patient a picture is, and of which side ("CC, left"); empty where the file names neither.

    Views that readers know by their letters (PA, MLO) stay letters; text that is no code string (PS3.5 6.2) is left
    out.
    """
    known, code = words.section("view"), view if CODE_STRING.fullmatch(view) else ""
    return ", ".join(filter(None, [known.get(code.lower(), code), known.get(f"side_{side.lower()}")]))


def kind_of(scan: Scan) -> str:
    """The modality; of a file that names none, what kind of file it is."""
    return scan.modality or {"nifti": "NIfTI", "image": "PNG/JPEG/TIFF"}.get(scan.kind, "")


def unformatted(text: str) -> str:
    """Text from outside for a label that Streamlit reads as Markdown: shown letter by letter, no picture, no link."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", text)


def caption(view: str, *rest: str) -> str:
    """What stands over a picture: its view in bold, then what else is said of it."""
    parts = [f"<b>{escape(view)}</b>" if view else "", *map(escape, rest)]
    return f"<p class='caption'>{' · '.join(filter(None, parts))}</p>"


def percent(probability: float) -> str:
    """A probability in percent; never "0 %" or "100 %", which would claim certainty."""
    if probability < 0.01:
        return "< 1 %"
    return "> 99 %" if probability > 0.99 else f"{100 * probability:.0f} %"


def number(probability: float) -> str:
    """A probability with 3 decimals, the same way."""
    if probability < 0.001:
        return "< 0.001"
    return "> 0.999" if probability > 0.999 else f"{probability:.3f}"


def warnings(words: Words, prediction: Prediction | ScanError, volume: Volume) -> list[str]:
    """What the reader should know before trusting the result, one sentence each; an unknown code is shown as it is."""
    codes: Sequence[str] = volume.warnings
    found = []
    if isinstance(prediction, Prediction):
        codes = (*codes, *prediction.warnings)
        if prediction.in_distribution is False:
            found.append(words("warning.ood"))
    known = words.section("warning")
    told = [code for code in dict.fromkeys(codes) if code != "ood"]  # said above, from the flag itself
    return found + [known.get(code) or words("warning.other", code=code.replace("_", " ")) for code in told]


def refusal_words(words: Words, error: ScanError) -> str:
    """Why a scan is not shown, or not scored, and what to do; on a line of its own the detail, which is English."""
    code, advice = error.reason.value, words(f"advice.{ADVICE[error.reason]}")
    return words("fault.refused", why=words(f"reason.{code}"), code=code, advice=advice, detail=error.detail)


def reason_words(words: Words, reason: str) -> str:
    """A table's "code: detail" with the code in words; any other text as it is."""
    code, _, detail = reason.partition(": ")
    why = words.section("reason").get(code)
    return words("fault.reason", why=why, code=code, detail=detail) if why else reason


def purpose(words: Words, use: str) -> str:
    """What the model is for, in its owner's words."""
    return f"<p class='purpose'>{escape(words('fault.purpose', use=use))}</p>"


def named(label: str, value: str) -> str:
    """What a control would show of which there is only one value."""
    return f"<div class='named'><div>{escape(label)}</div><b>{escape(value)}</b></div>"


def tile(name: str, value: str, interval: str, change: str | None = None) -> str:
    """One number of the performance page: its name, its interval, and how many points it has moved."""
    moved = f"<span class='moved'>{escape(change)}</span>" if change else ""
    return (
        f"<div class='tile'><div class='name'>{escape(name)}</div><div class='value'>{escape(value)}{moved}</div>"
        f"<div class='interval'>{escape(interval)}</div></div>"
    )
