"""How fast the canvas is, measured in the browser: repaint of three planes, first slice of a 105 MB scan.

python -m pytest tests/e2e/test_canvas_speed.py -m slow -s
"""

import json
import os
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from playwright.sync_api import Page

from app.canvas.wire import pack_volume
from app.volumes import entry_module
from pipeline.domain import Volume
from pipeline.score import main as score
from tests.app.conftest import save_tiny_model
from tests.app.running import start_viewer, stop_viewer
from tests.e2e.bench import served
from tests.e2e.opening import SECONDS, open_scan

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    # pytest-base-url 2.1 defines its fixture in a way that pytest 10 will refuse; nothing of ours.
    pytest.mark.filterwarnings("ignore:Session-scoped fixtures defined as instance methods"),
]

SHAPE = (512, 512, 200)
REPAINT_MS = 16
FIRST_SLICE_S = 2.0
REPAINTS = """async ({ entry, description }) => {
    const at = (name) => import(entry.replace("element.js", name));
    const [{ Scene }, { Volume, Heat }, { Pane }] = await Promise.all([at("scene.js"), at("volume.js"), at("pane.js")]);
    const volume = new Volume(description);
    await volume.load(() => {}, new AbortController().signal);
    const scene = new Scene(volume, [{ name: "soft", label: "soft", low: -160, high: 240 }]);
    scene.heat = new Heat({ shape: [128, 128, 100], steps: [4, 4, 2], url: "" });
    scene.heat.cells = new Uint8Array(128 * 128 * 100).map((_, n) => n % 251);
    const panes = [["axial", 640, 640], ["coronal", 320, 318], ["sagittal", 320, 318]].map(([name, width, height]) => {
        const pane = new Pane(name);
        pane.canvas.style.cssText = `width:${width}px;height:${height}px`;
        document.body.append(pane.canvas);
        return pane;
    });
    const words = { slice: "{plane} {number}/{count}", axial: "Axial", coronal: "Coronal", sagittal: "Sagittal" };
    const times = [];
    for (let n = 0; n < 80; n++) {
        await new Promise(requestAnimationFrame);
        scene.position = [100 + 3 * n, 120 + 2 * n, 20 + n];
        const began = performance.now();
        scene.shade.set(scene.window);
        for (const pane of panes) pane.paint(scene, words);
        for (const pane of panes) pane.context.getImageData(0, 0, 1, 1); // until it is really drawn, not only asked for
        times.push(performance.now() - began);
    }
    return times.slice(10);
}"""


def waiting() -> float:
    """How many times longer everything takes since more processes want a core than there are; 1 on a quiet machine."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def load() -> str:
    return f"load {os.getloadavg()[0]:.0f} on {os.cpu_count()} cores"


def chest() -> np.ndarray:
    """A body with two lungs and noise, int16 HU [i, j, k]."""
    rng = np.random.default_rng(0)
    x, y = np.ogrid[:512, :512]
    plane = np.where(((x - 256) / 230) ** 2 + ((y - 256) / 180) ** 2 < 1, 40, -1000)
    for centre in (160, 350):
        plane[((x - centre) / 70) ** 2 + ((y - 256) / 110) ** 2 < 1] = -800
    noise = rng.normal(0, 20, (512, 512, 8)).astype(np.int16)
    return np.repeat(plane[..., np.newaxis], 200, 2).astype(np.int16) + np.tile(noise, (1, 1, 25))


def test_three_planes_are_repainted_within_a_frame(page: Page) -> None:
    volume = Volume(np.asfortranarray(chest(), dtype=np.float32), np.diag([0.7, 0.7, 1.25, 1.0]), "HU")
    with served() as bench:
        page.goto(bench.address)
        page.wait_for_function("() => window.ready")
        description = json.loads(json.dumps(bench.shelf.offer("chest", lambda: pack_volume(volume, True))))
        times = page.evaluate(REPAINTS, {"entry": entry_module(), "description": description})
    median, worst = float(np.median(times)), float(np.quantile(times, 0.95))
    print(f"\nthree planes of 512x512x200 with heat map: median {median:.1f} ms, 95 % within {worst:.1f} ms; {load()}")
    assert median <= REPAINT_MS * waiting()


def test_the_first_slice_of_a_large_scored_scan_comes_soon(page: Page, tmp_path: Path) -> None:
    scans, scores = tmp_path / "scans", tmp_path / "scores"
    scans.mkdir()
    voxels = chest()
    for name in "abcd":
        voxels[0, 0, 0] = ord(name)
        nib.save(nib.Nifti1Image(voxels, np.diag([-0.7, -0.7, 1.25, 1.0])), scans / f"{name}.nii")
    model = save_tiny_model(tmp_path / "model")
    assert score([str(model), str(scans), "--out", str(scores)]) == 0
    viewer = start_viewer(model, scans, tmp_path, "--scores", str(scores))
    try:
        page.set_default_timeout(SECONDS)
        page.goto(viewer.link)
        open_scan(page, "")  # warms up what every later one finds warm
        times = [opened_next(page) for _ in range(3)]
    finally:
        stop_viewer(viewer)
    first, whole = zip(*times, strict=True)
    print(f"\n105 MB scan, scored: first slice after {seconds(first)} s, all after {seconds(whole)} s; {load()}")
    assert min(first) <= FIRST_SLICE_S * waiting()  # the best of three is nearest to the viewer's own time


def opened_next(page: Page) -> tuple[float, float]:
    """Seconds from the click that opens the next scan to its first slice, and to its last."""
    page.locator(".slices").evaluate_all("all => all.forEach(one => { one.dataset.old = 1; })")
    began = time.perf_counter()
    page.get_by_role("button", name="Next", exact=True).click()
    page.locator('.slices:not([data-old]):not([data-state="loading"])').wait_for()
    first = time.perf_counter() - began
    page.locator('.slices:not([data-old])[data-state="ready"]').wait_for()
    return first, time.perf_counter() - began


def seconds(found: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.2f}" for value in sorted(found))
