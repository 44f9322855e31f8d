"""The training scans that look most like the open one to the model, with what they turned out to be (`--run`)."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

import streamlit as st

from app import session
from app.language import Words
from app.session import OpenScan
from pipeline.domain import Prediction
from pipeline.explanation.similar import INDEX, Neighbour
from pipeline.model.package import Model

NEIGHBOURS = 5


def similar_panel(words: Words, model: Model, scan: OpenScan, run: Path | None) -> None:
    """Shows them where the reader asks for them; nothing without a run folder or without an answer of the model."""
    if run is None or not isinstance(scan.result, Prediction):
        return
    if not st.toggle(words("similar.show"), key="kept.similar"):
        return
    if not (run / INDEX).is_file():
        st.info(words("similar.none"), icon=":material/search_off:")
        return
    with st.spinner(words("similar.looking")):
        near = session.neighbours(model, scan, run, NEIGHBOURS)
    st.html(table(words, near))


def table(words: Words, near: Sequence[Neighbour]) -> str:
    """The scans as an HTML table, the nearest first: opaque id, distance, and what each turned out to be."""
    head = "".join(f"<th scope='col'>{escape(words(f'similar.{key}'))}</th>" for key in ("scan", "distance", "truth"))
    rows = "".join(
        f"<tr><td><code>{escape(one.scan_id)}</code></td><td>{one.distance:.2f}</td>"
        f"<td>{escape(truth(words, one))}</td></tr>"
        for one in near
    )
    hint = escape(words("similar.hint"))
    return f"<div class='card similar'><table><tr>{head}</tr>{rows}</table><small>{hint}</small></div>"


def truth(words: Words, one: Neighbour) -> str:
    """The findings that the scan had; those that nobody looked for are no answer."""
    present = [finding for finding, value in one.labels.items() if value == 1]
    if present:
        return ", ".join(present)
    return words("similar.unknown" if None in one.labels.values() else "similar.absent")
