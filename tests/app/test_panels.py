from pathlib import Path

import numpy as np
import pytest

from app import panels
from app.language import words
from pipeline.domain import Identity, OperatingPoint, Prediction, Reason, Rejection, Scan, ScanError, Volume

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


def scan(path="a/b", **changes) -> Scan:
    return Scan(scan_id="0" * 16, path=ROOT / path, paths=(ROOT / path,), kind="dicom", **changes)


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
        panels.purpose(EVIL),
        panels.result_card(
            EVIL, prediction(probabilities={EVIL: 0.5}, positive={EVIL: True}), OperatingPoint(EVIL, 0.4, EVIL)
        ),
        panels.rejection_item(Rejection(ROOT / EVIL, Reason.TRUNCATED, EVIL), 1, ROOT, hidden=False),
    ],
)  # fmt: skip
def test_text_from_outside_is_escaped(shown):
    assert EVIL not in shown
    assert "<script" not in shown
    assert "&lt;script&gt;" in shown


def test_card_says_probability_verdict_and_operating_point():
    shown = panels.result_card("nodule", prediction(), POINT)
    assert "80 %" in shown
    assert ">positive<" in shown
    assert "left:43.0%" in shown
    assert "Positive: at or above 0.430, chosen on the tune split for sensitivity &gt;= 0.95." in shown


def test_card_without_an_operating_point_gives_no_verdict():
    shown = panels.result_card("nodule", prediction(positive={}), None)
    assert "verdict" not in shown
    assert "no operating point" in shown


@pytest.mark.parametrize(
    ("p", "expected"),
    [(0.0, "< 1 %"), (0.004, "< 1 %"), (0.01, "1 %"), (0.436, "44 %"), (0.99, "99 %"), (1.0, "> 99 %")],
)
def test_percent_never_claims_certainty(p, expected):
    assert panels.percent(p) == expected


@pytest.mark.parametrize(("p", "expected"), [(0.0, "< 0.001"), (0.4296, "0.430"), (0.999, "0.999"), (1.0, "> 0.999")])
def test_number_never_claims_certainty(p, expected):
    assert panels.number(p) == expected


def test_youden_in_words():
    words = panels.operating_point_words(OperatingPoint("nodule", 0.5, "youden"))
    assert words.endswith("the best sum of sensitivity and specificity (Youden).")


def test_spread_only_for_an_ensemble():
    assert len(panels.doubts(prediction(), 1)) == 1
    assert "3 models of the ensemble differ by 0.05" in panels.doubts(prediction(), 3)[1]


def test_warnings_once_each_known_codes_in_words():
    volume = Volume(np.zeros((2, 2, 2), np.float32), np.eye(4), warnings=("no_rescale", "odd_code"))
    found = panels.warnings(prediction(warnings=("no_rescale", "ood"), in_distribution=False), volume)
    assert len(found) == 3
    assert "unlike those" in found[0]
    assert found[1] == panels.WORDS["no_rescale"]
    assert found[2] == "Warning: odd code."
    refused = panels.warnings(ScanError(Reason.NOT_ONE_SLICE, "x"), volume)
    assert len(refused) == 2


def test_scan_label_shows_path_modality_date():
    assert panels.scan_label(scan(modality="CT", acquired="20260131"), 3, ROOT, hidden=False) == "a/b · CT · 2026-01-31"
    assert panels.scan_label(scan(), 3, ROOT, hidden=False) == "a/b · DICOM"


def test_scan_label_in_a_reader_study_shows_neither_path_nor_date():
    assert panels.scan_label(scan("DOE", modality="CT", acquired="20260131"), 3, ROOT, hidden=True) == "Scan 3 · CT"


def test_rejections_in_a_reader_study_show_no_path():
    refused = Rejection(ROOT / "DOE", Reason.TRUNCATED, "cut off")
    assert "DOE" in panels.rejection_item(refused, 2, ROOT, hidden=False)
    hidden = panels.rejection_item(refused, 2, ROOT, hidden=True)
    assert "DOE" not in hidden
    assert "truncated" in hidden
    assert "cut off" in hidden


def test_footer_says_what_this_is_not():
    assert panels.RESEARCH_ONLY in panels.footer(ENGLISH, "demo-123456789abc")
    assert "demo-123456789abc" in panels.footer(ENGLISH, "demo-123456789abc")
    assert "Model" not in panels.footer(ENGLISH, "")
