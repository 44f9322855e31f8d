"""What a page says, as text, for the tests that run it by Streamlit's own harness."""

import re
from html import unescape
from pathlib import Path

from streamlit.testing.v1 import AppTest

from app import settings

PAGE = Path(settings.__file__).with_name("viewer.py")


def html(page: AppTest) -> str:
    return "".join(element.proto.body for element in page.get("html"))


def everything(page: AppTest) -> str:
    """All that the page says, in one text."""
    kinds = (
        page.warning, page.info, page.error, page.success, page.caption, page.button, page.toggle, page.slider,
        page.expander, page.markdown, page.text_input, page.text_area, page.text, page.dataframe,
    )  # fmt: skip
    said = [str(getattr(one, "label", "")) for kind in kinds for one in kind]
    for kind in kinds:
        said += [
            one.value.to_csv() if hasattr(one.value, "to_csv") else str(one.value)
            for one in kind
            if hasattr(one, "value")
        ]
    return html(page) + " ".join(said) + " ".join(option for box in page.selectbox for option in box.options)


def alerts(page: AppTest) -> list[str]:
    """Refusals and errors on the page, as text."""
    found = re.findall(r"<div class='alert' role='alert'>(.*?)</div>", html(page), re.DOTALL)
    return [unescape(text) for text in found]


def turn_to(page: AppTest, name: str) -> AppTest:
    return page.segmented_control(key="page").set_value(name).run()


def open_scan(page: AppTest, scan_id: str) -> AppTest:
    """What a click on a row of the worklist does: AppTest can't click on a table."""
    page.session_state["chosen_scan"] = scan_id
    page.session_state["page"] = "scan"
    return page.run()
