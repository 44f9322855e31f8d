"""How figures look and leave: SVG that takes colours and font from the page, PNG and SVG files, numbers as CSV."""

import io
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.files import replacing, write_table

Say: TypeAlias = Callable[[str], str]
"""From an English text to the reader's language."""


@dataclass(frozen=True, slots=True)
class Colours:
    """Colours of a figure: text, grid, scans with and without the finding, curves."""

    ink: str
    faint: str
    present: str
    absent: str
    curve: str


STAND_INS = Colours("#010101", "#020202", "#030303", "#040404", "#050505")
"""They become CSS variables of the page: one picture serves light, dark and print."""
VARIABLES = dict(zip(("#010101", "#020202", "#030303", "#040404", "#050505"),
                     ("--ink", "--line", "--with", "--without", "--accent"), strict=True))  # fmt: skip
PAPER = Colours("#1b1f24", "#c9c7c1", "#c2500a", "#00639c", "#00639c")
"""The page's light colours, for files: orange and blue, told apart by colour-blind readers too."""

SIZE_IN = (4.0, 3.5)
DASHES = (0, (4, 3))


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure that can be drawn for the page and for files.

    Attributes:
        name: For file names.
        title: Over the figure, in English.
        description: For screen readers, in English.
        numbers: What is drawn, one row a point.
        draw: Draws it in these colours and this language.
    """

    name: str
    title: str
    description: str
    numbers: pd.DataFrame
    draw: Callable[[Colours, Say], Figure]


def page_svg(drawing: Drawing, say: Say) -> str:
    """The figure's <svg>, scaled and coloured by the page, without anything that would clash with a second one."""
    with styled(STAND_INS):
        text = _svg(drawing.draw(STAND_INS, say))
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    label = say(drawing.description).replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return text.replace("<svg", f'<svg role="img" aria-label="{label}"', 1).strip()


def save(drawings: Mapping[str, Iterable[Drawing]], folder: Path, say: Say) -> list[str]:
    """Write every figure as PNG (300 dpi) and SVG and its numbers as CSV; return the file names without suffix.

    Args:
        drawings: Finding -> its figures.
        folder: Where to write; files of other names stay.
        say: The language of the labels.
    """
    names = []
    for number, (finding, figures) in enumerate(drawings.items(), 1):
        safe = re.sub(r"[^\w.-]+", "_", finding).strip("._")[:40] or "finding"
        for drawing in figures:
            name = f"{number:02}_{safe}_{drawing.name}"
            with styled(PAPER):
                figure = drawing.draw(PAPER, say)
                for suffix in ("png", "svg"):
                    with replacing(folder / f"{name}.{suffix}") as temporary:
                        figure.savefig(temporary, format=suffix, dpi=300, facecolor="white", metadata=NO_DATE[suffix])
            write_table(folder / f"{name}.csv", drawing.numbers, float_format="%.6g")
            names.append(name)
    return names


OWN = re.compile(
    r"\d\d_[\w.-]+_(roc|precision_recall|probabilities|reliability|decision_curve|referral|subgroups|robustness)"
    r"\.(png|svg|csv)"
)
"""Names of the files that `save` writes."""


def clear(folder: Path, keep: Collection[str] = ()) -> int:
    """Remove the figures of an earlier report, and the folder when nothing else is in it; how many files went.

    Args:
        folder: Where `save` wrote; files of other names stay.
        keep: Names without suffix that stay, too.
    """
    old = [path for path in folder.glob("*") if OWN.fullmatch(path.name) and path.stem not in keep]
    for path in old:
        path.unlink()
    if old and not any(folder.iterdir()):
        folder.rmdir()
    return len(old)


NO_DATE: dict[str, dict[str, Any]] = {"png": {}, "svg": {"Date": None}}
"""The same numbers give the same bytes."""


def styled(colours: Colours) -> AbstractContextManager[None]:
    """Matplotlib's settings while a figure is drawn and saved."""
    ink, faint = colours.ink, colours.faint
    style: dict[str, Any] = {
        "svg.fonttype": "none", "svg.hashsalt": "scanline", "font.size": 10, "text.color": ink,
        "axes.edgecolor": faint, "axes.labelcolor": ink, "xtick.color": ink, "ytick.color": ink,
        "xtick.major.size": 0, "ytick.major.size": 0, "axes.spines.top": False, "axes.spines.right": False,
        "axes.axisbelow": True, "axes.grid": True, "grid.color": faint, "grid.linewidth": 0.6,
        "figure.facecolor": "none", "axes.facecolor": "none", "axes.linewidth": 0.8, "lines.solid_capstyle": "round",
    }  # fmt: skip
    return mpl.rc_context(style)  # type: ignore[arg-type]  # matplotlib types the keys as one long Literal


def plane(x_label: str, y_label: str, size_in: tuple[float, float] = SIZE_IN) -> tuple[Figure, Axes]:
    """A figure with one pair of axes."""
    figure = Figure(figsize=size_in, layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.grid(axis="x", visible=False)
    return figure, axes


def square(x_label: str, y_label: str) -> tuple[Figure, Axes]:
    """Axes that both run from 0 to 1."""
    figure, axes = plane(x_label, y_label)
    ticks = [0, 0.25, 0.5, 0.75, 1]
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.04), xticks=ticks, yticks=ticks)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:g}")
    return figure, axes


def shortened(name: str, longest: int = 24) -> str:
    """A name that fits into a figure."""
    return name if len(name) <= longest else f"{name[: longest - 1]}…"


def frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Rows of evaluation.json as a table; null is empty."""
    return pd.DataFrame(list(rows)).astype(float)


def _svg(figure: Figure) -> str:
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
    return re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
