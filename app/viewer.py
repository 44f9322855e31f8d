"""The viewer's page: entry, identity banner, choice of a scan; the review of it is in review.py. A Streamlit script."""

import sys
from collections.abc import Callable
from pathlib import Path

import streamlit as st

from app import display, panels, session
from app.faults import told
from app.review import review
from app.session import OpenScan, OpenScans, Settings
from pipeline.domain import Rejection
from pipeline.model.package import Model

Opener = Callable[[], OpenScan]

STYLE = Path(__file__).parent / "style.css"


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


page()
