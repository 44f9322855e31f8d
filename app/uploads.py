"""Scans from the reader's own disk: a DICOM folder, a .zip, NIfTI or a picture. What a file is, its content tells."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import streamlit as st

from app import opening, panels, session
from app.language import spoken
from app.opening import Opener
from app.received import MAX_FILE_MB, MAX_FILES, MAX_UPLOAD_MB, Upload, key_of, receive, write
from app.settings import Settings
from pipeline.domain import Scan, ScanError, Volume
from pipeline.model.package import Model
from pipeline.scans.find import read_volume
from pipeline.scans.temporary import own_folder


def open_scan(model: Model, upload: Upload, scan: Scan) -> session.OpenScan:
    """A scan of the upload, read like one of the folder.

    Raises:
        ScanError: If it is refused.
    """
    again = partial(_read, model, upload, scan)
    with _written(upload, scan) as here:
        return session.open_scan(model, here, key=key_of(upload, scan), again=again)


def _read(model: Model, upload: Upload, scan: Scan) -> Volume:
    with _written(upload, scan) as here:
        return read_volume(here, model.read_rules)


@contextmanager
def _written(upload: Upload, scan: Scan) -> Iterator[Scan]:
    """The scan with its files on disk, for as long as it is read."""
    with own_folder() as folder:
        write(upload.files, {path.parts[0] for path in scan.paths}, folder)
        yield replace(scan, path=folder / scan.path, paths=tuple(folder / path for path in scan.paths))


def opener(model: Model, upload: Upload, scan: Scan) -> Opener:
    """What opens a scan of the upload; it is read once as long as the browser tab holds it."""
    key = key_of(upload, scan)
    return lambda: opening.opened().get(key, lambda: open_scan(model, upload, scan))


def page(settings: Settings, model: Model) -> None:
    """Takes files by drag and drop; a lone scan opens by itself, of several the reader chooses."""
    words = spoken()
    if settings.hide_identity:
        st.html(panels.NAMELESS_UPLOAD)
    st.html(panels.upload_buttons(words))
    st.markdown(f"##### {words('upload.title')}")
    st.caption(words("upload.limits", file=MAX_FILE_MB, total=MAX_UPLOAD_MB, files=f"{MAX_FILES:,}"))
    left, right = st.columns(2)
    files = left.file_uploader(words("upload.files"), accept_multiple_files=True, key="files")
    folder = right.file_uploader(words("upload.folder"), accept_multiple_files="directory", key="folder")
    received = [*(files or ()), *(folder or ())]
    if not received:
        st.session_state.pop("upload", None)
        return
    ids = tuple(file.file_id for file in received)
    if st.session_state.get("upload", ((), None))[0] != ids:
        with st.spinner(words("upload.looking")):
            upload = receive(received, model.read_rules)
        st.session_state["upload"] = (ids, upload)
        if len(upload.found.scans) == 1:
            opening.show_upload(opener(model, upload, upload.found.scans[0]))
            st.rerun()
    _choose(settings, model, st.session_state["upload"][1])


def _choose(settings: Settings, model: Model, upload: Upload) -> None:
    """The scans that the upload holds, and why others are refused."""
    words, found = spoken(), upload.found
    if not found.scans and not found.rejections:
        st.html(panels.alert(words("upload.nothing")))
    for number, scan in enumerate(found.scans, 1):
        label = " · ".join(filter(None, [
            words("upload.scan", number=number), panels.kind_of(scan),
            panels.view_words(words, scan.view, scan.side),
            "" if settings.hide_identity else panels.readable_date(scan.acquired), scan.group,
            words.count("count.slices", scan.n_slices) if scan.n_slices > 1 else "",
        ]))  # fmt: skip
        st.button(
            panels.unformatted(label), key=f"open-{number}", icon=":material/open_in_new:",
            on_click=opening.show_upload, args=(opener(model, upload, scan),),
        )  # fmt: skip
    for other in found.not_selected:
        st.html(panels.alert(words("upload.not_selected", detail=other.detail)))
    for one in found.rejections:
        st.html(panels.alert(panels.refusal_words(words, ScanError(one.reason, one.detail))))
