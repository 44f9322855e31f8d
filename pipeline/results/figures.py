"""The figures of one finding, from its entry in evaluation.json and the points of its curves."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from pipeline.results.drawing import (
    DASHES,
    SIZE_IN,
    Colours,
    Drawing,
    Say,
    frame,
    plane,
    shortened,
    square,
)

Array: TypeAlias = NDArray[np.float64]


def of_finding(
    finding: str, found: Mapping[str, Any], curves: Mapping[str, Array], subgroups: Mapping[str, Any] | None = None
) -> list[Drawing]:
    """The figures of one finding; those that it has no numbers for are left out.

    Args:
        finding: Its name.
        found: Its entry in evaluation.json.
        curves: As `pipeline.evaluation.curves.curves_of` gives them.
        subgroups: The split's subgroups.
    """
    drawn = [roc(found, curves), histogram(finding, found, curves), reliability(found["calibration"]["bins"]),
             precision_recall(found, curves)]  # fmt: skip
    drawn += [decision_curve(found["decision_curve"])] if found["decision_curve"] else []
    rows = found.get("abstention", {}).get("referral", [])
    drawn += [referral(rows)] if len(rows) > 1 else []
    forest_rows = _forest_rows(finding, found, subgroups or {})
    return drawn + ([forest(forest_rows)] if len(forest_rows) > 1 else [])


def roc(found: Mapping[str, Any], curves: Mapping[str, Array]) -> Drawing:
    """ROC curve with its band, and the operating point with its intervals."""
    x, y, band = curves["false_positive_rate"], curves["true_positive_rate"], curves.get("roc_band")
    decided = all(found[key]["value"] is not None for key in ("sensitivity", "specificity"))

    def draw(colours: Colours, say: Say) -> Figure:
        figure, axes = square(f"1 − {say('Specificity')}", say("Sensitivity"))
        axes.plot([0, 1], [0, 1], color=colours.faint, linewidth=1, linestyle=DASHES)
        _band(axes, band, colours)
        axes.plot(x, y, color=colours.curve, linewidth=2)
        if decided:
            _operating_point(axes, found["sensitivity"], found["specificity"], colours, say)
        return figure

    numbers = pd.DataFrame({"false_positive_rate": x, "true_positive_rate": y})
    return Drawing("roc", "Ranking: ROC curve", "ROC curve with the operating point and its intervals", numbers, draw)


def precision_recall(found: Mapping[str, Any], curves: Mapping[str, Array]) -> Drawing:
    """Precision against recall with its band, and the prevalence as the line of no skill."""
    recall, precision, prevalence = curves["recall"], curves["precision"], found["n_positive"] / found["n_scans"]

    def draw(colours: Colours, say: Say) -> Figure:
        figure, axes = square(f"{say('Sensitivity')} (recall)", f"{say('PPV')} (precision)")
        axes.axhline(prevalence, color=colours.faint, linewidth=1, linestyle=DASHES)
        _band(axes, curves.get("precision_band"), colours)
        axes.plot(recall, precision, color=colours.curve, linewidth=2, drawstyle="steps-post")
        return figure

    numbers = pd.DataFrame({"recall": recall, "precision": precision})
    return Drawing("precision_recall", "Precision and recall", "Precision-recall curve", numbers, draw)


def histogram(finding: str, found: Mapping[str, Any], curves: Mapping[str, Array]) -> Drawing:
    """Scans by predicted probability: those with the finding above those without it, each on its own scale."""
    edges, threshold = curves["edges"], found["operating_point"]["threshold"]
    shown = threshold is not None and threshold <= 1

    def draw(colours: Colours, say: Say) -> Figure:
        figure = Figure(figsize=SIZE_IN, layout="constrained")
        panels = figure.subplots(2, sharex=True)
        name = shortened(finding)
        sides = (("positives", colours.present, say("with {}").format(name)),
                 ("negatives", colours.absent, say("without {}").format(name)))  # fmt: skip
        for axes, (side, colour, title) in zip(panels, sides, strict=True):
            axes.bar(edges[:-1], curves[side], np.diff(edges), align="edge", color=colour, edgecolor="none", alpha=0.9)
            axes.set_title(title, loc="left", fontsize=10, color=colour, fontweight="bold", parse_math=False)
            axes.set(xlim=(0, 1), ylabel=say("Scans"))
            axes.grid(axis="x", visible=False)
            axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
            if shown:
                axes.axvline(threshold, color=colours.ink, linewidth=1.2, linestyle=DASHES)
        if shown:
            panels[0].set_title(say("positive from {} on").format(f"{threshold:.3g}"), loc="right", fontsize=9)
        panels[1].set_xlabel(say("Calibrated probability"))
        return figure

    numbers = pd.DataFrame({"from": edges[:-1], "to": edges[1:], "with": curves["positives"],
                            "without": curves["negatives"]})  # fmt: skip
    description = "Histograms of the predicted probabilities by true label"
    return Drawing("probabilities", "Predicted probabilities", description, numbers, draw)


def reliability(bins: Sequence[Mapping[str, float]]) -> Drawing:
    """Observed frequency against mean probability, with the interval of each bin."""
    numbers = frame(bins)

    def draw(colours: Colours, say: Say) -> Figure:
        figure, axes = square(say("Mean predicted probability"), say("Observed frequency"))
        axes.plot([0, 1], [0, 1], color=colours.faint, linewidth=1, linestyle=DASHES)
        axes.vlines(numbers["mean_p"], numbers["low"], numbers["high"], color=colours.curve, linewidth=1.4, alpha=0.55)
        axes.plot(
            numbers["mean_p"], numbers["observed"], color=colours.curve, linewidth=1.2, marker="o", markersize=5.5
        )
        return figure

    description = "Reliability diagram: observed frequency against predicted probability"
    return Drawing("reliability", "Are the probabilities right? Reliability", description, numbers, draw)


def decision_curve(rows: Sequence[Mapping[str, Any]]) -> Drawing:
    """Net benefit of acting on the model, of acting on everybody, and on nobody."""
    numbers = frame(rows)

    def draw(colours: Colours, say: Say) -> Figure:
        figure, axes = plane(say("Probability from which one would act"), say("Net benefit"))
        x, top = numbers["threshold"], max(float(numbers["net_benefit"].max()), float(numbers["high"].max()))
        axes.fill_between(x, numbers["low"], numbers["high"], color=colours.curve, alpha=0.16, linewidth=0)
        axes.axhline(0, color=colours.ink, linewidth=1)
        axes.plot(x, numbers["treat_all"], color=colours.present, linewidth=1.6, linestyle=DASHES)
        axes.plot(x, numbers["net_benefit"], color=colours.curve, linewidth=2)
        axes.set(xlim=(0, 1), ylim=(-0.25 * top, 1.25 * top))
        words = ((say("act on the model"), colours.curve), (say("act on all"), colours.present),
                 (say("act on none"), colours.ink))  # fmt: skip
        for k, (text, colour) in enumerate(words):
            axes.text(0.98, 0.97 - 0.075 * k, text, transform=axes.transAxes, ha="right", va="top", fontsize=9,
                      color=colour, fontweight="bold")  # fmt: skip
        return figure

    return Drawing(
        "decision_curve", "Is it worth acting on? Decision curve", "Decision curve: net benefit", numbers, draw
    )


def referral(rows: Sequence[Mapping[str, Any]]) -> Drawing:
    """Error among the scans that the model keeps, by the share that it refers to a reader."""
    numbers = frame(rows)

    def draw(colours: Colours, say: Say) -> Figure:
        figure, axes = plane(say("Share referred, the least sure first"), say("Error among the others"))
        axes.fill_between(numbers["referred"], numbers["low"], numbers["high"], color=colours.curve, alpha=0.16,
                          linewidth=0)  # fmt: skip
        axes.plot(numbers["referred"], numbers["error"], color=colours.curve, linewidth=2)
        axes.set(xlim=(0, max(0.5, float(numbers["referred"].max()))), ylim=(0, None))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
        return figure

    title = "What referring the unsure scans gains"
    return Drawing("referral", title, "Error against the share of scans referred to a reader", numbers, draw)


def forest(numbers: pd.DataFrame) -> Drawing:
    """AUROC of every subgroup with its interval, and that of all scans as a line; small groups are open circles."""

    def draw(colours: Colours, say: Say) -> Figure:
        labels = [say("all scans") if not column else shortened(f"{say(column)}: {say(value)}", 34)
                  for column, value in zip(numbers["column"], numbers["value"], strict=True)]  # fmt: skip
        figure, axes = plane("AUROC", "", (8.0, 0.9 + 0.28 * len(numbers)))
        y = np.arange(len(numbers))[::-1]
        axes.axvline(float(numbers["auroc"].iloc[0]), color=colours.faint, linewidth=1.2, linestyle=DASHES)
        axes.hlines(y, numbers["low"], numbers["high"], color=colours.curve, linewidth=1.8)
        for x, place, small in zip(numbers["auroc"], y, numbers["too_small"], strict=True):
            inside = "none" if small else colours.curve
            axes.plot([x], [place], marker="o", markersize=7, color=colours.curve, markerfacecolor=inside)
        axes.set_yticks(y, labels, parse_math=False)
        axes.set(xlim=(min(0.5, float(numbers["low"].min()) - 0.02), 1.01), ylim=(-0.7, len(numbers) - 0.3))
        axes.grid(axis="y", visible=False)
        axes.grid(axis="x", visible=True)
        axes.set_xlabel(say("AUROC with interval; open circles: too small to judge"))
        return figure

    return Drawing("subgroups", "For whom: AUROC by subgroup", "Forest plot of the AUROC by subgroup", numbers, draw)


def _forest_rows(finding: str, found: Mapping[str, Any], subgroups: Mapping[str, Any]) -> pd.DataFrame:
    """All scans first, then every group whose AUROC has an interval."""
    entries = [("", "", found["auroc"], False)]
    for column, values in subgroups.items():
        for value, group in values.items():
            own = group["findings"][finding]
            entries.append((column, value, own["auroc"], own["too_small"]))
    rows = [(column, value, m["value"], m["low"], m["high"], m["n"], small)
            for column, value, m, small in entries if m["value"] is not None and m["low"] is not None]  # fmt: skip
    return pd.DataFrame(rows, columns=["column", "value", "auroc", "low", "high", "n", "too_small"])


def _band(axes: Axes, band: Array | None, colours: Colours) -> None:
    if band is not None:
        axes.fill_between(np.linspace(0, 1, band.shape[1]), *band, color=colours.curve, alpha=0.16, linewidth=0)


def _operating_point(
    axes: Axes, sensitivity: Mapping[str, Any], specificity: Mapping[str, Any], colours: Colours, say: Say
) -> None:
    x, y = 1 - specificity["value"], sensitivity["value"]
    if sensitivity["low"] is not None:
        axes.plot([x, x], [sensitivity["low"], sensitivity["high"]], color=colours.ink, linewidth=1.2)
    if specificity["low"] is not None:
        axes.plot([1 - specificity["high"], 1 - specificity["low"]], [y, y], color=colours.ink, linewidth=1.2)
    axes.plot([x], [y], marker="o", markersize=8, color=colours.ink, clip_on=False)
    axes.text(0.97, 0.04, say("● operating point, with intervals"), ha="right", va="bottom", fontsize=9)
