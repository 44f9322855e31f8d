"""Buttons that save the open case: one page as PDF or PNG, the heat map as NIfTI. Each file is made when asked for."""

from functools import partial
from typing import TypeAlias

import streamlit as st

from app import audit_log, reader, session
from app.controls import choose_finding
from app.exports import Case, case_page, file_name, heat_nifti, meeting_point
from app.language import Words, spoken
from app.session import OpenScan
from app.settings import the_settings
from pipeline.domain import Prediction
from pipeline.model.package import Model

Voxel: TypeAlias = tuple[int, int, int]


def export_panel(model: Model, scan: OpenScan, point: Voxel | None = None) -> None:
    """What can be saved of this scan.

    Args:
        model: Whose answer it is.
        scan: The open scan.
        point: The voxel (i, j, k) in which the page's three planes meet; by default where the map is hottest.
    """
    words, settings = spoken(), the_settings()
    with st.expander(words("export.panel"), icon=":material/download:"):
        finding = choose_finding(words("review.finding"), model, f"kept.export-{scan.key}")
        named = not settings.hide_identity and st.checkbox(
            words("export.identity"), key=f"kept.named-{scan.key}", help=words("export.identity_hint")
        )
        with st.container(horizontal=True):
            for form, mime in (("pdf", "application/pdf"), ("png", "image/png")):
                st.download_button(
                    form.upper(), partial(_page, model, scan, finding, named, words, form, reader.name(), point),
                    file_name(scan, finding, form), mime, key=f"export-{form}", on_click="ignore",
                )  # fmt: skip
            if isinstance(scan.result, Prediction):
                st.download_button(
                    words("export.nifti"), partial(_map, model, scan, finding, reader.name()),
                    file_name(scan, finding, "nii.gz"), "application/gzip", key="export-nifti", on_click="ignore",
                )  # fmt: skip


def _page(
    model: Model, scan: OpenScan, finding: str, named: bool, words: Words, form: str, who: str, point: Voxel | None
) -> bytes:
    _record(model, scan, who)
    heat = session.heat_map(model, scan, finding) if isinstance(scan.result, Prediction) else None
    shown = heat if heat is not None and heat.any() else None
    case = Case(model, scan, finding, scan.windows[0], point or meeting_point(scan, heat), shown, named)
    return case_page(case, words, "pdf" if form == "pdf" else "png")


def _map(model: Model, scan: OpenScan, finding: str, who: str) -> bytes:
    _record(model, scan, who)
    return heat_nifti(session.heat_map(model, scan, finding), model, scan)


def _record(model: Model, scan: OpenScan, who: str) -> None:
    audit_log.record(the_settings().audit_file, "export", reader=who, scan=scan.key, model=model.model_id)
