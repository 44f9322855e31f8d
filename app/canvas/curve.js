/** The evidence curve under the axial pane: one value a slice; a click or drag leads to the slice. */

import { make } from "./toolbar.js";
import { fill } from "./words.js";

const LINE = "#ffb454";
const AGAINST = "#5b8def";
const NOW = "#4cc2ff";
const AXIS = "#3a4653";

export class Curve {
  constructor(scene, words, changed) {
    this.scene = scene;
    this.words = words;
    this.canvas = make("canvas", { class: "curve", role: "img" });
    const go = (event) => {
      const count = scene.curve.length;
      scene.moveTo("axial", Math.floor((event.offsetX / this.canvas.clientWidth) * count));
      changed();
    };
    this.canvas.addEventListener("pointerdown", (event) => {
      this.canvas.setPointerCapture(event.pointerId);
      go(event);
    });
    this.canvas.addEventListener("pointermove", (event) => { if (event.buttons & 1) go(event); });
  }

  paint() {
    const { canvas, scene, words } = this;
    const { curve, peaks } = scene;
    canvas.hidden = !curve || !scene.shown.includes("axial");
    if (canvas.hidden) return;
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    Object.assign(canvas, { width: Math.round(width * ratio), height: Math.round(height * ratio) });
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    const [low, high] = [Math.min(0, ...curve), Math.max(0, ...curve)];
    const y = (value) => height - 5 - ((value - low) / (high - low || 1)) * (height - 12);
    const x = (k) => ((k + 0.5) / curve.length) * width;
    const bar = Math.max(1, width / curve.length - 0.5);
    context.fillStyle = AXIS;
    context.fillRect(0, y(0), width, 1);
    curve.forEach((value, k) => {
      context.fillStyle = value >= 0 ? LINE : AGAINST;
      context.globalAlpha = k === scene.position[2] ? 1 : 0.55;
      context.fillRect(x(k) - bar / 2, Math.min(y(value), y(0)), bar, Math.max(1, Math.abs(y(value) - y(0))));
    });
    context.globalAlpha = 1;
    context.fillStyle = LINE;
    for (const peak of peaks) {
      context.beginPath();
      context.arc(x(peak), Math.max(3, y(curve[peak]) - 4), 2, 0, 2 * Math.PI);
      context.fill();
    }
    context.fillStyle = NOW;
    context.fillRect(x(scene.position[2]) - 0.75, 0, 1.5, height);
    const label = fill(words.curve, { number: peaks.map((peak) => peak + 1).join(", ") || "–" });
    canvas.setAttribute("aria-label", label);
    canvas.title = words.curve_help;
  }
}
