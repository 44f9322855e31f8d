"""How good the model is, and what another threshold or another prevalence would make of it."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from app import opening, panels, threshold
from app.catalog import the_catalog
from app.charts import call_chart, curve_chart
from app.controls import choose_finding, clicked_row
from app.language import Words, spoken
from app.result_panel import point_words
from app.settings import Settings
from app.threshold import Split
from pipeline.domain import OperatingPoint
from pipeline.evaluation.intervals import Measure
from pipeline.model.package import Model

SHOWN = ("auroc", "average_precision", "sensitivity", "specificity", "ppv", "npv", "brier")
"""Metrics of evaluation.json in the table at the foot."""
MOVED = ("sensitivity", "specificity", "ppv", "npv")


def page(settings: Settings, model: Model) -> None:
    """The model's evaluation; with --run the threshold can be moved."""
    words, names = spoken(), threshold.splits(model)
    if not names and settings.run is None:
        st.info(words("performance.none"), icon=":material/query_stats:")
        return
    run = None if settings.run is None else threshold.the_run(settings.run, model.model_id)
    if run is not None:
        names += [
            name for name in ("test", "all", "oof", "tune") if name not in names and name in set(run.table["split"])
        ]
    finding, name = _choose(model, names)
    point = model.operating_points.get(finding)
    split = None if run is None else threshold.split_of(run, finding, name)
    if split is not None:
        _moving(settings, model, split, point, words)
    else:
        _frozen(threshold.evaluated(model, name, finding), point, words, known=run is not None)
    _whole_table(model, name, finding, words)


def _choose(model: Model, names: list[str]) -> tuple[str, str]:
    """The finding and the split to look at."""
    words = spoken()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        finding = choose_finding(words("performance.finding"), model, "kept.finding", width=300)
        if len(model.findings) == 1:
            st.html(panels.named(words("performance.finding"), finding), width="content")
        name = st.segmented_control(
            words("performance.split"), names, required=True, key=_kept("split", names[0]),
            help=words("performance.split_hint"),
        )  # fmt: skip
    return finding, str(name)


def _kept(name: str, start: object) -> str:
    """The key of a control that keeps its value while other pages are on show; at first it stands at `start`."""
    key = f"kept.{name}"
    st.session_state.setdefault(key, start)
    return key


def _moving(settings: Settings, model: Model, split: Split, point: OperatingPoint | None, words: Words) -> None:
    """The threshold under the reader's hand: numbers, curves, and the scans that flip."""
    frozen = point.threshold if point is not None else None
    left, right = st.columns(2)
    start = round(frozen, 3) if frozen is not None else 0.5
    chosen = left.slider(
        words("performance.threshold"), 0.0, 1.0, step=0.001, format="%.3f",
        key=_kept(f"threshold-{split.cases.n}-{start}", start), help=words("performance.threshold_hint"),
    )  # fmt: skip
    # The slider has three decimals: where it stands at the frozen point, the frozen point itself is meant.
    chosen = frozen if frozen is not None and chosen == start else chosen
    numbers = threshold.accuracy(split.cases, chosen)
    prevalence = _prevalence(right, float(split.cases.y.mean()), words)
    moved = numbers | threshold.predictive_values(numbers, prevalence)
    before = threshold.accuracy(split.cases, frozen) if frozen is not None else {}
    before = before | threshold.predictive_values(before, prevalence) if before else {}
    _tiles(moved, before, words)
    st.caption(point_words(words, point, "performance") + " " + words("performance.intervals"))
    left, right = st.columns(2)
    left.vega_lite_chart(
        *call_chart(threshold.histogram(split.cases), frozen, chosen, words), alt=words("performance.calls_alt")
    )
    right.vega_lite_chart(
        *curve_chart(threshold.curves(split.cases), frozen, chosen, words), alt=words("performance.curves_alt")
    )
    if frozen is not None:
        _flips(settings, model, threshold.flips(split, frozen, chosen), words)


def _prevalence(place: Any, observed: float, words: Words) -> float:
    """The share of patients with the finding where the reader works, as a fraction."""
    start = round(min(max(100 * observed, 0.1), 99.0), 1)
    percent = place.slider(
        words("performance.prevalence"), 0.1, 99.0, step=0.1, format="%.1f %%",
        key=_kept(f"prevalence-{observed:.4f}", start),
        help=words("performance.prevalence_hint", observed=f"{100 * observed:.0f}"),
    )  # fmt: skip
    return float(percent) / 100


def _frozen(numbers: Mapping[str, Any], point: OperatingPoint | None, words: Words, known: bool) -> None:
    """What evaluation.json holds: the frozen point alone, at the reader's prevalence."""
    st.info(words("performance.no_scans" if known else "performance.no_run"), icon=":material/info:")
    if not all(numbers.get(name, {}).get("value") is not None for name in ("sensitivity", "specificity")):
        st.caption(point_words(words, point, "performance"))
        return
    observed = numbers["n_positive"] / numbers["n_scans"]
    prevalence = _prevalence(st, observed, words)
    rates = {name: numbers[name] for name in ("sensitivity", "specificity")}
    _tiles(rates | threshold.predictive_values(rates, prevalence), {}, words)
    st.caption(point_words(words, point, "performance"))


def _tiles(numbers: Mapping[str, Measure], frozen: Mapping[str, Measure], words: Words) -> None:
    """Four numbers with their intervals, and how far they are from the frozen point."""
    for place, name in zip(st.columns(4), MOVED, strict=True):
        found, delta = numbers[name], None
        value, before = found["value"], frozen[name]["value"] if frozen else None
        if value is not None and before is not None and abs(value - before) >= 0.0005:
            delta = f"{100 * (value - before):+.1f}"
        place.html(panels.tile(words(f"performance.{name}"), _value(found), _interval(found, words), delta))


def _value(found: Measure) -> str:
    return "–" if found["value"] is None else f"{100 * found['value']:.1f} %"


def _interval(found: Measure, words: Words) -> str:
    if found["low"] is None or found["high"] is None:
        return words("performance.undefined")
    low, high = f"{100 * found['low']:.1f}", f"{100 * found['high']:.1f}"
    return words("performance.interval", level=f"{100 * found['level']:.0f}", low=low, high=high, n=found["n"])


def _flips(settings: Settings, model: Model, rows: pd.DataFrame, words: Words) -> None:
    """The scans that the other threshold calls otherwise; those of the folder open by a click."""
    right = int(rows["right"].sum())
    st.markdown(f"##### {words('performance.flips', count=len(rows))}")
    if rows.empty:
        st.caption(words("performance.no_flips"))
        return
    st.caption(words("performance.flips_right", right=right, wrong=len(rows) - right))
    said = {True: words("performance.positive"), False: words("performance.negative")}
    table = pd.DataFrame({
        words("performance.scan"): rows["scan_id"],
        words("performance.probability"): rows["p"],
        words("performance.truth"): (rows["y"] == 1).map(said),
        words("performance.before"): (~rows["now"]).map(said),
        words("performance.now"): rows["now"].map(said),
        words("performance.right"): rows["right"],
    })  # fmt: skip
    st.dataframe(
        table, key="flips", hide_index=True, on_select=lambda: _open_flip(settings, model, rows),
        selection_mode=("single-row", "single-cell"), height=min(320, 35 * (len(rows) + 1) + 3),
    )  # fmt: skip


def _open_flip(settings: Settings, model: Model, rows: pd.DataFrame) -> None:
    row = clicked_row("flips")
    catalog = the_catalog(settings.scans, model.read_rules, settings.query).result()
    if row is None or catalog is None:
        return
    scan_id = rows["scan_id"].iloc[row]
    if scan_id in catalog.scans:
        opening.show(scan_id)
    else:
        st.toast(spoken()("performance.elsewhere"), icon=":material/folder_off:")


def _whole_table(model: Model, name: str, finding: str, words: Words) -> None:
    """The evaluation as it was written into the model folder."""
    numbers = threshold.evaluated(model, name, finding)
    if not numbers:
        return
    rows = [
        {
            words("performance.metric"): words(f"performance.{metric}"),
            words("performance.value"): "–" if found.get("value") is None else f"{found['value']:.3f}",
            words("performance.interval_name"): (
                "–" if found.get("low") is None else f"{found['low']:.3f} – {found['high']:.3f}"
            ),
            words("performance.scans"): found.get("n"),
            words("performance.method"): found.get("method") or found.get("reason") or "",
        }
        for metric in SHOWN
        if (found := numbers.get(metric)) is not None
    ]
    with st.expander(words("performance.stored")):
        st.dataframe(pd.DataFrame(rows), hide_index=True)
