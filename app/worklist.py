"""The worklist: every scan of the folder with what the model says, the likeliest first; a click opens one."""

from typing import Any

import pandas as pd
import streamlit as st

from app import opening, panels, session
from app.background import Job
from app.catalog import Catalog, the_catalog
from app.controls import clicked_row
from app.faults import told
from app.language import spoken
from app.settings import Settings
from app.worklist_table import STATUSES, Wanted, narrowed, shown, worklist
from pipeline.files import plain_cell
from pipeline.model.package import Model

AT_ONCE_S = 2.0
"""A folder that is listed within this time appears without a progress bar."""
EVERY_S = 1.0
"""How often a progress bar moves."""
ROW_PX, MOST_PX = 35, 640


def page(settings: Settings, model: Model) -> None:
    """The worklist, or how far the folder is listed."""
    job = the_catalog(settings.scans, model.read_rules, settings.query)
    if not job.wait(AT_ONCE_S):
        looking(job, "worklist.retrieving" if settings.is_pacs else "worklist.looking")
        return
    try:
        catalog = job.result()
    except Exception:
        the_catalog.cache_clear()  # the next visit looks again
        raise
    if catalog is None:
        return
    words, scores = spoken(), opening.known_scores(settings, model)
    table = worklist(catalog, scores, model.findings, catalog.found.root, settings.hide_identity)
    heading = st.container(
        horizontal=True, horizontal_alignment="distribute", vertical_alignment="center", key="heading"
    )
    with heading:
        summary(table)
    wanted = filters()
    rows = narrowed(table, wanted)
    scoring(settings, table, catalog)
    if rows.empty:
        st.info(words("worklist.nothing"), icon=":material/search_off:")
    else:
        _show_rows(rows, model, settings.hide_identity)
    with heading:
        tools(rows, model)


def summary(table: pd.DataFrame) -> None:
    """How many scans are of each status."""
    words, counts = spoken(), table["status"].value_counts()
    present = [(status, int(counts[status])) for status in STATUSES if status in counts]
    parts = [f"**{n:,}** {words.count(f'worklist.{status}', n)}" for status, n in present]
    st.markdown(" · ".join(parts) or words("worklist.empty"))


def filters() -> Wanted:
    """What the reader wants to see."""
    words = spoken()
    with st.container(horizontal=True, vertical_alignment="bottom", key="filters"):
        text = st.text_input(
            words("worklist.search"), key="kept.search", icon=":material/search:", width="stretch",
            placeholder=words("worklist.search_hint"), label_visibility="collapsed",
        )  # fmt: skip
        statuses = st.multiselect(
            words("worklist.status"), STATUSES, key="kept.statuses", width=300, label_visibility="collapsed",
            format_func=lambda name: words(f"worklist.{name}"), placeholder=words("worklist.every_status"),
        )  # fmt: skip
        positives = st.toggle(words("worklist.positives"), key="kept.positives")
    return Wanted(text or "", statuses, positives)


@st.fragment(run_every=EVERY_S)
def looking(job: Job[Catalog], wording: str) -> None:
    """How far the folder is listed, or the PACS has sent; the table follows."""
    words = spoken()
    if not job.running:
        st.rerun()
    share = job.done / job.total if job.total else 0.0
    total = {"total": f"{job.total:,}", "files": words.count("count.files", job.total)}
    st.progress(share, words(wording, done=f"{job.done:,}", **total))


def scoring(settings: Settings, table: pd.DataFrame, catalog: Catalog) -> None:
    """A button that scores what is not scored yet, and its progress while it works in the background."""
    scorer = session.the_scorer(settings.model)
    if scorer.job is not None:
        _progress(settings)
        return
    if scorer.failed:
        st.warning(spoken()("worklist.scoring_failed"), icon=":material/warning:")
    waiting = table.loc[table["status"] == "waiting", "scan_id"]
    if len(waiting):
        st.button(
            spoken()("worklist.score", scans=spoken().count("count.scans", len(waiting))), key="score",
            icon=":material/play_arrow:", type="primary",
            on_click=scorer.start, args=([catalog.scans[scan_id] for scan_id in waiting],),
        )  # fmt: skip


@st.fragment(run_every=EVERY_S)
def _progress(settings: Settings) -> None:
    with told():
        words, scorer = spoken(), session.the_scorer(settings.model)
        job = scorer.job
        if job is None:
            st.rerun()
            return
        with st.container(horizontal=True, vertical_alignment="center"):
            st.progress(
                job.done / job.total if job.total else 0.0,
                words("worklist.scoring", done=f"{job.done:,}", total=f"{job.total:,}"),
            )
            st.button(words("worklist.stop"), key="stop", icon=":material/stop:", on_click=scorer.stop)
            if st.button(words("worklist.refresh"), key="refresh", icon=":material/refresh:"):
                st.rerun()


def _show_rows(rows: pd.DataFrame, model: Model, hidden: bool) -> None:
    words = spoken()
    st.session_state[opening.ORDER] = [scan_id for scan_id in rows["scan_id"] if scan_id]
    columns = _columns(model, hidden)
    table = shown(rows).assign(
        status=rows["status"].map(lambda name: words(f"worklist.{name}_one")),
        view=[panels.view_words(words, *coded) for coded in zip(rows["view"], rows["side"], strict=True)],
        reason=rows["reason"].map(lambda text: panels.reason_words(words, text)),
        unlike=rows["unlike"].map({True: f"⚠ {words('worklist.unlike').lower()}", False: ""}),
    )
    filled = [name for name in columns if (table[name].notna() & (table[name] != "")).any()]
    st.dataframe(
        table, key="table", column_order=filled,
        column_config=columns, hide_index=True,
        on_select=lambda: _open_selected(rows["scan_id"]), selection_mode=("single-row", "single-cell"),
        height=min(MOST_PX, ROW_PX * (len(rows) + 1) + 3), placeholder="", alt=words("worklist.description"),
    )  # fmt: skip


def _open_selected(scan_ids: pd.Series) -> None:
    """Open the scan whose row was clicked; refused ones have nothing to open."""
    row = clicked_row("table")
    if row is not None and row < len(scan_ids) and scan_ids.iloc[row]:
        opening.show(scan_ids.iloc[row])


def _columns(model: Model, hidden: bool) -> dict[str, Any]:
    """The columns in their order, with their headings; those without a single entry are not shown."""
    words, config = spoken(), st.column_config
    who = {
        "patient": config.TextColumn(words("worklist.patient"), width=150),
        "patient_id": config.TextColumn(words("worklist.patient_id"), width=120),
        "study": config.TextColumn(words("worklist.study"), width=95),
    }
    probabilities = {
        f"p_{finding}": config.ProgressColumn(
            finding, min_value=0, max_value=1, format="%.3f", help=words("worklist.probability"), width=160
        )
        for finding in model.findings
    }
    place = config.TextColumn(words("worklist.number" if hidden else "worklist.path"), width=190)
    return {
        **({"what": place} if hidden else who),
        **probabilities,
        "positive": config.TextColumn(words("worklist.positive"), width=100),
        "uncertainty": config.NumberColumn(
            words("worklist.uncertainty"), format="%.2f", help=words("worklist.uncertainty_hint"), width=100
        ),
        "unlike": config.TextColumn(words("worklist.unlike"), help=words("worklist.unlike_hint"), width=85),
        "status": config.TextColumn(words("worklist.status"), width=110),
        "modality": config.TextColumn(words("worklist.modality"), width=100),
        "view": config.TextColumn(words("worklist.view"), width=120),
        **({} if hidden else {"what": place}),
        "reason": config.TextColumn(words("worklist.reason"), width=320),
        "scored": config.DatetimeColumn(words("worklist.when"), format="YYYY-MM-DD HH:mm", width=135),
    }


def tools(rows: pd.DataFrame, model: Model) -> None:
    """What can be done with the list as it is shown: save it without identities, look at the folder again."""
    words = spoken()
    with st.container(horizontal=True, width="content", vertical_alignment="center", key="tools"):
        st.download_button(
            words("worklist.save"), lambda: _csv(rows, model), "worklist.csv", "text/csv", key="save",
            icon=":material/download:", on_click="ignore", help=words("worklist.save_hint"),
        )  # fmt: skip
        st.button(words("worklist.again"), on_click=the_catalog.cache_clear, icon=":material/refresh:", key="again")


def _csv(rows: pd.DataFrame, model: Model) -> bytes:
    """The rows without anything that tells the patient."""
    columns = ["scan_id", "modality", "view", "side", "status", *(f"p_{f}" for f in model.findings)]
    columns += ["positive", "uncertainty", "unlike", "scored", "reason"]
    table = rows[columns].assign(reason=rows["reason"].map(plain_cell), model=model.model_id)
    table["scored"] = table["scored"].dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    return table.to_csv(index=False, lineterminator="\r\n").encode("utf-8-sig")
