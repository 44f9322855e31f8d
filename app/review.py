"""The review of one scan: the slice canvas, the model's result beside it, and what may stand beside both."""

from dataclasses import dataclass

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from app import opening, panels, result_panel, session
from app.canvas import slice_canvas
from app.canvas.wire import pack_heat, pack_volume, turning
from app.catalog import the_catalog
from app.controls import choose_finding
from app.evidence import evidence_curve
from app.export_panel import export_panel
from app.faults import told
from app.language import Words, spoken
from app.map_panel import map_words
from app.opinion_panel import opinion_panel
from app.panels import readable_date
from app.related import earlier_studies, other_views
from app.session import OpenScan
from app.settings import the_settings
from app.similar_panel import similar_panel
from app.volumes import Shelf
from pipeline.domain import Prediction
from pipeline.model.package import Model


@dataclass(frozen=True)
class Layer:
    """What lies over a scan: a finding's heat map as uint8 [i, j, k] on its voxels, a number for each axial slice."""

    finding: str = ""
    heat: NDArray[np.uint8] | None = None
    curve: list[float] | None = None


@st.fragment
def review(model: Model, scan: OpenScan) -> None:
    """The picture, the result and their controls; a fragment, so that a control runs nothing else of the page."""
    with told():
        words = spoken()
        left, right = st.columns([5, 2], gap="medium")
        with right:
            results(words, model, scan)
            layer, beside = Layer(), None
            with told():  # a map or a neighbour that is refused takes nothing else from the page
                layer = choose_layer(words, model, scan)
            with told():
                beside = choose_beside(words, model, scan)
            with told():
                similar_panel(words, model, scan, the_settings().run)
            remarks(words, model, scan)
        with left, st.container(key="picture"):
            if beside is None:
                if view := panels.view_words(words, scan.view, scan.side):
                    st.html(panels.caption(view))
                show(words, scan, layer)
            else:
                show_both(words, scan, layer, beside)
        with right:  # after the canvas, which tells the marked point
            opinion_panel(model, scan, marked_point(scan.key))
            export_panel(model, scan, marked_point(scan.key))


def results(words: Words, model: Model, scan: OpenScan) -> None:
    """What to mind, then what the model says."""
    for sentence in panels.warnings(words, scan.result, scan.about):
        st.warning(sentence, icon=":material/warning:")
    if isinstance(scan.result, Prediction):
        cards = [result_panel.result_card(words, model, scan.result, finding) for finding in model.findings]
        st.html("".join(cards))
    else:
        refusal = panels.refusal_words(words, scan.result)
        st.html(panels.alert(f"{words('result.no_prediction')} {refusal}"))


def remarks(words: Words, model: Model, scan: OpenScan) -> None:
    """How sure the model is, what it is for, which model it was, and what it is not."""
    if isinstance(scan.result, Prediction):
        st.caption(" ".join(result_panel.doubts(words, scan.result, len(model.networks))))
    if model.intended_use:
        st.html(panels.purpose(words, model.intended_use))
    st.html(result_panel.signature(words, model))


def choose_layer(words: Words, model: Model, scan: OpenScan) -> Layer:
    """The heat map of a finding and its evidence curve, where the reader asks for them."""
    if not isinstance(scan.result, Prediction) or not st.toggle(words("review.overlay"), key="overlay"):
        return Layer()
    finding = choose_finding(words("review.finding"), model, "finding")
    trust_words(words, model)
    with st.spinner(words("review.computing")):
        heat = session.heat_map(model, scan, finding)
        curve = evidence_curve(model, scan, finding)
    if not heat.any():
        st.info(words("review.no_region"), icon=":material/visibility_off:")
        return Layer(curve=curve)
    return Layer(finding, heat, curve)


def trust_words(words: Words, model: Model) -> None:
    """How the maps are made, and in plain sight whether they are to be trusted."""
    about = map_words(words, model)
    said = [about.made, words("review.hint")]
    if about.trusted:
        st.caption(" ".join([*said, about.verdict]), help=about.measured)
    else:
        st.warning(f"{about.verdict} {about.measured}", icon=":material/warning:")
        st.caption(" ".join(said))


def choose_beside(words: Words, model: Model, scan: OpenScan) -> OpenScan | None:
    """Another view of the study or an earlier study of the patient, opened; None where there is none or none is wanted.

    The second view of a radiograph stands beside the first from the start: they are read together.
    """
    settings = the_settings()
    catalog = the_catalog(settings.scans, model.read_rules, settings.query).result()
    if catalog is None:
        return None
    scans = catalog.found.scans
    every = [*scans, *(one.scan for one in catalog.found.not_selected)]
    current = next((one for one in every if one.scan_id == scan.key), None)
    if current is None:
        return None
    views, earlier = other_views(every, current), earlier_studies(scans, current)
    labels = {}
    for n, one in enumerate(views, 1):
        view = panels.view_words(words, one.view, one.side)
        labels[one.scan_id] = " · ".join(filter(None, [words("review.other_view", number=n), view]))
    for n, one in enumerate(earlier, 1):
        labels[one.scan_id] = words("review.earlier", when=n if settings.hide_identity else readable_date(one.acquired))
    if not labels:
        return None
    chosen = st.selectbox(
        words("review.beside"), ["", *labels], index=1 if views else 0, key=f"beside-{scan.key}",
        format_func=lambda key: labels.get(key, words("review.nothing_beside")),
    )  # fmt: skip
    if not chosen:
        return None
    with st.spinner(words("review.reading")):
        return opening.beside(settings, model, next(one for one in every if one.scan_id == chosen))


def show_both(words: Words, scan: OpenScan, layer: Layer, other: OpenScan) -> None:
    """The scan and another one, each with its own canvas, the other one with its probability."""
    first, second = st.columns(2, gap="small")
    with first:
        st.html(panels.caption(*_which(words, scan), words("review.this_scan")))
        show(words, scan, layer, compact=True)
    with second:
        probabilities = other.result.probabilities if isinstance(other.result, Prediction) else {}
        said = [f"{finding} {panels.percent(p)}" for finding, p in probabilities.items()]
        st.html(panels.caption(*_which(words, other), *(said or [words("result.no_prediction")])))
        show(words, other, Layer(), compact=True)


def _which(words: Words, scan: OpenScan) -> tuple[str, str]:
    """What tells a scan from the one beside it: its view, and the study's date where that may be shown."""
    date = "" if the_settings().hide_identity else readable_date(scan.identity.study_date)
    return panels.view_words(words, scan.view, scan.side), date


def show(words: Words, scan: OpenScan, layer: Layer, compact: bool = False) -> None:
    """The slice canvas of a scan; keeps the point that the reader marks on it (`marked_point`)."""
    heat = layer.heat
    described = _shelf("volumes", session.OPEN_SCANS).offer(
        scan.number, lambda: pack_volume(scan.volume, scan.has_frame, lambda: scan.volume)
    )
    warm = None
    if heat is not None:
        shelf = _shelf("heat-maps", session.HEAT_MAPS)
        warm = shelf.offer((scan.number, layer.finding), lambda: pack_heat(heat))
    data: dict[str, object] = {
        "volume": described, "heat": warm, "curve": layer.curve, "compact": compact,
        "words": words.section("canvas"), "windows": [
            {"name": one.name, "label": words(f"canvas.window_{one.key}"), "low": one.low, "high": one.high}
            for one in scan.windows
        ],
    }  # fmt: skip
    point = slice_canvas(data, f"canvas-{scan.key}", on_point=lambda: None)
    if point is not None:
        i, j, k, _ = turning(scan.about.shape) @ [*point, 1]
        st.session_state[f"point-{scan.key}"] = (int(i), int(j), int(k))


def marked_point(key: str) -> tuple[int, int, int] | None:
    """Voxel [i, j, k] that the reader marked on the open scan of this key; None while there is none."""
    point: tuple[int, int, int] | None = st.session_state.get(f"point-{key}")
    return point


def _shelf(name: str, limit: int) -> Shelf:
    shelf: Shelf = st.session_state.setdefault(f"shelf-{name}", Shelf(limit))
    return shelf
