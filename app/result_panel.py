"""What the model says of a scan, as HTML in the reader's language: probability, operating point, what it is worth.

Text from outside is escaped. No Streamlit.
"""

from collections.abc import Mapping
from html import escape
from typing import Any

from app.language import Words
from app.panels import number, percent
from pipeline.domain import OperatingPoint, Prediction
from pipeline.model.package import Model

TESTED = ("test", "oof")
"""Splits of evaluation.json that say how good the model is on patients that it had not seen, the better one first."""
METRICS = ("ppv", "npv", "sensitivity", "specificity")


def result_card(words: Words, model: Model, prediction: Prediction, finding: str) -> str:
    """One finding: its calibrated probability in number and words, what "positive" means, how often it held."""
    probability, point = prediction.probabilities[finding], model.operating_points.get(finding)
    verdict, mark = "", ""
    if point is not None:
        word = "positive" if prediction.positive[finding] else "negative"
        verdict = f"<span class='verdict {word}'>{escape(words(f'result.{word}'))}</span>"
        mark = f"<div class='mark' style='left:{100 * point.threshold:.1f}%'></div>"
    fill = f"<div class='fill' style='width:{100 * probability:.1f}%'></div>"
    calibrated = words("result.calibrated", number=number(probability))
    return (
        f"<div class='card'><div class='finding'>{escape(finding)}{verdict}</div>"
        f"<div class='probability'>{escape(percent(probability))}<small>{escape(calibrated)}</small></div>"
        f"<div class='bar' role='img' aria-label='{escape(percent(probability))}'>{fill}{mark}</div>"
        f"<div class='meaning'>{escape(meaning(words, probability))}</div>"
        f"<div class='point'>{escape(point_words(words, point))}</div>"
        f"{tested(words, model.evaluation, finding)}</div>"
    )


def meaning(words: Words, probability: float) -> str:
    """The probability as a frequency."""
    count = round(100 * probability)
    if count < 1:
        return words("result.meaning_few")
    if count == 1:
        return words("result.meaning_one")
    return words("result.meaning_most") if count > 99 else words("result.meaning", count=count)


def point_words(words: Words, point: OperatingPoint | None, section: str = "result") -> str:
    """From which probability on the model says "positive", and how that was chosen; in the words of this section."""
    if point is None:
        return words(f"{section}.no_point")
    target = words("result.youden") if point.target == "youden" else point.target
    return words(f"{section}.point", threshold=number(point.threshold), split=point.chosen_on, target=target)


def tested(words: Words, evaluation: Mapping[str, Any] | None, finding: str) -> str:
    """How often a positive and a negative were right on patients that the model had not seen, with intervals."""
    splits = evaluation or {}
    split = next((name for name in TESTED if finding in splits.get(name, {}).get("findings", {})), "")
    if not split:
        return f"<div class='tested'>{escape(words('result.no_test'))}</div>"
    part = splits[split]
    numbers = part["findings"][finding]
    scans = words.count("count.scans", numbers.get("n_scans", part["n_scans"]))
    title = words(f"result.on_{split}", scans=scans, patients=words.count("count.patients", part["n_patients"]))
    rows = "".join(_metric_row(words, name, numbers.get(name)) for name in METRICS)
    levels = {numbers[name]["level"] for name in METRICS if numbers.get(name)}
    note = "".join(words("result.level", level=f"{100 * level:.0f}") for level in sorted(levels))
    return f"<div class='tested'>{escape(title)}<table>{rows}</table><small>{escape(note)}</small></div>"


def _metric_row(words: Words, name: str, metric: Mapping[str, Any] | None) -> str:
    if not metric or metric.get("value") is None:
        text = words("result.undefined")
    elif metric.get("low") is None or metric.get("high") is None:
        text = _share(metric["value"])
    else:
        value, low, high = (_share(metric[key]) for key in ("value", "low", "high"))
        text = words("result.interval", value=value, low=low, high=high)
    return f"<tr><th scope='row'>{escape(words(f'result.{name}'))}</th><td>{escape(text)}</td></tr>"


def _share(value: float) -> str:
    return f"{100 * value:.0f} %"


def doubts(words: Words, prediction: Prediction, members: int) -> list[str]:
    """How sure the model is, and whether it knows scans like this one; a sentence each."""
    found = [words("result.uncertainty", bits=f"{prediction.uncertainty:.2f}")]
    if members > 1:
        found.append(words("result.spread", members=members, spread=f"{prediction.spread:.2f}"))
    if prediction.in_distribution is None:
        found.append(words("result.no_gate"))
    elif prediction.in_distribution:
        found.append(words("result.familiar"))  # the other case is a warning
    return found


def signature(words: Words, model: Model) -> str:
    """Who speaks, and what it is not: stands below every result."""
    name = words("result.model", model=model.model_id)
    return f"<p class='signature'><strong>{escape(words('result.research_only'))}</strong> {escape(name)}</p>"
