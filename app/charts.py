"""The performance page's two pictures, as Vega-Lite: nothing is fetched for them."""

from typing import Any

import pandas as pd

from app.language import Words

HEIGHT = 300
SHARES = {"values": [0, 0.2, 0.4, 0.6, 0.8, 1], "format": ".1f"}
"""The marks of an axis from 0 to 1."""
PRESENT, ABSENT, FROZEN, CHOSEN = "#ffb454", "#4cc2ff", "#93a1b0", "#e8edf2"
"""With and without the finding (told apart by colour-blind readers, too), the frozen threshold, the chosen one."""

Chart = tuple[pd.DataFrame, dict[str, Any]]


def call_chart(bins: pd.DataFrame, frozen: float | None, chosen: float, words: Words) -> Chart:
    """How many scans with and without the finding have which probability, and where the thresholds stand."""
    truth = [words("performance.without"), words("performance.with")]
    table = bins.assign(truth=bins["y"].map(dict(enumerate(truth))))
    bars = {
        "mark": {"type": "bar", "opacity": 0.85},
        "encoding": {
            "x": {"field": "low", "type": "quantitative", "bin": {"binned": True, "step": 0.05},
                  "scale": {"domain": [0, 1]}, "axis": SHARES, "title": words("performance.probability")},
            "x2": {"field": "high"},
            "y": {"field": "scans", "type": "quantitative", "title": words("performance.scans"), "stack": "zero"},
            "color": _colours("truth", dict(zip(truth, (ABSENT, PRESENT), strict=True))),
            "tooltip": [{"field": "truth", "title": " "}, {"field": "scans", "title": words("performance.scans")}],
        },
    }  # fmt: skip
    return table, _layered([bars, *_rules(frozen, chosen, words)])


def curve_chart(points: pd.DataFrame, frozen: float | None, chosen: float, words: Words) -> Chart:
    """Sensitivity and specificity over the threshold."""
    names = {"sensitivity": words("performance.sensitivity"), "specificity": words("performance.specificity")}
    table = points.melt("threshold", var_name="metric", value_name="share").dropna()
    table["metric"] = table["metric"].map(names)
    lines = {
        "mark": {"type": "line", "interpolate": "step-after", "strokeWidth": 2},
        "encoding": {
            "x": {"field": "threshold", "type": "quantitative", "scale": {"domain": [0, 1]}, "axis": SHARES,
                  "title": words("performance.threshold")},
            "y": {"field": "share", "type": "quantitative", "title": None, "axis": {"format": "%"}},
            "color": _colours("metric", dict(zip(names.values(), (PRESENT, ABSENT), strict=True))),
            "tooltip": [
                {"field": "metric", "title": " "},
                {"field": "threshold", "title": words("performance.threshold"), "format": ".3f"},
                {"field": "share", "title": " ", "format": ".1%"},
            ],
        },
    }  # fmt: skip
    return table, _layered([lines, *_rules(frozen, chosen, words)])


def _rules(frozen: float | None, chosen: float, words: Words) -> list[dict[str, Any]]:
    """Upright lines: dashed at the frozen threshold, whole at the chosen one."""
    wanted = [] if frozen is None else [(frozen, FROZEN, [4, 4], words("performance.frozen"))]
    wanted.append((chosen, CHOSEN, [1, 0], words("performance.chosen")))
    return [
        {
            "data": {"values": [{"at": at}]},
            "mark": {
                "type": "rule",
                "color": colour,
                "strokeDash": dash,
                "strokeWidth": 2,
                "tooltip": f"{name} {at:.3f}",
            },
            "encoding": {"x": {"field": "at", "type": "quantitative"}},
        }
        for at, colour, dash, name in wanted
    ]


def _colours(field: str, colours: dict[str, str]) -> dict[str, Any]:
    scale = {"domain": list(colours), "range": list(colours.values())}
    return {"field": field, "type": "nominal", "scale": scale, "legend": {"title": None, "orient": "top"}}


def _layered(layers: list[dict[str, Any]]) -> dict[str, Any]:
    return {"layer": layers, "height": HEIGHT, "config": {"axis": {"grid": False, "labelFlush": False}}}
