"""Who is reading: as they signed in with the identity provider, or as they named themselves once."""

import streamlit as st

from app.language import spoken
from app.settings import Settings

LONGEST_NAME = 100


def name() -> str:
    """The reader's name for opinions and the audit log; empty where nobody has said it."""
    if _logged_in():
        return str(st.user.get("email") or st.user.get("name") or st.user.get("sub") or "")
    return str(st.session_state.get("reader", "")).strip()


def signed_in() -> bool:
    """Whether the reader has signed in; if not, the page offers it."""
    if _logged_in():
        return True
    words = spoken()
    st.info(words("shell.sign_in_first"), icon=":material/lock:")
    st.button(words("shell.sign_in"), on_click=st.login, type="primary", key="sign_in")
    return False


def introduction(settings: Settings) -> None:
    """Asks for the reader's name, or shows who has signed in."""
    words = spoken()
    if settings.login:
        st.button(words("shell.sign_out", name=name()), on_click=st.logout, key="sign_out", icon=":material/logout:")
        return
    st.text_input(
        words("shell.reader"), key="reader", max_chars=LONGEST_NAME, placeholder=words("shell.your_name"),
        label_visibility="collapsed", width=190,
    )  # fmt: skip


def _logged_in() -> bool:
    return bool(st.user.get("is_logged_in", False))
