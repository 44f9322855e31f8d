"""Controls that several pages share: which finding is meant, which row of a table was clicked."""

from typing import Literal

import streamlit as st

from pipeline.model.package import Model


def choose_finding(label: str, model: Model, key: str, width: int | Literal["stretch"] = "stretch") -> str:
    """The finding that the reader chooses; of a model that knows one only, that one, without a question."""
    if len(model.findings) == 1:
        return model.findings[0]
    return str(st.selectbox(label, model.findings, key=key, width=width))


def clicked_row(key: str) -> int | None:
    """Number of the row that was chosen in the table of this key, by its box or by any of its cells."""
    selection = st.session_state[key]["selection"]
    rows = [*selection.get("rows", ()), *(cell[0] for cell in selection.get("cells", ()))]
    return int(rows[0]) if rows else None
