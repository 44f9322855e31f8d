"""The reader's opinion beside a scan: a verdict, a note, a point on the image; and what was said before."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import streamlit as st

from app import reader
from app.controls import choose_finding
from app.language import Words, spoken
from app.opinions import LONGEST_NOTE, VERDICTS, Opinion, the_opinions
from app.session import OpenScan
from app.settings import the_settings
from pipeline.domain import Prediction, UsageError
from pipeline.model.package import Model

SHOWN = 5
"""Earlier opinions of a scan that are listed."""


def opinion_panel(model: Model, scan: OpenScan, point: Sequence[int] | None = None) -> None:
    """Asks for the reader's opinion and lists those given before.

    Args:
        model: Whose answer it is about.
        scan: The open scan.
        point: The voxel (i, j, k) that the reader points at, None while there is none.
    """
    words = spoken()
    st.markdown(f"##### {words('opinion.title')}")
    finding = choose_finding(words("opinion.finding"), model, f"kept.about-{scan.key}")
    choice = st.segmented_control(
        words("opinion.title"), VERDICTS, key=_verdict_key(scan), label_visibility="collapsed",
        format_func=lambda name: words(f"opinion.{name}"),
    )  # fmt: skip
    st.text_area(
        words("opinion.note"), key=_note_key(scan), max_chars=LONGEST_NOTE, height=80, label_visibility="collapsed",
        placeholder=words("opinion.note_hint"),
    )  # fmt: skip
    pointed = _pointed(scan, point, words)
    st.button(
        words("opinion.save"), key=f"save-{scan.key}", type="primary", icon=":material/save:", width="stretch",
        disabled=choice is None, on_click=_save, args=(model, scan, finding, pointed),
    )  # fmt: skip
    _outcome(scan)
    _earlier(scan, words)


def _pointed(scan: OpenScan, point: Sequence[int] | None, words: Words) -> tuple[int, ...] | None:
    """The point, if there is one and the reader wants it kept."""
    if point is None:
        return None
    voxel = tuple(int(n) for n in point)
    place = ", ".join(map(str, voxel))
    return voxel if st.checkbox(words("opinion.point", place=place), value=True, key=f"kept.point-{scan.key}") else None


def _save(model: Model, scan: OpenScan, finding: str, voxel: tuple[int, ...] | None) -> None:
    """Store the opinion; what the reader typed leaves the page only once it is stored."""
    verdict, note = st.session_state.get(_verdict_key(scan)), st.session_state.get(_note_key(scan), "")
    if verdict is None:
        return
    said = scan.result.probabilities.get(finding) if isinstance(scan.result, Prediction) else None
    opinion = Opinion(
        reader=reader.name(), scan_id=scan.key, model=model.model_id, finding=finding, opinion=verdict,
        note=note.strip(), probability=said,
    )  # fmt: skip
    if voxel is not None:
        x, y, z = (round(float(n), 2) for n in (scan.about.affine @ np.array([*voxel, 1.0]))[:3])
        opinion = replace(opinion, i=voxel[0], j=voxel[1], k=voxel[2], x_mm=x, y_mm=y, z_mm=z)
    try:
        the_opinions(the_settings().database).add(opinion)
    except UsageError as error:
        st.session_state[_said_key(scan)] = str(error)
        return
    st.session_state[_said_key(scan)] = ""
    st.session_state[_verdict_key(scan)], st.session_state[_note_key(scan)] = None, ""


def _outcome(scan: OpenScan) -> None:
    """Whether the last opinion was stored; a refusal keeps what was typed."""
    said = st.session_state.pop(_said_key(scan), None)
    if said:
        st.error(spoken()("opinion.not_saved", reason=said), icon=":material/error:")
    elif said is not None:
        st.success(spoken()("opinion.saved"), icon=":material/check_circle:")


def _earlier(scan: OpenScan, words: Words) -> None:
    """What was said about this scan before, the newest first, and all opinions as a file."""
    try:
        store = the_opinions(the_settings().database)
        found = store.of_scan(scan.key)
    except UsageError as error:
        st.error(words("opinion.unreadable", reason=str(error)), icon=":material/error:")
        return
    if not found:
        return
    with st.expander(words("opinion.earlier", count=len(found))):
        for one in found[:SHOWN]:
            when = one.time.strftime("%Y-%m-%d %H:%M UTC") if one.time else ""
            who = one.reader or words("opinion.nobody")
            st.text(f"{words(f'opinion.{one.opinion}')} · {one.finding} · {who} · {when}\n{one.note}".strip())
        st.download_button(
            words("opinion.download"), store.csv, "opinions.csv", "text/csv", key="opinions_csv",
            icon=":material/download:", on_click="ignore",
        )  # fmt: skip


def _verdict_key(scan: OpenScan) -> str:
    return f"kept.opinion-{scan.key}"


def _note_key(scan: OpenScan) -> str:
    return f"kept.note-{scan.key}"


def _said_key(scan: OpenScan) -> str:
    return f"said-{scan.key}"
