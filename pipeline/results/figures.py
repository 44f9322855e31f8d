"""Figures as SVG that takes colours and font from the page: one picture serves light, dark and print."""

import io
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]

INK, FAINT, WITH, WITHOUT, CURVE = "#010101", "#020202", "#030303", "#040404", "#050505"
"""Stand-ins that become CSS variables of the page: text, grid, with the finding, without it, curves."""
VARIABLES = {INK: "--ink", FAINT: "--line", WITH: "--with", WITHOUT: "--without", CURVE: "--accent"}
SIZE_IN = (4.0, 3.5)
DASHES = (0, (4, 3))
LONGEST_NAME = 24
"""Letters of a finding's name that fit into a figure."""
STYLE: dict[str, Any] = {
    "svg.fonttype": "none", "svg.hashsalt": "scanline", "font.size": 10, "text.color": INK, "axes.edgecolor": FAINT,
    "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK, "xtick.major.size": 0, "ytick.major.size": 0,
    "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True, "axes.grid": True,
    "grid.color": FAINT, "grid.linewidth": 0.6, "figure.facecolor": "none", "axes.facecolor": "none",
    "axes.linewidth": 0.8, "lines.solid_capstyle": "round",
}  # fmt: skip


def of_finding(finding: str, found: Mapping[str, Any], curves: Mapping[str, Array]) -> dict[str, str]:
    """Title -> SVG of one finding: ROC, precision-recall, histogram, reliability.

    Args:
        finding: Its name.
        found: Its entry in evaluation.json.
        curves: As `pipeline.evaluation.curves.curves_of` gives them.
    """
    decided = all(found[key]["value"] is not None for key in ("sensitivity", "specificity"))
    drawn = {
        "Ranking: ROC curve": roc(
            curves["false_positive_rate"], curves["true_positive_rate"], found if decided else None
        ),
        "Predicted probabilities": histogram(
            curves["edges"], curves["positives"], curves["negatives"], found["operating_point"]["threshold"], finding
        ),
        "Are the probabilities right? Reliability": reliability(found["calibration"]["bins"]),
        "Precision and recall": precision_recall(
            curves["recall"], curves["precision"], found["n_positive"] / found["n_scans"]
        ),
    }
    return drawn


def roc(x: Array, y: Array, point: Mapping[str, Any] | None) -> str:
    """ROC curve; `point` holds sensitivity and specificity (with intervals) at the operating point."""
    with _styled():
        figure, axes = _square("1 − specificity", "Sensitivity")
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, linestyle=DASHES)
        axes.plot(x, y, color=CURVE, linewidth=2)
        axes.fill_between(x, y, color=CURVE, alpha=0.08, linewidth=0)
        if point is not None:
            _cross(axes, 1 - point["specificity"]["value"], point["sensitivity"], _mirrored(point["specificity"]))
        return _svg(figure, "ROC curve with the operating point and its intervals")


def precision_recall(recall: Array, precision: Array, prevalence: float) -> str:
    """Precision against recall, with the prevalence as the line of no skill."""
    with _styled():
        figure, axes = _square("Sensitivity (recall)", "PPV (precision)")
        axes.axhline(prevalence, color=FAINT, linewidth=1, linestyle=DASHES)
        axes.plot(recall, precision, color=CURVE, linewidth=2, drawstyle="steps-post")
        return _svg(figure, "Precision-recall curve")


def histogram(edges: Array, positives: Array, negatives: Array, threshold: float | None, finding: str) -> str:
    """Scans by predicted probability: those with the finding above those without it, each on its own scale."""
    name = finding if len(finding) <= LONGEST_NAME else f"{finding[: LONGEST_NAME - 1]}…"
    with _styled():
        figure = Figure(figsize=SIZE_IN, layout="constrained")
        panels = figure.subplots(2, sharex=True)
        shown = ((positives, WITH, f"with {name}"), (negatives, WITHOUT, f"without {name}"))
        for axes, (counts, colour, title) in zip(panels, shown, strict=True):
            axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color=colour, edgecolor="none", alpha=0.9)
            axes.set_title(title, loc="left", fontsize=10, color=colour, fontweight="bold", parse_math=False)
            axes.set(xlim=(0, 1), ylabel="Scans")
            axes.grid(axis="x", visible=False)
            axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
            if threshold is not None and threshold <= 1:
                axes.axvline(threshold, color=INK, linewidth=1.2, linestyle=DASHES)
        if threshold is not None and threshold <= 1:
            panels[0].set_title(f"positive from {threshold:.3g} on", loc="right", fontsize=9)
        panels[1].set_xlabel("Calibrated probability")
        return _svg(figure, "Histograms of the predicted probabilities by true label")


def reliability(bins: Sequence[Mapping[str, float]]) -> str:
    """Observed frequency against mean probability, with the interval of each bin."""
    with _styled():
        figure, axes = _square("Mean predicted probability", "Observed frequency")
        axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, linestyle=DASHES)
        x, y, low, high = (np.array([b[key] for b in bins]) for key in ("mean_p", "observed", "low", "high"))
        axes.vlines(x, low, high, color=CURVE, linewidth=1.4, alpha=0.55)
        axes.plot(x, y, color=CURVE, linewidth=1.2, marker="o", markersize=5.5)
        return _svg(figure, "Reliability diagram: observed frequency against predicted probability")


def _mirrored(specificity: Mapping[str, Any]) -> tuple[float, float] | None:
    low, high = specificity["low"], specificity["high"]
    return None if low is None else (1 - high, 1 - low)


def _cross(axes: Axes, x: float, sensitivity: Mapping[str, Any], across: tuple[float, float] | None) -> None:
    y = sensitivity["value"]
    if sensitivity["low"] is not None:
        axes.plot([x, x], [sensitivity["low"], sensitivity["high"]], color=INK, linewidth=1.2)
    if across is not None:
        axes.plot(across, [y, y], color=INK, linewidth=1.2)
    axes.plot([x], [y], marker="o", markersize=8, color=INK, clip_on=False)
    axes.text(0.97, 0.04, "● operating point, with intervals", ha="right", va="bottom", fontsize=9)


def _styled() -> AbstractContextManager[None]:
    return mpl.rc_context(STYLE)  # type: ignore[arg-type]  # matplotlib types the keys as one long Literal


def _axes(x_label: str, y_label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE_IN, layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.grid(axis="x", visible=False)
    return figure, axes


def _square(x_label: str, y_label: str) -> tuple[Figure, Axes]:
    figure, axes = _axes(x_label, y_label)
    ticks = [0, 0.25, 0.5, 0.75, 1]
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.04), xticks=ticks, yticks=ticks)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:g}")
    return figure, axes


def _svg(figure: Figure, description: str) -> str:
    """The figure's <svg>, scaled by the page, without anything that would clash with a second one."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.DOTALL)
    text = re.sub(r"font: (\w+) ([\d.]+)px [^;\"]+", r"font-weight: \1; font-size: \2px", text)
    text = re.sub(r" font-family: [^;\"]+;", "", text)
    text = re.sub(r' transform="rotate\(-0 [^"]*"', "", text)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    return text.replace("<svg", f'<svg role="img" aria-label="{description}"', 1).strip()
