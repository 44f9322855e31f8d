import re
from html.parser import HTMLParser
from typing import Any

import pytest

from pipeline.domain import OperatingPoint
from pipeline.evaluation.assess import assess
from pipeline.evaluation.table import check_predictions
from pipeline.results import words
from pipeline.results.cohort_flow import flow_of
from pipeline.results.language import Language
from pipeline.results.model_card import model_card
from pipeline.results.report import Report, render
from pipeline.results.table_one import table_one
from pipeline.sections import EvaluateSection
from tests.evaluation.runs import predictions

STRANGE = ("inverted", "all air", "static", "mirrored", "upside down", "half missing")
EVIL = "<script>alert(1)</script>"


def evaluation(findings: tuple[str, ...] = ("nodule",), **columns: object) -> dict[str, Any]:
    table = check_predictions(predictions(findings=findings).assign(**columns).astype(str), "P")
    points = {f: OperatingPoint(f, 0.5, "youden") for f in findings}
    return assess(table, EvaluateSection(resamples=50), points)


def page(found: dict[str, Any], split: str = "test", **more: Any) -> str:
    return render(Report("lung", found, split, {}, **more))


def full_report(found: dict[str, Any], split: str, say: Language) -> Report:
    """A report with every part that evaluate fills in."""
    table = check_predictions(predictions().astype(str), "P")
    flow, one = flow_of(table, {"truncated": 1}, 2), table_one(table, ["nodule"], ["sex"])
    kinds = {"as it is": {"auroc": measured(0.9)}} | {
        name: [{"strength": unit.format(2), "auroc": measured(0.8), "flips": measured(0.25)}]
        for name, unit in {
            "noise": "{:g} % of the span", "blur": "{:g} model voxels", "contrast": "{:g} % less",
            "resampling": "{:g} times coarser", "rotation": "{:g} degrees", "missing slices": "{:g} % lost",
        }.items()
    }  # fmt: skip
    case = {"scan_id": "a1", "y": 1, "p": 0.4, "slice": 2, "slices": 9, "image": "data:image/png;base64,"}
    cases = [case | {"kind": kind} for kind in ("missed", "false alarm", "unsure")]
    gate = {"as it is": {"flagged": measured(0.1)}}
    gate |= {kind: {"auroc": measured(0.9), "flagged": measured(0.7)} for kind in STRANGE}
    maps = "Maps of this model passed their checks: the peak lies in the lesion in 9 of 10 scans with a mask."
    return Report("lung", found, split, {}, flow=flow, table_one=one, say=say, robustness={"nodule": kinds},
                  gallery={"nodule": cases}, gate=gate, maps=maps)  # fmt: skip


def measured(value: float) -> dict[str, Any]:
    return {"value": value, "low": value - 0.1, "high": value + 0.05, "level": 0.95, "method": "Wilson", "n": 9}


class Balanced(HTMLParser):
    """Fails where tags are not closed in order."""

    VOID = frozenset({"meta", "img", "br", "path", "use"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_html_that_asks_nobody_for_anything() -> None:
    text = page(evaluation())
    parser = Balanced()
    parser.feed(text)
    assert parser.open == []
    assert not re.search(r"<script|<link|<img|@import|src=|https?://", text)
    assert "default-src 'none'" in text


def test_the_answer_the_warning_and_five_numbers_come_first() -> None:
    text = page(evaluation())
    first = text[: text.index("</nav>")]
    assert "Research use only. Not a medical device." in first
    assert re.search(
        r"<h1>Of 100 pairs of one scan with nodule and one without, it ranks \d+ in the right order", first
    )
    assert first.count('class="tile"') == 5
    assert "1 scan could not be read" in first


def test_text_from_tables_and_settings_is_escaped() -> None:
    found = evaluation((EVIL,), site=["A", EVIL] * 45)
    text = page(found, settings={"a": {EVIL: EVIL}}, facts={EVIL: EVIL}, notes=[EVIL], intended_use=EVIL)
    assert EVIL not in text
    assert "&lt;script&gt;" in text


def test_places_on_the_owners_disk_stay_out() -> None:
    text = page(evaluation(), settings={"out": "/home/jane", "cohort": {"folder": "/home/jane/c", "seed": 4}})
    assert "/home/jane" not in text
    assert "cohort.seed" in text


def test_several_findings_get_an_overview_and_a_section_each() -> None:
    text = page(evaluation(("nodule", "mass", "effusion")))
    assert "Over 3 findings it ranks, on average," in text
    assert len(re.findall(r'<h2 id="finding-\d">', text)) == 3


def test_the_tune_split_is_said_to_flatter() -> None:
    assert "these numbers flatter" in page(evaluation(), "tune")


def test_an_undefined_split_makes_a_page_with_the_reason() -> None:
    assert "only one class: 29 of 29 scans are positive" in page(evaluation(y_nodule=1))


SETTINGS = {"name": "lung", "task": "binary", "findings": ["nodule"], "intended_use": ""}


def test_the_card_is_filled_from_numbers_and_leaves_the_owners_part_open() -> None:
    found = evaluation()
    text = model_card(SETTINGS, found, "test")
    assert text.startswith("---\ntags:")
    assert "### test: 29 patients, 29 scans, 1 scan refused (95 % intervals)" in text
    assert re.search(r"\| AUROC \| 0\.\d\d \(0\.\d\d to (> )?0\.\d\d\) \|", text)
    assert "To be written by the owner:** for which patients" in text
    assert "Not a medical device" in text


def test_the_card_prints_the_intended_use() -> None:
    text = model_card(SETTINGS | {"intended_use": "Triage of chest CT in adults."}, evaluation(), "test")
    assert "## Intended use\n\nTriage of chest CT in adults." in text
    assert "for which patients" not in text


def test_the_card_says_what_heat_maps_are_worth() -> None:
    assert "\n\n* Maps of this model are not to be trusted.\n" in model_card(
        SETTINGS, evaluation(), "test", "Maps of this model are not to be trusted."
    )


@pytest.mark.parametrize("site", ["A|B", "A\nB"])
def test_no_value_breaks_the_cards_tables(site: str) -> None:
    lines = model_card(SETTINGS, evaluation(site=[site, "C"] * 45), "test").splitlines()
    rows = [line for line in lines if line.startswith("| site: ")]
    assert len(rows) == 2
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {7}


def test_strange_scans_stand_in_a_table_and_heat_maps_have_their_verdict() -> None:
    text = render(full_report(evaluation(), "test", Language("en")))
    assert "<tr><th>upside down</th><td>0.90 (0.80 to 0.95)</td><td>70 %</td></tr>" in text
    assert "<tr><th>the test scans as they are</th><td>–</td><td>10 %</td></tr>" in text
    assert '<a href="#gate">' in text
    assert text.count("Maps of this model passed their checks") == 1  # beside the pictures
    bare = page(evaluation(), maps="It was not measured.")
    assert bare.count("It was not measured.") == 1
    assert 'id="gate"' not in bare


def class_sets(**changes: Any) -> dict[str, Any]:
    """Prediction sets of a multiclass task, as they stand in evaluation.json."""
    found = {"stated_coverage": 0.9, "coverage": measured(0.92), "single_answer": measured(0.6),
             "error_among_single": measured(0.1) | {"low": 0.05}, "mean_size": 1.44}  # fmt: skip
    return found | changes


def test_prediction_sets_over_classes_are_put_in_words() -> None:
    assert words.class_sets(class_sets()) == [
        "Prediction sets meant to hold the true class for 90 % of the scans of each class hold it for 92 % of all "
        "scans, with 1.4 classes on average. The set is a single class for 60 % of the scans; among those: error "
        "0.10 (0.05 to 0.15)."
    ]
    nothing = class_sets(error_among_single=measured(0.1) | {"value": None, "reason": "no set is a single answer"})
    assert words.class_sets(nothing)[0].endswith("; so none is decided.")
    assert words.class_sets({"stated_coverage": 0.9, "reason": "no labelled scans"}) == []
    found = evaluation(("organ=a", "organ=b"))
    for split in found.values():
        split["overall"]["prediction_sets"] = class_sets()
    assert "hold it for 92 % of all scans" in page(found)
