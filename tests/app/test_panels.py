from pathlib import Path

import numpy as np
import pytest

from app import panels
from app.advice import ADVICE
from app.language import LANGUAGES, words
from pipeline.domain import Identity, OperatingPoint, Prediction, Reason, Scan, ScanError, Volume

ENGLISH = words("en")

EVIL = "<script>alert(1)</script>"
POINT = OperatingPoint("nodule", 0.43, "sensitivity >= 0.95")
ROOT = Path("/scans")


def prediction(p=0.8, **changes) -> Prediction:
    values = {
        "scan_id": "0" * 16, "probabilities": {"nodule": p}, "positive": {"nodule": True}, "uncertainty": 0.72,
        "spread": 0.05, "in_distribution": None, "warnings": (), "model": "demo-123456789abc",
    }  # fmt: skip
    return Prediction(**{**values, **changes})


def test_banner_shows_who():
    shown = panels.banner(ENGLISH, Identity("DOE^JANE^MARY", "4711", "19560102", "20260131"), hidden=False)
    for text in ("DOE, JANE MARY", "4711", "1956-01-02", "2026-01-31"):
        assert text in shown


def test_banner_names_what_is_missing():
    assert panels.banner(ENGLISH, Identity(patient_id="4711"), hidden=False).count("unknown") == 3
    assert "Unknown patient" in panels.banner(ENGLISH, Identity(), hidden=False)


def test_hidden_identity_is_nowhere():
    shown = panels.banner(ENGLISH, Identity("DOE^JANE", "4711", "19560102", "20260131"), hidden=True)
    assert "Identity hidden" in shown
    assert not any(text in shown for text in ("DOE", "JANE", "4711", "1956", "2026"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("DOE^JANE", "DOE, JANE"),
        ("DOE", "DOE"),
        ("", ""),
        ("Yamada^Tarou=山田^太郎", "Yamada, Tarou"),
        ("A^B^^Dr^", "A, B Dr"),
    ],
)
def test_readable_name(name, expected):
    assert panels.readable_name(name) == expected


@pytest.mark.parametrize(
    ("date", "expected"), [("20260131", "2026-01-31"), ("", ""), ("1999", "1999"), ("2026013a", "2026013a")]
)
def test_readable_date(date, expected):
    assert panels.readable_date(date) == expected


@pytest.mark.parametrize(
    "shown",
    [
        panels.banner(ENGLISH, Identity(EVIL, EVIL, EVIL, EVIL), hidden=False),
        panels.footer(ENGLISH, EVIL),
        panels.alert(EVIL),
        panels.purpose(ENGLISH, EVIL),
    ],
)  # fmt: skip
def test_text_from_outside_is_escaped(shown):
    assert EVIL not in shown
    assert "<script" not in shown
    assert "&lt;script&gt;" in shown


@pytest.mark.parametrize(
    ("p", "expected"),
    [(0.0, "< 1 %"), (0.004, "< 1 %"), (0.01, "1 %"), (0.436, "44 %"), (0.99, "99 %"), (1.0, "> 99 %")],
)
def test_percent_never_claims_certainty(p, expected):
    assert panels.percent(p) == expected


@pytest.mark.parametrize(("p", "expected"), [(0.0, "< 0.001"), (0.4296, "0.430"), (0.999, "0.999"), (1.0, "> 0.999")])
def test_number_never_claims_certainty(p, expected):
    assert panels.number(p) == expected


@pytest.mark.parametrize(
    ("kind", "modality", "said"),
    [("dicom", "CT", "CT"), ("nifti", "", "NIfTI"), ("image", "", "PNG/JPEG/TIFF"), ("dicom", "", "")],
)
def test_a_scan_without_modality_is_called_by_its_kind(kind, modality, said):
    assert panels.kind_of(Scan("a", Path("a"), (), kind, modality=modality)) == said


def test_a_label_from_outside_is_no_markdown():
    assert panels.unformatted("a · ![](HTTP://B.C)") == r"a · \!\[\]\(HTTP\:\/\/B\.C\)"


def test_warnings_once_each_known_codes_in_words():
    volume = Volume(np.zeros((2, 2, 2), np.float32), np.eye(4), warnings=("no_rescale", "odd_code"))
    found = panels.warnings(ENGLISH, prediction(warnings=("no_rescale", "ood"), in_distribution=False), volume)
    assert len(found) == 3
    assert "unlike those" in found[0]
    assert found[1] == "The scan does not tell how its values map to HU."
    assert found[2] == "Warning: odd code."
    refused = panels.warnings(words("it"), ScanError(Reason.NOT_ONE_SLICE, "x"), volume)
    assert refused == ["L'esame non indica come convertire i suoi valori in HU.", "Avviso: odd code."]


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_reason_has_words_in_every_language(code):
    known, advice = words(code).section("reason"), words(code).section("advice")
    assert set(known) == {reason.value for reason in Reason}
    assert set(ADVICE.values()) == set(advice)
    for reason in Reason:
        said = panels.refusal_words(words(code), ScanError(reason, "4 of 12"))
        assert said.endswith(f"{known[reason.value]} ({reason.value}). {advice[ADVICE[reason]]}\n4 of 12")


def test_a_reason_of_a_table_is_put_into_words():
    assert panels.reason_words(words("es"), "missing_slices: 2 of 9") == "faltan cortes (missing_slices): 2 of 9"
    assert panels.reason_words(words("es"), "") == ""
    assert panels.reason_words(words("es"), "no code: of ours") == "no code: of ours"


def test_footer_says_what_this_is_not():
    assert "Research use only. Not a medical device." in panels.footer(ENGLISH, "demo-123456789abc")
    assert "demo-123456789abc" in panels.footer(ENGLISH, "demo-123456789abc")
    assert "Model" not in panels.footer(ENGLISH, "")
