"""The viewer's page: entry, identity banner, navigation; each page is in a file of its own. A Streamlit script."""

from collections.abc import Callable
from pathlib import Path

import streamlit as st

from app import display, opening, panels, performance, reader, session, uploads, worklist
from app.faults import told
from app.language import CHOSEN, LANGUAGES, spoken
from app.review import review
from app.settings import Settings, the_settings
from pipeline.model.package import Model

STYLE = Path(__file__).parent / "style.css"
PAGES = ("worklist", "scan", "upload", "performance")
# What outlives a page on which its control is not drawn: these keys of the page's state, and all that begin "kept.".
KEPT = ("page", CHOSEN, "reader")


def page() -> None:
    """The whole page."""
    st.set_page_config(page_title="Scan viewer", page_icon=display.icon(), layout="wide")
    st.html(STYLE)
    _keep_state()
    top, bottom = st.empty(), st.empty()
    top.html(panels.empty_banner(spoken()))
    bottom.html(panels.footer(spoken(), ""))
    with told():
        settings = the_settings()
        with st.spinner(spoken()("shell.loading_model")):
            model = session.the_model(settings.model)
        bottom.html(panels.footer(spoken(), model.model_id))
        if settings.login and not reader.signed_in():
            return
        chosen = navigation(settings)
        if chosen == "worklist":
            worklist.page(settings, model)
        elif chosen == "upload":
            uploads.page(settings, model)
        elif chosen == "performance":
            performance.page(settings, model)
        else:
            scan_page(settings, model, top.html)


def navigation(settings: Settings) -> str:
    """The page that the reader has chosen: a row of pages, the language, and who is reading."""
    words = spoken()
    with st.container(
        horizontal=True, horizontal_alignment="distribute", vertical_alignment="center", key="navigation"
    ):
        chosen = st.segmented_control(
            words("shell.pages"), PAGES, required=True, key="page", label_visibility="collapsed",
            format_func=lambda name: words(f"shell.{name}"),
        )  # fmt: skip
        with st.container(horizontal=True, width="content", vertical_alignment="center", key="about"):
            reader.introduction(settings)
            st.selectbox(
                words("shell.language"), list(LANGUAGES), key=CHOSEN, format_func=LANGUAGES.__getitem__,
                label_visibility="collapsed", width=130,
            )  # fmt: skip
    return str(chosen)


def scan_page(settings: Settings, model: Model, set_banner: Callable[[str], object]) -> None:
    """The open scan; the audit log learns of it before it is shown."""
    words = spoken()
    opener = opening.opener(settings, model)
    if opener is None:
        st.info(words("shell.choose"), icon=":material/arrow_upward:")
        return
    opening.steps()
    with st.spinner(words("review.reading")):
        scan = opener()
    opening.record(settings, model, scan)
    review(model, scan)
    # The name comes after its picture: at no moment does it stand above the picture of the patient before.
    set_banner(panels.banner(words, scan.identity, settings.hide_identity))


def _keep_state() -> None:
    """Streamlit forgets the state of controls that a run does not draw; a reader who comes back finds it again."""
    st.session_state.setdefault("page", PAGES[0])
    if opening.TURN in st.session_state:
        st.session_state["page"] = st.session_state.pop(opening.TURN)
    for key in map(str, list(st.session_state)):
        if key in KEPT or key.startswith("kept."):
            st.session_state[key] = st.session_state[key]


page()
