"""The review of one scan: the picture with its controls, the model's result beside it."""

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from app import display, panels, session
from app.faults import told
from app.language import spoken
from app.session import OpenScan
from pipeline.domain import Prediction
from pipeline.model.package import Model

Heat = NDArray[np.uint8]


def results(model: Model, scan: OpenScan) -> None:
    """What the model says, how sure it is, and what to mind."""
    if isinstance(scan.result, Prediction):
        cards = [panels.result_card(f, scan.result, model.operating_points.get(f)) for f in model.findings]
        st.html("".join(cards))
        st.caption(" ".join(panels.doubts(scan.result, len(model.networks))))
    else:
        st.html(panels.alert(f"The model makes no prediction. {panels.refusal_words(scan.result)}"))
    for sentence in panels.warnings(scan.result, scan.volume):
        st.warning(sentence, icon=":material/warning:")
    if model.intended_use:
        st.html(panels.purpose(model.intended_use))


@st.fragment
def review(model: Model, scan: OpenScan) -> None:
    """The picture with its controls, the result beside it; a fragment, so that leafing through runs nothing else."""
    with told():
        left, right = st.columns([7, 3], gap="small")
        with left:
            window, axis = choose_view(scan)
            place = st.empty()
        with right:
            results(model, scan)
            heat, opacity = choose_overlay(model, scan, axis)
        with left:
            view = display.View(axis, choose_slice(scan, axis), window, scan.has_frame)
        place.image(display.render(scan.volume, view, heat, opacity), width="stretch", output_format="PNG")


def choose_view(scan: OpenScan) -> tuple[display.Window, int]:
    """Window preset and plane; a volume of one slice has one plane only."""
    presets = {window.name: window for window in scan.windows}
    axes = display.planes(scan.volume)
    with st.container(horizontal=True, horizontal_alignment="distribute"):
        name = st.segmented_control(
            "Window", list(presets), default=next(iter(presets)), required=True, key=f"window-{scan.key}",
            help="Model: the intensities that the model itself sees.",
        )  # fmt: skip
        if len(axes) == 1:
            return presets[name], axes[0]
        names = display.PLANE_NAMES.__getitem__
        axis = st.segmented_control(
            "Plane", axes, default=axes[0], required=True, format_func=names, key=f"plane-{scan.key}"
        )
    return presets[name], axis


def choose_slice(scan: OpenScan, axis: int) -> int:
    """Index of the slice on show; the middle one at first."""
    slices = scan.volume.shape[axis]
    if slices == 1:
        return 0
    middle = slices // 2 + 1
    return st.slider("Slice", 1, slices, middle, key=slice_key(scan, axis), help="Arrow keys leaf through.") - 1


def choose_overlay(model: Model, scan: OpenScan, axis: int) -> tuple[Heat | None, float]:
    """The heat map to lay over the slice (None: none), and how opaque; a button leads to its hottest slice."""
    words = spoken()
    if not isinstance(scan.result, Prediction) or not st.toggle(words("review.overlay"), key="overlay"):
        return None, 0.0
    finding = model.findings[0]
    if len(model.findings) > 1:
        finding = st.selectbox(words("review.finding"), model.findings, key="finding")
    opacity = st.slider(words("review.opacity"), 0.0, 1.0, 0.5, 0.05, key="opacity")
    with st.spinner(words("review.computing")):
        heat = session.heat_map(model, scan, finding)
    if not heat.any():
        st.info(words("review.no_region"), icon=":material/visibility_off:")
        return None, 0.0
    if heat.shape[axis] > 1:
        hottest = display.peak(heat, axis) + 1
        label = words("review.hottest", number=hottest)
        st.button(label, on_click=_set_state, args=(slice_key(scan, axis), hottest), key=f"hottest-{scan.key}")
    st.caption(words("review.hint"))
    return heat, opacity


def slice_key(scan: OpenScan, axis: int) -> str:
    """Where the page's state keeps the slice number of a scan and plane; opaque, as all keys."""
    return f"slice-{axis}-{scan.key}"


def _set_state(key: str, value: int) -> None:
    st.session_state[key] = value
