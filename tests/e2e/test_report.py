"""The report in a real browser: phone and desktop, every language, light and dark, nothing asked of anybody."""

from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page

from pipeline.evaluate import main
from tests.evaluation.runs import predictions, run_folder

pytestmark = [
    pytest.mark.e2e,
    # pytest-base-url 2.1 defines its fixture in a way that pytest 10 will refuse; nothing of ours.
    pytest.mark.filterwarnings("ignore:Session-scoped fixtures defined as instance methods"),
]

WIDE = """() => [...document.querySelectorAll('body *')]
    .filter(e => !e.closest('.wide, .full, svg') && e.getBoundingClientRect().right > window.innerWidth + 1)
    .map(e => e.tagName + '.' + e.className)"""
CONTRAST = """() => {
    const light = c => c.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
        .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
    const paper = light(getComputedStyle(document.body).backgroundColor);
    return [...document.querySelectorAll('h1, .lede, .eyebrow, .soft, .pill')].map(e => {
        const ink = light(getComputedStyle(e).color);
        return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05); });
}"""


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A report in English and one in Italian, the latter with many findings and a long name."""
    found = {}
    for code, findings in (("en", ("nodule",)), ("it", ("nodule", "mass", "a finding with a very long name indeed"))):
        table = predictions(150, gain=0.9, findings=findings)
        table["age"] = np.random.default_rng(0).integers(20, 90, len(table))
        run = run_folder(tmp_path_factory.mktemp(code) / "run", table)
        assert main([str(run), "--language", code, "--prevalence", "0.1"]) == 0
        found[code] = run / "report.html"
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "height"), [(390, 844), (1280, 900)])
@pytest.mark.parametrize("code", ["en", "it"])
def test_the_report_fits_the_screen_and_asks_for_nothing(
    page: Page, reports: dict[str, Path], output_path: Path, code: str, width: int, height: int, scheme: str
) -> None:
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.set_viewport_size({"width": width, "height": height})
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.goto(reports[code].as_uri())
    page.screenshot(path=output_path / f"report_{code}_{width}_{scheme}.png", full_page=True)
    assert asked == [reports[code].as_uri()]
    assert said == []
    assert page.evaluate(WIDE) == []
    assert min(page.evaluate(CONTRAST)) >= 4.5  # WCAG 2.2, 1.4.3
    assert page.locator(".tile").count() == 5
    first_screen = page.locator(".tile").first.bounding_box()
    assert first_screen is not None
    assert first_screen["y"] + first_screen["height"] < height
    assert page.locator("figure svg").count() == 7 * (1 if code == "en" else 3)


def test_the_report_prints_on_paper(page: Page, reports: dict[str, Path]) -> None:
    page.goto(reports["en"].as_uri())
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("nav").is_visible()
    assert page.pdf(format="A4").startswith(b"%PDF")
