"""Does the model hold here? What its card promises beside what these scans say, in numbers and in words."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.domain import OperatingPoint
from pipeline.evaluation.cases import labelled
from pipeline.evaluation.operating_point import choose
from pipeline.files import read_json
from pipeline.results.words import percent, plain, with_interval

LOCAL = "local"
"""`chosen_on` of a threshold that these scans chose."""
NO_CARD = "the model folder holds no evaluation to compare with"
OTHER_UNIT = "the model's card judges another unit than each {} and can't be compared"


def card_of(model: Path, unit: str) -> tuple[dict[str, Any], str]:
    """Finding -> its numbers where the model was tested; nothing, and why, where there are none of this unit."""
    path = model / "evaluation.json"
    splits = read_json(path) if path.is_file() else {}
    first = splits[next(iter(splits))] if splits else {}
    if not isinstance(first, dict) or "findings" not in first:
        return {}, NO_CARD
    return (dict(first["findings"]), "") if first.get("unit", "scan") == unit else ({}, OTHER_UNIT.format(unit))


def local_check(
    evaluation: Mapping[str, Any], table: pd.DataFrame, points: Mapping[str, OperatingPoint], card: Mapping[str, Any],
    no_card: str = NO_CARD,
) -> dict[str, Any]:  # fmt: skip
    """Finding -> "auroc", "slope" and "intercept" here and on the card, and the threshold that meets the target here.

    Args:
        evaluation: Content of evaluation.json of these scans.
        table: The checked table that it was made from, in the same units.
        points: The model's frozen operating points.
        card: Finding -> its numbers on the model's card.
        no_card: Why a finding is not on it.
    """
    split = next(iter(evaluation))
    rows = table[(table["split"] == split) & (table["status"] == "ok")]
    return {finding: _checked(finding, here, rows, points.get(finding), card.get(finding), no_card)
            for finding, here in evaluation[split]["findings"].items()}  # fmt: skip


def _checked(
    finding: str, here: Mapping[str, Any], rows: pd.DataFrame, point: OperatingPoint | None,
    before: Mapping[str, Any] | None, no_card: str,
) -> dict[str, Any]:  # fmt: skip
    found: dict[str, Any] = {"auroc": {"here": here["auroc"], "card": before["auroc"] if before else None}}
    found |= {} if before else {"not_compared": no_card}
    for name in ("slope", "intercept"):
        there = before["calibration"].get(name) if before else None
        found[name] = {"here": here["calibration"].get(name), "card": there}
    found["holds"] = _holds(found["auroc"])
    if point is None:
        return found
    known = labelled(rows, finding)
    local = choose(finding, known[f"y_{finding}"].to_numpy(float), known[f"p_{finding}"].to_numpy(float), point.target,
                   LOCAL)  # fmt: skip
    return found | {
        "target": point.target, "threshold": {"frozen": point.threshold, "here": local.threshold if local else None},
        "at_frozen_threshold": {"sensitivity": here["sensitivity"], "specificity": here["specificity"]},
    }  # fmt: skip


def _holds(auroc: Mapping[str, Any]) -> bool | None:
    """False where the AUROC here is surely below the card's: its interval ends below where that one begins."""
    here, card = auroc["here"], auroc["card"]
    if card is None or card.get("low") is None or here["high"] is None:
        return None
    return bool(here["high"] >= card["low"])


def sentences(found: Mapping[str, Any]) -> list[str]:
    """The check in words."""
    return [line for finding, one in found.items() for line in _said(finding, one)]


def _said(finding: str, one: Mapping[str, Any]) -> list[str]:
    here, card = one["auroc"]["here"], one["auroc"]["card"]
    if card is None:
        lines = [f"{finding}: AUROC here {with_interval(here)}; {one['not_compared']}"]
    else:
        verdict = {None: "can't be compared", True: "the intervals meet", False: "lower than it was"}[one["holds"]]
        lines = [f"{finding}: AUROC here {with_interval(here)}, on the card {with_interval(card)}: {verdict}"]
    lines += _calibration_said(finding, one["slope"]["here"], one["intercept"]["here"])
    if "threshold" in one and one["threshold"]["here"] is not None:
        at = one["at_frozen_threshold"]
        lines.append(
            f"{finding}: the frozen threshold {plain(one['threshold']['frozen'], 3)} gives sensitivity "
            f"{with_interval(at['sensitivity'])} and specificity {with_interval(at['specificity'])} here; "
            f"{one['threshold']['here']:.3f} would meet its target ({one['target']}) on these scans"
        )
    return lines


def _calibration_said(
    finding: str, slope: Mapping[str, Any] | None, intercept: Mapping[str, Any] | None
) -> Sequence[str]:
    if not slope or not intercept or slope["low"] is None or intercept["low"] is None:
        return []
    drifts = [
        text for off, text in (
            (slope["high"] < 1, "too extreme"), (slope["low"] > 1, "too timid"),
            (intercept["high"] < 0, "too high"), (intercept["low"] > 0, "too low"),
        ) if off
    ]  # fmt: skip
    off = f"the probabilities are {' and '.join(drifts)} here; --recalibrate mends that"
    verdict = off if drifts else "no drift is seen"
    return [
        f"{finding}: calibration slope {with_interval(slope)}, intercept {with_interval(intercept)} "
        f"({percent(slope['level'])} intervals): {verdict}"
    ]
