"""The slice canvas: three linked planes of a volume in the browser, with window, zoom, heat map and ruler.

A Streamlit component (v2) of our own, on canvas 2D: no WebGL, no dependency, no build. Its source is plain JavaScript
modules in this folder, which the viewer serves itself (`app.volumes.routes`); docs/decisions/0011 says why.
"""

from collections.abc import Callable
from pathlib import Path

import streamlit as st

from app.volumes import entry_module

CSS = Path(__file__).with_name("canvas.css")
LOADER = """
const element = import(new URL("%s", document.baseURI));
export default function (component) {
  let gone = false, remove = null;
  element.then(({ mount }) => { if (!gone) remove = mount(component); });
  return () => { gone = true; remove?.(); };
}
"""
"""What Streamlit is given: it loads the modules and hands its component over to them."""

_canvas = st.components.v2.component(
    "scanline_slices", css=CSS.read_text(encoding="utf-8"), js=LOADER % entry_module().removeprefix("/")
)


def slice_canvas(data: dict[str, object], key: str, on_point: Callable[[], None]) -> tuple[int, int, int] | None:
    """Show the canvas; the voxel [x, y, z] (as the volume is sent) that the reader marked on it, None at first.

    Args:
        data: JSON: `volume` and `heat` (as `app.volumes.Shelf.offer` describes them; heat may be None), `curve` (a
            number per axial slice, or None), `windows` ({name, label, low, high}, the first is shown first), `words`.
        key: Unique on the page; a canvas keeps slice, window and zoom as long as its key is there.
        on_point: Called when a point was marked.
    """
    result = _canvas(key=key, data=data, default={"point": None}, on_point_change=on_point)
    point = result.point
    return None if point is None else (int(point[0]), int(point[1]), int(point[2]))
