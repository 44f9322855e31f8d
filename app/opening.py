"""Which scan is open in a browser tab, and the way to its neighbours in the worklist."""

from collections.abc import Callable

import streamlit as st

from app import audit_log, reader, session
from app.catalog import Score, the_catalog, the_scores
from app.language import spoken
from app.session import OpenScan, OpenScans
from app.settings import Settings
from pipeline.domain import Reason, Scan, ScanError
from pipeline.model.package import Model

Opener = Callable[[], OpenScan]
CHOSEN = "chosen_scan"
"""Where the page's state keeps the scan id of the chosen scan."""
UPLOADED = "uploaded"
"""Where it keeps what opens the uploaded scan, while that is the one on show."""
TURN = "turn_to"
"""Where it keeps the page to turn to in the next run, when this one has drawn the navigation."""
ORDER = "order"
"""Where it keeps the scan ids of the worklist as it was last shown."""


def show(scan_id: str) -> None:
    """Turn to the page of a scan of the folder."""
    st.session_state[CHOSEN] = scan_id
    st.session_state.pop(UPLOADED, None)
    st.session_state["page"] = "scan"


def show_upload(opener: Opener) -> None:
    """Turn to the page of a scan that was uploaded."""
    st.session_state[UPLOADED] = opener
    st.session_state.pop(CHOSEN, None)
    st.session_state[TURN] = "scan"


def opened() -> OpenScans:
    """The scans that this browser tab holds."""
    found: OpenScans = st.session_state.setdefault("opened", OpenScans())
    return found


def opener(settings: Settings, model: Model) -> Opener | None:
    """What opens the chosen scan, None while there is none."""
    if (uploaded := st.session_state.get(UPLOADED)) is not None:
        return uploaded  # type: ignore[no-any-return]
    chosen = st.session_state.get(CHOSEN)
    if chosen is None:
        return None
    return lambda: opened().get(chosen, lambda: _open(settings, model, chosen))


def _open(settings: Settings, model: Model, scan_id: str) -> OpenScan:
    job = the_catalog(settings.scans, model.read_rules, settings.query)
    job.wait(60)
    catalog = job.result()
    scan = catalog.scans.get(scan_id) if catalog is not None else None
    if scan is None:
        raise ScanError(Reason.IO_ERROR, spoken()("shell.vanished"))
    return session.open_scan(model, scan, known_scores(settings, model).get(scan_id))


def beside(settings: Settings, model: Model, scan: Scan) -> OpenScan:
    """A scan of the folder that is to stand beside the open one; the audit log learns of it, too."""
    found = opened().get(
        scan.scan_id, lambda: session.open_scan(model, scan, known_scores(settings, model).get(scan.scan_id))
    )
    record(settings, model, found, "recorded_beside")
    return found


def record(settings: Settings, model: Model, scan: OpenScan, place: str = "recorded") -> None:
    """One line in the audit log each time another scan comes on show.

    Args:
        settings: Where the log is.
        model: The viewer's.
        scan: What is about to be shown.
        place: Where on the page: each place has its own key of the page's state.

    Raises:
        UsageError: If the log can't be written: then the scan must not be shown.
    """
    if st.session_state.get(place) != scan.key:
        audit_log.record(settings.audit_file, "open", reader=reader.name(), scan=scan.key, model=model.model_id)
        st.session_state[place] = scan.key


def known_scores(settings: Settings, model: Model) -> dict[str, Score]:
    """Scan id -> what the model has said: here, else last night.

    Raises:
        UsageError: If --scores can't be used.
    """
    nightly = the_scores(settings.scores, model.model_id, model.findings)
    return nightly | session.the_scorer(settings.model).scores


def steps() -> None:
    """Buttons to the scans before and after this one, in the worklist's order."""
    order: list[str] = st.session_state.get(ORDER, [])
    chosen = st.session_state.get(CHOSEN)
    if chosen not in order or len(order) < 2:
        return
    at, words = order.index(chosen), spoken()
    with st.container(horizontal=True, vertical_alignment="center", key="steps"):
        for way, icon, to in (("previous", "chevron_left", at - 1), ("next", "chevron_right", at + 1)):
            there = 0 <= to < len(order)
            st.button(
                words(f"shell.{way}"), key=way, icon=f":material/{icon}:", disabled=not there, on_click=show,
                args=(order[to] if there else "",), icon_position="right" if way == "next" else "left",
            )  # fmt: skip
        st.markdown(f":gray[{words('shell.place', number=at + 1, count=len(order))}]")
