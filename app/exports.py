"""A case on one page (PDF or PNG) and its heat map as NIfTI, made in memory; file names tell nothing of the patient."""

import gzip
import io
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import nibabel as nib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from app import display, panels
from app.display import View, Window
from app.language import Words
from app.map_panel import map_words
from app.result_panel import doubts, point_words
from app.session import OpenScan
from pipeline.domain import Prediction
from pipeline.explanation.gradcam import way_of
from pipeline.explanation.trust import map_note, map_trust, verdict
from pipeline.model.package import Model
from pipeline.results.heat import key_voxel

Heat: TypeAlias = NDArray[np.uint8]
PAGE_IN = (8.27, 11.69)
DPI = 150
INK, SOFT, WARM = "#1b1f24", "#5a6672", "#b14a00"
LINE_IN = 0.19


@dataclass(frozen=True, slots=True)
class Case:
    """What goes on the page.

    Attributes:
        voxel: Where the three planes meet, (i, j, k).
        heat: The finding's map; None leaves the second row of pictures out.
        with_identity: Whether name, ID and dates stand on the page.
    """

    model: Model
    scan: OpenScan
    finding: str
    window: Window
    voxel: tuple[int, int, int]
    heat: Heat | None = None
    with_identity: bool = False


def case_page(case: Case, words: Words, form: Literal["pdf", "png"]) -> bytes:
    """The page as a file; the same case gives the same bytes."""
    stream = io.BytesIO()
    metadata = {"CreationDate": None, "Title": words("result.research_only")} if form == "pdf" else {}
    _drawn(case, words).savefig(stream, format=form, dpi=DPI, facecolor="white", metadata=metadata)
    return stream.getvalue()


def heat_nifti(heat: Heat, model: Model, scan: OpenScan) -> bytes:
    """The map, 0 to 1 on the scan's own grid and affine, as .nii.gz: 8 bits a voxel, scaled by the header.

    The header says how it was made and whether the model's maps passed their checks.
    """
    way = way_of(model)
    trusted, _ = verdict(map_trust(model.folder), way.method, way.layer)
    picture = nib.Nifti1Image(heat, scan.about.affine)
    picture.header.set_slope_inter(1 / 255, 0)
    picture.header.set_xyzt_units("mm")
    picture.header["descrip"] = map_note(trusted, way.method, way.layer).encode()[:79]
    return gzip.compress(picture.to_bytes(), compresslevel=1, mtime=0)


def file_name(scan: OpenScan, finding: str, ending: str) -> str:
    """`<scan id>_<finding>.<ending>`: opaque, whatever the scan's own file was called."""
    safe = re.sub(r"[^\w.=+-]+", "_", f"{scan.key}_{finding}", flags=re.ASCII).strip("._")
    return f"{safe[:120]}.{ending}"


def meeting_point(scan: OpenScan, heat: Heat | None) -> tuple[int, int, int]:
    """The middle of the map's hottest voxels; the middle of the volume where there is no map."""
    if heat is not None:
        return key_voxel(heat)
    i, j, k = (n // 2 for n in scan.about.shape)
    return i, j, k


def _drawn(case: Case, words: Words) -> Figure:
    figure = Figure(figsize=PAGE_IN)
    top = _write(figure, PAGE_IN[1] - 0.6, [words("result.research_only")], size=10, colour=WARM)
    top = _write(figure, top, [words("export.title", finding=case.finding)], size=17)
    top = _write(figure, top - 0.05, _who(case, words), size=9, colour=SOFT)
    top = _write(figure, top - 0.1, _result(case, words), size=11)
    top = _write(figure, top - 0.05, _cautions(case, words), size=9, colour=WARM)
    top = _pictures(figure, top - 0.15, case, None)
    if case.heat is not None:
        top = _pictures(figure, top, case, case.heat)
        about = map_words(words, case.model)
        top = _write(figure, top, [f"{about.made} {words('review.hint')}"], size=8, colour=SOFT)
        top = _write(figure, top, [f"{about.verdict} {about.measured}"], size=8, colour=SOFT if about.trusted else WARM)
    _write(figure, 0.75, [words("result.model", model=case.model.model_id)], size=8, colour=SOFT)
    return figure


def _who(case: Case, words: Words) -> list[str]:
    view = panels.view_words(words, case.scan.view, case.scan.side)
    lines = [" · ".join(filter(None, [words("export.scan", scan=case.scan.key), view]))]
    if case.with_identity:
        who = case.scan.identity
        fields = (panels.readable_name(who.patient_name), who.patient_id,
                  panels.readable_date(who.birth_date), panels.readable_date(who.study_date))  # fmt: skip
        lines.append(" · ".join(filter(None, fields)) or words("shell.unknown_hint"))
    return lines


def _result(case: Case, words: Words) -> list[str]:
    said = case.scan.result
    if not isinstance(said, Prediction):
        return [words("result.no_prediction"), panels.refusal_words(words, said)]
    calls = {True: words("result.positive"), False: words("result.negative")}
    lines = []
    for finding, p in said.probabilities.items():
        number = words("result.calibrated", number=panels.number(p))
        call = f"  ·  {calls[said.positive[finding]]}" if finding in said.positive else ""
        lines.append(f"{finding}: {panels.percent(p)} ({number}){call}")
    point = case.model.operating_points.get(case.finding)
    return [*lines, point_words(words, point), *doubts(words, said, len(case.model.networks))]


def _cautions(case: Case, words: Words) -> list[str]:
    return panels.warnings(words, case.scan.result, case.scan.about)


def _write(figure: Figure, top: float, lines: Sequence[str], size: float, colour: str = INK) -> float:
    """Lines of text from `top` inches downwards; where the next may begin. Text is never read as a formula.

    Without ligatures: an id with "ff" in it must be found and copied as it is.
    """
    letters = int(98 * 10 / size)
    for line in (part for text in lines for part in textwrap.wrap(text, letters)):
        figure.text(
            0.08, top / PAGE_IN[1], line, fontsize=size, va="top", color=colour, parse_math=False,
            family="DejaVu Sans", fontfeatures=("-liga",),
        )  # fmt: skip
        top -= LINE_IN * size / 10
    return top


def _pictures(figure: Figure, top: float, case: Case, heat: Heat | None) -> float:
    """A row of the planes that meet at the voxel; where the next row may begin."""
    volume = case.scan.volume
    axes = display.planes(volume)
    side = (PAGE_IN[0] * 0.84 - 0.1 * 2) / 3 if len(axes) == 3 else 3.4
    for number, axis in enumerate(axes):
        view = View(axis, case.voxel[axis], case.window, case.scan.has_frame)
        pixels = np.asarray(display.render(volume, view, heat, 0.5))
        left = PAGE_IN[0] * 0.08 + number * (side + 0.1)
        place = figure.add_axes((left / PAGE_IN[0], (top - side) / PAGE_IN[1], side / PAGE_IN[0], side / PAGE_IN[1]))
        place.imshow(pixels, interpolation="none")
        place.axis("off")
    return top - side - 0.12
