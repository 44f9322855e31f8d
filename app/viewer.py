"""The viewer's page: choose a scan, look at it, at what the model says, and at where it looked. A Streamlit script."""

import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from app import display, panels, session
from app.session import OpenScan, OpenScans, Settings
from pipeline.domain import Prediction, Rejection, ScanError, UsageError
from pipeline.model.package import Model

Opener = Callable[[], OpenScan]
Heat = NDArray[np.uint8]

STYLE = Path(__file__).parent / "style.css"
FAULT = "A fault of this viewer. The terminal shows where; please report that line, it holds no patient data."


@contextmanager
def told() -> Iterator[None]:
    """Turn every error into words on the page: never a traceback, never a text that could quote a patient's header."""
    try:
        yield
    except ScanError as error:
        st.html(panels.alert(panels.refusal_words(error)))
    except UsageError as error:
        st.html(panels.alert(str(error)))
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)[-3:]
        where = " < ".join(f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in reversed(frames))
        sys.stderr.write(f"fault: {type(error).__name__} at {where}\n")
        st.html(panels.alert(FAULT))


def page() -> None:
    """The whole page."""
    st.set_page_config(page_title="Scan viewer", page_icon=display.icon(), layout="wide", initial_sidebar_state=320)
    st.html(STYLE)
    top, bottom = st.empty(), st.empty()
    top.html(panels.empty_banner())
    bottom.html(panels.footer(""))
    with told():
        settings = session.parse_settings(tuple(sys.argv[1:]))
        with st.spinner("Loading the model"):
            model = session.the_model(settings.model)
        bottom.html(panels.footer(model.model_id))
        if settings.hide_identity:
            st.html(panels.NAMELESS_UPLOAD)
        with st.sidebar:
            opener = choose(settings, model)
        if opener is None:
            st.info("Choose a scan on the left, or upload one.", icon=":material/arrow_back:")
        else:
            with st.spinner("Reading the scan"):
                scan = opener()
            review(model, scan)
            # The name comes after its picture: at no moment does it stand above the picture of the patient before.
            top.html(panels.banner(scan.identity, settings.hide_identity))


def choose(settings: Settings, model: Model) -> Opener | None:
    """The sidebar: what opens the chosen or uploaded scan, None while there is none."""
    opened = st.session_state.setdefault("opened", OpenScans())
    source = st.segmented_control("Scans", ["Folder", "Upload"], default="Folder", required=True, key="source")
    return choose_upload(model, opened) if source == "Upload" else choose_from_folder(settings, model, opened)


def choose_upload(model: Model, opened: OpenScans) -> Opener | None:
    """A file from the reader's own disk; it stays in this browser tab's memory."""
    what = "One file: NIfTI, PNG, JPEG, TIFF or a single DICOM image"
    file = st.file_uploader(what, type=list(session.UPLOAD_TYPES), key="upload")
    if file is None:
        return None
    return lambda: opened.get(file.file_id, lambda: session.open_upload(model, file.file_id, file.getvalue()))


def choose_from_folder(settings: Settings, model: Model, opened: OpenScans) -> Opener | None:
    """A scan of the folder; the refused ones are listed below with their reasons."""
    with st.spinner("Looking for scans"):
        scans, rejections, others = session.the_scans(settings.scans, model.read_rules)
    numbered = {scan.scan_id: (scan, number) for number, scan in enumerate(scans, 1)}

    def label(scan_id: str) -> str:
        return panels.scan_label(*numbered[scan_id], settings.scans, settings.hide_identity)

    chosen = st.selectbox(
        "Scan", list(numbered), index=None, format_func=label, placeholder="Choose a scan", key="scan"
    )
    unchosen = [Rejection(one.scan.path, one.reason, one.detail) for one in others]
    count = len(scans) + len(rejections) + len(others)
    left_out(settings, rejections, "Refused scan", f"{len(rejections)} of {count} scans were refused")
    left_out(settings, unchosen, "Other scan", f"{len(unchosen)} of {count} scans were not selected")
    st.button("Look again", on_click=session.the_scans.cache_clear, icon=":material/refresh:", key="again")
    if chosen is None:
        return None
    return lambda: opened.get(chosen, lambda: session.open_scan(model, numbered[chosen][0]))


def left_out(settings: Settings, scans: list[Rejection], nameless: str, title: str) -> None:
    """A list of scans that can't be chosen, with the reason for each; nothing where there are none."""
    if scans:
        items = (
            panels.rejection_item(one, number, settings.scans, settings.hide_identity, nameless)
            for number, one in enumerate(scans, 1)
        )
        with st.expander(title):
            st.html("".join(items))


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
    if not isinstance(scan.result, Prediction) or not st.toggle("Show where the model looked", key="overlay"):
        return None, 0.0
    finding = model.findings[0]
    if len(model.findings) > 1:
        finding = st.selectbox("Finding", model.findings, key="finding")
    opacity = st.slider("Opacity of the overlay", 0.0, 1.0, 0.5, 0.05, key="opacity")
    with st.spinner("Computing Grad-CAM"):
        heat = session.heat_map(model, scan, finding)
    if not heat.any():
        st.info("Grad-CAM found no region that speaks for this finding.", icon=":material/visibility_off:")
        return None, 0.0
    if heat.shape[axis] > 1:
        hottest = display.peak(heat, axis) + 1
        label = f"Go to the hottest slice ({hottest})"
        st.button(label, on_click=_set_state, args=(slice_key(scan, axis), hottest), key=f"hottest-{scan.key}")
    st.caption("Grad-CAM: bright regions speak for the finding. A hint, not an outline.")
    return heat, opacity


def slice_key(scan: OpenScan, axis: int) -> str:
    """Where the page's state keeps the slice number of a scan and plane; opaque, as all keys."""
    return f"slice-{axis}-{scan.key}"


def _set_state(key: str, value: int) -> None:
    st.session_state[key] = value


page()
