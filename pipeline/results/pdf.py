"""report.pdf: the same answer, figures and tables on A4 pages, drawn by matplotlib alone."""

import io
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_pdf import PdfPages
from matplotlib.figure import Figure
from matplotlib.image import imread
from numpy.typing import NDArray

from pipeline.files import replacing
from pipeline.results import tables, words
from pipeline.results.drawing import PAPER, Drawing, Say, styled
from pipeline.results.report import METHODS, Report, answer, level_of, title

A4_IN = (8.27, 11.69)
MARGIN_IN, LINE_IN = 0.8, 0.19
LETTERS = 98
"""Letters of the body text that fit into a line."""
PER_ROW, WIDE = 2, ("subgroups",)
DPI = 250


def write_pdf(path: Path, report: Report) -> None:
    """Write the report as PDF, atomically; the same numbers give the same bytes."""
    numbers, say = report.evaluation[report.split], report.say
    about = {"CreationDate": None, "Title": report.name}
    with replacing(path) as temporary, styled(PAPER), PdfPages(temporary, metadata=about) as file:
        pages = _Pages(file)
        pages.text(f"{report.name} · {say('Research use only. Not a medical device.')}", colour=PAPER.present)
        pages.text(f"{report.split} · {say(words.population(numbers, report.split))}")
        pages.text(say(title(numbers)), size=17, letters=56)
        for sentence in answer(numbers):
            pages.text(say(sentence), size=11, letters=84)
        head = ["", say("Value"), say(f"{words.percent(level_of(numbers))} interval")]
        pages.table(head, [[say(r.name), r.value, say(r.interval)] for r in tables.tiles(numbers)])
        for caution in (*report.notes, *words.cautions(numbers, report.split)):
            pages.text(f"• {say(caution)}", size=9)
        for finding in numbers["findings"]:
            _finding(pages, report, finding, head)
        _cohort(pages, report)
        pages.heading(say("How the numbers were made"))
        for sentence in METHODS:
            pages.text(say(sentence), size=9)
        pages.close()


def _finding(pages: "_Pages", report: Report, finding: str, head: Sequence[str]) -> None:
    numbers, say = report.evaluation[report.split], report.say
    pages.heading(finding)
    for sentence in (*words.answer(numbers, finding), *words.consequences(numbers["findings"][finding])):
        pages.text(say(sentence), size=9)
    pages.pictures(report.drawings.get(finding, ()), say)
    rows = tables.finding_rows(numbers["findings"][finding])
    pages.table(head, [[say(r.name), r.value, say(r.interval)] for r in rows])
    for column, groups in tables.group_rows(numbers["subgroups"], finding):
        pages.table(
            [say(column), say("Scans"), "AUROC"],
            [[say(g.value), str(g.scans), f"{g.auroc.value} ({say(g.auroc.interval)})"] for g in groups],
        )


def _cohort(pages: "_Pages", report: Report) -> None:
    say = report.say
    pages.heading(say("Cohort"))
    if report.flow is not None:
        found, predicted = report.flow.found, report.flow.predicted
        pages.text(f"{found:,} {say('scan found' if found == 1 else 'scans found')}")
        for reason, n in report.flow.left_out.items():
            pages.text(f"– {n:,}: {say(reason)}", size=9)
        pages.text(f"{predicted:,} {say('scan with a prediction' if predicted == 1 else 'scans with a prediction')}")
    names, sections = report.table_one
    for heading, rows in sections:
        pages.table([say(heading), *map(say, names)], [[say(name), *map(say, cells)] for name, cells in rows])
    pages.heading(say("Settings and sources"))
    for key, value in report.facts.items():
        pages.text(f"{key}: {value}", size=8)


class _Pages:
    """A4 pages that fill from the top; `top` is the free height in inches."""

    def __init__(self, file: PdfPages) -> None:
        self._file = file
        self._page: Figure | None = None
        self._top = 0.0

    def close(self) -> None:
        """Write the page that is being filled."""
        if self._page is not None:
            self._file.savefig(self._page)  # type: ignore[no-untyped-call]  # matplotlib's own gap
        self._page = None

    def heading(self, text: str) -> None:
        """A heading that does not stand alone at the foot of a page."""
        self._room(1.4)
        self._top -= 0.15
        self.text(text, size=13, letters=70)

    def text(self, text: str, size: float = 10, letters: int = 0, colour: str = PAPER.ink) -> None:
        """A paragraph; text from a table is never read as a formula."""
        for line in textwrap.wrap(text, letters or int(LETTERS * 10 / size)):
            step = LINE_IN * size / 10
            page = self._room(step)
            page.text(
                MARGIN_IN / A4_IN[0], self._top / A4_IN[1], line, fontsize=size, va="top", color=colour,
                parse_math=False,
            )  # fmt: skip
            self._top -= step
        self._top -= 0.06

    def table(self, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Rows under a head, the first column as wide as two others."""
        width = (A4_IN[0] - 2 * MARGIN_IN) / (len(head) + 1)
        fits = max(8, int(width * 14))
        for k, cells in enumerate([head, *rows]):
            lines = [textwrap.wrap(cell, fits * (2 if c == 0 else 1)) or [""] for c, cell in enumerate(cells)]
            height = 0.06 + 0.15 * max(map(len, lines))
            page = self._room(height)
            for c, cell in enumerate(lines):
                x = MARGIN_IN + (0 if c == 0 else width * (c + 1))
                page.text(x / A4_IN[0], self._top / A4_IN[1], "\n".join(cell), fontsize=8, va="top", parse_math=False,
                          fontweight="bold" if k == 0 else "normal")  # fmt: skip
            self._top -= height
        self._top -= 0.12

    def pictures(self, drawings: Sequence[Drawing], say: Say) -> None:
        """Figures, two in a row; a wide one takes a row of its own."""
        full = A4_IN[0] - 2 * MARGIN_IN
        rows: list[list[Drawing]] = []
        for drawing in drawings:
            wide = drawing.name in WIDE
            if wide or not rows or len(rows[-1]) == PER_ROW or rows[-1][0].name in WIDE:
                rows.append([])
            rows[-1].append(drawing)
        for row in rows:
            width = full if row[0].name in WIDE else full / PER_ROW
            pictures = [(drawing, *_picture(drawing, say)) for drawing in row]
            height = width * max(ratio for _, _, ratio in pictures)
            page = self._room(height + 0.35)
            for k, (drawing, pixels, ratio) in enumerate(pictures):
                x = (MARGIN_IN + k * width) / A4_IN[0]
                page.text(x, self._top / A4_IN[1], say(drawing.title), fontsize=8.5, va="top", fontweight="bold")
                bottom = (self._top - 0.2 - 0.97 * width * ratio) / A4_IN[1]
                size = 0.97 * width / A4_IN[0], 0.97 * width * ratio / A4_IN[1]
                axes = page.add_axes((x, bottom, *size))
                axes.imshow(pixels, aspect="auto", interpolation="none")
                axes.axis("off")
            self._top -= height + 0.35

    def _room(self, height: float) -> Figure:
        """A page with this much room left."""
        if self._page is None or self._top - height < MARGIN_IN:
            self.close()
            self._page, self._top = Figure(figsize=A4_IN), A4_IN[1] - MARGIN_IN
        return self._page


def _picture(drawing: Drawing, say: Say) -> tuple[NDArray[Any], float]:
    """Pixels of a figure, and its height as a share of its width."""
    stream = io.BytesIO()
    figure = drawing.draw(PAPER, say)
    figure.savefig(stream, format="png", dpi=DPI, facecolor="white")
    width, height = figure.get_size_inches()
    return imread(io.BytesIO(stream.getvalue())), height / width
