/**
 * The slice canvas: a Streamlit component (v2). Streamlit calls `mount` at the first run and at every rerun with new
 * data; what the reader has set (slice, window, zoom) lives here and survives.
 */

import { Curve } from "./curve.js";
import { press } from "./keys.js";
import { Pane } from "./pane.js";
import { listen } from "./pointer.js";
import { Scene } from "./scene.js";
import { Toolbar, make, makeHelp } from "./toolbar.js";
import { toPatient } from "./geometry.js";
import { Heat, Volume } from "./volume.js";
import { fill } from "./words.js";

const mounted = new WeakMap();

/** Build the canvas in `parentElement`, or bring the one that is there up to date; returns what takes it down. */
export function mount({ data, parentElement, setStateValue }) {
  let canvas = mounted.get(parentElement);
  if (canvas?.made !== identity(data)) {
    canvas?.remove();
    canvas = new SliceCanvas(parentElement, data, canvas?.url === data.volume.url ? canvas : null);
    mounted.set(parentElement, canvas);
  }
  canvas.tell = setStateValue;
  canvas.update(data);
  return () => {
    mounted.get(parentElement)?.remove();
    mounted.delete(parentElement);
  };
}

/** What a canvas is made for; where it changes (another scan, another language) the canvas is made anew. */
function identity(data) {
  return JSON.stringify([data.volume.url, data.words]);
}

class SliceCanvas {
  /** @param former The canvas of the same scan in another language: what it shows and how goes on. */
  constructor(parentElement, data, former) {
    this.url = data.volume.url;
    this.made = identity(data);
    this.words = data.words;
    this.ended = new AbortController();
    const loaded = former?.scene.volume.progress === 1;
    this.scene = loaded ? former.scene : new Scene(new Volume(data.volume), data.windows, data.compact);
    this.scene.windows = data.windows;
    const changed = () => this.request();
    const actions = { mark: () => this.mark(), help: () => this.help.showModal(), closeHelp: () => this.help.close() };
    this.panes = Object.fromEntries(["axial", "coronal", "sagittal", "plain"].map((name) => [name, new Pane(name)]));
    for (const [name, pane] of Object.entries(this.panes)) pane.view = former?.panes[name].view ?? pane.view;
    this.toolbar = new Toolbar(this.scene, this.words, changed, actions);
    this.curve = new Curve(this.scene, this.words, changed);
    this.help = makeHelp(this.words);
    this.bar = make("div", { class: "progress", role: "progressbar", "aria-label": this.words.loading }, make("i"));
    this.status = make("div", { class: "status" });
    this.spoken = make("div", { class: "spoken", "aria-live": "polite" });
    const [plain, axial, coronal, sagittal] = ["plain", "axial", "coronal", "sagittal"].map((n) => this.panes[n].canvas);
    this.stage = make("div", { class: "stage" }, plain, axial, coronal, sagittal, this.curve.canvas);
    this.root = make("section", { class: "slices", "aria-label": this.words.canvas, "data-state": "loading" },
      this.toolbar.top, this.bar, this.stage, this.toolbar.map, this.status, this.spoken, this.help);
    parentElement.append(this.root);
    for (const pane of Object.values(this.panes)) {
      listen(pane, this.scene, changed, this.ended.signal);
      pane.canvas.addEventListener("keydown", (event) => {
        if (!press(event, pane, this.scene, actions)) return;
        event.preventDefault();
        event.stopPropagation(); // Streamlit has shortcuts of its own
        this.request();
      });
    }
    this.watch = new ResizeObserver(changed);
    this.watch.observe(this.stage);
    if (loaded) this.root.dataset.state = "ready";
    else this.load();
  }

  /** Take over what a rerun brought: the heat map and the evidence curve. */
  update(data) {
    if (data.heat?.url !== this.scene.heat?.url) {
      this.scene.heat = data.heat ? new Heat(data.heat) : null;
      delete this.root.dataset.map;
      this.scene.heat?.load(this.ended.signal).then(() => {
        this.root.dataset.map = "ready";
        this.request();
      }, (error) => this.fail(error));
    }
    this.scene.setCurve(data.curve ?? null);
    this.request();
  }

  async load() {
    try {
      await this.scene.volume.load(() => {
        this.root.dataset.state = "arriving";
        this.request();
      }, this.ended.signal);
      this.root.dataset.state = "ready";
    } catch (error) {
      this.fail(error);
    }
    this.request();
  }

  fail(error) {
    if (this.ended.signal.aborted) return;
    this.root.dataset.state = "failed";
    this.failure = fill(this.words.failed, { reason: error.message });
    this.request();
  }

  /** The reader's point, told to Python: the crosshair; in a single picture the place under the pointer. */
  mark() {
    const { scene } = this;
    scene.mark = [...(scene.flat && scene.cursor ? scene.cursor : scene.position)];
    this.tell("point", scene.mark);
    this.request();
  }

  /** Paint at the next frame, once, however much changed until then. */
  request() {
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.paint();
    });
  }

  paint() {
    const began = performance.now();
    const { scene, words } = this;
    scene.shade.set(scene.window);
    const shown = scene.shown;
    this.stage.dataset.layout = scene.layout;
    this.stage.classList.toggle("curved", Boolean(scene.curve) && shown.includes("axial"));
    this.panes.plain.view = this.panes[scene.plane].view;
    for (const [name, pane] of Object.entries(this.panes)) pane.canvas.hidden = !shown.includes(name);
    this.curve.paint();
    for (const name of shown) {
      const pane = this.panes[name];
      pane.paint(scene, words);
      const plane = pane.plane.name;
      const values = { plane: words[plane], number: scene.index(plane) + 1, count: scene.volume.shape[pane.plane.across] };
      pane.canvas.setAttribute("aria-label", scene.flat ? words.picture : fill(words.slice, values));
    }
    this.toolbar.update();
    this.describe();
    this.root.dispatchEvent(new CustomEvent("painted", { detail: performance.now() - began }));
  }

  /** Progress, and the value under the pointer (or the crosshair) in words. */
  describe() {
    const { scene, words } = this;
    const percent = Math.floor(100 * scene.volume.progress);
    this.bar.hidden = ["ready", "failed"].includes(this.root.dataset.state);
    this.bar.setAttribute("aria-valuenow", String(percent));
    this.bar.firstChild.style.width = `${percent}%`;
    const voxel = scene.cursor ?? (scene.flat ? null : scene.position);
    const parts = [this.failure ?? ""];
    if (voxel) parts.push(this.valueAt(voxel));
    if (!this.bar.hidden) parts.push(fill(words.progress, { percent }));
    this.status.textContent = parts.filter(Boolean).join("   ");
    this.status.classList.toggle("alarm", Boolean(this.failure));
    const state = this.failure ?? (this.root.dataset.state === "ready" ? words.loaded : words.loading);
    if (this.spoken.textContent !== state) this.spoken.textContent = state;
  }

  valueAt(voxel) {
    const { volume } = this.scene;
    const value = volume.value(voxel);
    if (value === null) return "";
    const digits = volume.digits;
    const text = Array.isArray(value) ? value.map((v) => v.toFixed(0)).join(" ") : value.toFixed(digits);
    const place = volume.hasFrame
      ? toPatient(volume.affine, voxel).map((mm, axis) => `${"RAS"[axis]} ${mm.toFixed(1)}`).join("  ") + " mm"
      : `${voxel[0] + 1}, ${voxel[1] + 1}`;
    return fill(this.words.value, { value: text, unit: volume.unit, place });
  }

  remove() {
    this.ended.abort();
    this.watch.disconnect();
    if (this.frame) cancelAnimationFrame(this.frame);
    this.root.remove();
  }
}
