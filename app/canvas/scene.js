/** What is on show and how: the state that panes paint and controls change. No DOM. */

import { PLANES, clamp, conventional } from "./geometry.js";
import { Shade } from "./shade.js";

/** Share of the curve's highest value that a peak must reach to be stepped to. */
const PEAK_SHARE = 0.25;

export const TOOLS = ["navigate", "window", "pan", "measure"];

export class Scene {
  /** @param volume A Volume. @param windows Presets {name, label, low, high}, the best first. @param compact One plane. */
  constructor(volume, windows, compact) {
    this.volume = volume;
    this.windows = windows;
    this.shade = new Shade(volume);
    this.position = volume.shape.map((count) => Math.floor(count / 2));
    this.position[2] = volume.first;
    this.window = { ...windows[0], inverted: false };
    this.flat = volume.shape[2] === 1;
    /** The plane of a scan of one slice: the only one worth showing. */
    this.lone = this.flat ? "axial" : Object.keys(PLANES).find((name) => volume.shape[PLANES[name].across] === 1);
    this.heat = null;
    this.heatShown = true;
    this.opacity = 0.5;
    this.threshold = 0.2;
    this.curve = null;
    this.peaks = [];
    this.neurological = false;
    this.crosshair = !this.lone;
    this.tool = TOOLS[0];
    this.layout = this.lone || compact ? "one" : "planes";
    this.plane = this.lone ?? "axial";
    this.ruler = null;
    this.mark = null;
    this.cursor = null;
  }

  planeOf(name) {
    return conventional(PLANES[name], this.neurological);
  }

  /** Slice number of a plane. */
  index(name) {
    return this.position[PLANES[name].across];
  }

  step(name, by) {
    this.moveTo(name, this.index(name) + by);
  }

  moveTo(name, index) {
    const axis = PLANES[name].across;
    this.position[axis] = clamp(index, 0, this.volume.shape[axis] - 1);
  }

  /** Put the crosshair on a voxel. */
  place(voxel) {
    this.position = voxel.map((value, axis) => clamp(Math.round(value), 0, this.volume.shape[axis] - 1));
  }

  preset(name) {
    const found = this.windows.find((window) => window.name === name);
    if (found) this.window = { ...found, inverted: this.window.inverted };
  }

  nextPreset() {
    const at = this.windows.findIndex((window) => window.name === this.window.name);
    this.preset(this.windows[(at + 1) % this.windows.length].name);
  }

  /** Change the window from what it was when a drag began: wider to the right, brighter upwards. */
  dragWindow(start, right, down) {
    const width = (start.high - start.low) * Math.exp(right / 300);
    const level = (start.high + start.low) / 2 + (down * (start.high - start.low)) / 300;
    this.window = { ...start, name: "", low: level - width / 2, high: level + width / 2 };
  }

  setCurve(curve) {
    this.curve = curve;
    const highest = curve ? Math.max(...curve) : 0;
    this.peaks = [];
    if (!curve || highest <= 0) return;
    for (let k = 0; k < curve.length; k++) {
      const rises = k === 0 || curve[k] > curve[k - 1];
      let end = k;
      while (end + 1 < curve.length && curve[end + 1] === curve[k]) end++;
      const falls = end === curve.length - 1 || curve[end + 1] < curve[k];
      if (rises && falls && curve[k] >= PEAK_SHARE * highest) this.peaks.push(Math.floor((k + end) / 2));
      k = end;
    }
  }

  /** To the next peak of the evidence curve (1) or the one before (-1), round the end; the crosshair to the map's hottest cell. */
  toPeak(direction) {
    if (!this.peaks.length) return;
    const now = this.position[2];
    const ahead = this.peaks.filter((peak) => (peak - now) * direction > 0);
    const [first, last] = [this.peaks[0], this.peaks[this.peaks.length - 1]];
    if (direction > 0) this.moveTo("axial", ahead.length ? ahead[0] : first);
    else this.moveTo("axial", ahead.length ? ahead[ahead.length - 1] : last);
    const hot = this.heat?.hottest(this.position[2]);
    if (hot) this.place([...hot, this.position[2]]);
  }

  /** The names of the panes that the layout shows; "plain" is the chosen plane without the map. */
  get shown() {
    if (this.layout === "planes") return ["axial", "coronal", "sagittal"];
    return this.layout === "compare" ? ["plain", this.plane] : [this.plane];
  }

  /** Whether the map is to be painted in a pane. */
  hasHeat(pane) {
    return Boolean(this.heat?.cells && this.heatShown && this.opacity > 0 && pane !== "plain");
  }
}
