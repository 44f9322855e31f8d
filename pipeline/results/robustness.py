"""Robustness in the report: a figure and the rows of a table, from robustness.json."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from pipeline.results.drawing import DASHES, Colours, Drawing, Say
from pipeline.results.words import percent, plain, with_interval

AS_IS = "as it is"
COLUMNS = 3


def robustness_rows(found: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """(Disturbance, one (strength, AUROC with interval, flips) a strength) of one finding."""
    return [
        (name, [(entry["strength"], with_interval(entry["auroc"]), _flips(entry["flips"])) for entry in entries])
        for name, entries in found.items() if name != AS_IS
    ]  # fmt: skip


def _flips(found: Mapping[str, Any]) -> str:
    return "–" if found["value"] is None else percent(round(found["value"], 3))


def robustness_drawing(found: Mapping[str, Any]) -> list[Drawing]:
    """AUROC against strength, one small panel a disturbance; none where the AUROC is undefined."""
    base = found[AS_IS]["auroc"]
    kinds = {name: entries for name, entries in found.items() if name != AS_IS}
    if base["value"] is None or not kinds:
        return []
    rows = [
        {"disturbance": name, "strength": entry["strength"], "auroc": entry["auroc"]["value"],
         "low": entry["auroc"]["low"], "high": entry["auroc"]["high"], "flips": entry["flips"]["value"]}
        for name, entries in kinds.items() for entry in entries
    ]  # fmt: skip

    def draw(colours: Colours, say: Say) -> Figure:
        lines = -(-len(kinds) // COLUMNS)
        figure = Figure(figsize=(8.0, 2.3 * lines + 0.2), layout="constrained")
        panels = figure.subplots(lines, COLUMNS, sharey=True, squeeze=False).ravel()
        for axes in panels[len(kinds) :]:
            axes.set_visible(False)
        for axes, (name, entries) in zip(panels, kinds.items(), strict=False):
            axes.axhline(base["value"], color=colours.faint, linewidth=1.2, linestyle=DASHES)
            _points(axes, base, entries, colours)
            axes.set_title(say(name), loc="left", fontsize=10)
            axes.set_xticks(
                range(len(entries) + 1), [say("none"), *(_short(entry["strength"]) for entry in entries)], fontsize=8
            )
            axes.set(xlim=(-0.3, len(entries) + 0.3), ylim=(min(0.5, *_lows(kinds)) - 0.02, 1.02))
            axes.grid(axis="x", visible=False)
        for axes in panels[::COLUMNS]:
            axes.set_ylabel("AUROC")
        return figure

    title = "What disturbs it? AUROC by strength"
    return [Drawing("robustness", title, "AUROC of the test scans under disturbances", pd.DataFrame(rows), draw)]


def _points(axes: Any, base: Mapping[str, Any], entries: Sequence[Mapping[str, Any]], colours: Colours) -> None:
    shown = [(x, m) for x, m in enumerate([base, *(entry["auroc"] for entry in entries)]) if m["value"] is not None]
    axes.plot([x for x, _ in shown], [m["value"] for _, m in shown], color=colours.curve, linewidth=1.8, marker="o",
              markersize=5)  # fmt: skip
    for x, m in shown:
        if m["low"] is not None:
            axes.plot([x, x], [m["low"], m["high"]], color=colours.curve, linewidth=1.2, alpha=0.6)


def _short(strength: str) -> str:
    """The number and its sign, without the words behind it."""
    number, _, unit = strength.partition(" ")
    return f"{number} %" if unit.startswith("%") else f"{number}°" if unit == "degrees" else f"{number}×"


def _lows(kinds: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[float]:
    measures = [entry["auroc"] for entries in kinds.values() for entry in entries]
    return [float(m["low"]) for m in measures if m["low"] is not None] or [0.5]


def robustness_answer(found: Mapping[str, Any]) -> str:
    """The worst of it, in a sentence; "" where nothing can be said."""
    entries = [(name, entry) for name, rows in found.items() if name != AS_IS for entry in rows]
    judged = [(name, entry) for name, entry in entries if entry["auroc"]["value"] is not None]
    if not judged:
        return ""
    name, worst = min(judged, key=lambda one: one[1]["auroc"]["value"])
    now, before = (plain(entry["auroc"]["value"]) for entry in (worst, found[AS_IS]))
    said = f"Of all disturbances {name} ({worst['strength']}) costs most: AUROC {now} instead of {before}"
    flipped = worst["flips"]["value"] is not None
    return f"{said}, with {_flips(worst['flips'])} of the decisions flipped." if flipped else f"{said}."


def gate_rows(found: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(Kind of strangeness, AUROC of the gate with interval, share that it flags); the test scans themselves last."""
    strange = [(kind, with_interval(one["auroc"]), _flips(one["flagged"])) for kind, one in found.items()
               if kind != AS_IS]  # fmt: skip
    return [*strange, ("the test scans as they are", "–", _flips(found[AS_IS]["flagged"]))] if found else []


def gate_sentences(found: Mapping[str, Any]) -> list[str]:
    """What the out-of-distribution gate flags wrongly, and what it misses most, in a sentence; none without a gate."""
    strange = {kind: one["flagged"]["value"] for kind, one in found.items() if kind != AS_IS}
    if not strange or None in strange.values():
        return []
    worst = min(strange, key=strange.__getitem__)
    return [
        f"the out-of-distribution gate flags {_flips(found[AS_IS]['flagged'])} of the test scans as they are; of the "
        f"strange versions of them it misses {worst} most: {percent(round(strange[worst], 3))} flagged"
    ]
