"""What the page says when something goes wrong: words on the page, never a traceback."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import streamlit as st

from app import panels
from app.language import spoken
from pipeline.domain import ScanError, UsageError


@contextmanager
def told() -> Iterator[None]:
    """Turn every error into words on the page: never a traceback, never a text that could quote a patient's header."""
    try:
        yield
    except ScanError as error:
        st.html(panels.alert(panels.refusal_words(spoken(), error)))
    except UsageError as error:
        st.html(panels.alert(spoken()("fault.usage", detail=error)))
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)[-3:]
        where = " < ".join(f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in reversed(frames))
        sys.stderr.write(f"fault: {type(error).__name__} at {where}\n")
        st.html(panels.alert(spoken()("fault.fault")))
