/** One canvas with one plane: its zoom and pan, and how it is painted. */

import { annotate } from "./annotations.js";
import { clamp, pictureShape, spacing } from "./geometry.js";
import { cutHeat, cutVoxels, heatBox, heatShape } from "./slices.js";

const MAX_ZOOM = 30;

/** Part of the pane that the picture fills at zoom 1: the letters stand beside it. */
const FILLED = 0.94;

export class Pane {
  /** @param name "axial", "coronal", "sagittal", or "plain": the chosen plane without the map. */
  constructor(name) {
    this.name = name;
    this.canvas = document.createElement("canvas");
    this.canvas.dataset.pane = name;
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "img");
    this.context = this.canvas.getContext("2d", { alpha: false });
    this.picture = new Bitmap();
    this.overlay = new Bitmap();
    this.view = { zoom: 1, x: 0, y: 0 };
    this.box = { x: 0, y: 0, width: 1, height: 1 };
  }

  /** Fit the canvas to its place on the page; true where that changed it. */
  resize() {
    this.ratio = Math.min(window.devicePixelRatio || 1, 2);
    [this.width, this.height] = [this.canvas.clientWidth, this.canvas.clientHeight];
    const [width, height] = [this.width, this.height].map((side) => Math.max(1, Math.round(side * this.ratio)));
    if (this.canvas.width === width && this.canvas.height === height) return false;
    Object.assign(this.canvas, { width, height });
    return true;
  }

  /** Where the picture lies on the canvas, in CSS pixels, true to the voxels' spacing. */
  measure(scene) {
    this.plane = scene.planeOf(this.name === "plain" ? scene.plane : this.name);
    [this.columns, this.rows] = pictureShape(this.plane, scene.volume.shape);
    const voxel = spacing(scene.volume.affine);
    const [width, height] = [this.columns * voxel[this.plane.columns[0]], this.rows * voxel[this.plane.rows[0]]];
    const scale = FILLED * this.view.zoom * Math.min(this.width / width, this.height / height);
    this.box = { width: width * scale, height: height * scale };
    this.box.x = (this.width - this.box.width) / 2 + this.view.x * this.width;
    this.box.y = (this.height - this.box.height) / 2 + this.view.y * this.height;
  }

  /** Pixel on the canvas (CSS) of the centre of a picture point. */
  toScreen([column, row]) {
    const { x, y, width, height } = this.box;
    return [x + ((column + 0.5) / this.columns) * width, y + ((row + 0.5) / this.rows) * height];
  }

  /** Picture point (fractions; whole numbers are centres) under a pixel of the canvas. */
  toPoint(x, y) {
    const { box } = this;
    return [((x - box.x) / box.width) * this.columns - 0.5, ((y - box.y) / box.height) * this.rows - 0.5];
  }

  /** Zoom by a factor, keeping what lies under the pixel where it is. */
  zoomBy(factor, x, y) {
    const zoom = clamp(this.view.zoom * factor, 0.5, MAX_ZOOM);
    const by = zoom / this.view.zoom;
    const [middleX, middleY] = [this.width / 2, this.height / 2];
    this.view.x = ((this.view.x * this.width + middleX - x) * by + x - middleX) / this.width;
    this.view.y = ((this.view.y * this.height + middleY - y) * by + y - middleY) / this.height;
    this.view.zoom = zoom;
  }

  panBy(x, y) {
    this.view.x = clamp(this.view.x + x / this.width, -this.view.zoom, this.view.zoom);
    this.view.y = clamp(this.view.y + y / this.height, -this.view.zoom, this.view.zoom);
  }

  paint(scene, words) {
    this.resize();
    if (!this.width || !this.height) return;
    this.measure(scene);
    const { context, plane, ratio, box, picture, overlay } = this;
    const { volume, shade, heat } = scene;
    const index = scene.index(plane.name);
    const here = plane.across === 2 ? volume.arrived[index] : volume.count;
    picture.draw(this.columns, this.rows, [plane.name, plane.columns[1], index, shade.key, here].join(), (pixels) =>
      cutVoxels(volume, shade, plane, index, pixels));
    context.fillStyle = "#000";
    context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    context.imageSmoothingEnabled = true;
    const [x, y, width, height] = [box.x, box.y, box.width, box.height].map((side) => side * ratio);
    context.imageSmoothingQuality = width < 0.6 * this.columns ? "high" : "low";
    context.drawImage(picture.canvas, x, y, width, height);
    if (scene.hasHeat(this.name)) {
      const key = [plane.name, plane.columns[1], index, scene.threshold, heat.url].join();
      overlay.draw(...heatShape(heat, plane), key, (pixels) => cutHeat(heat, plane, index, scene.threshold, pixels));
      const [left, top, wide, high] = heatBox(heat, volume, plane);
      context.save();
      context.beginPath();
      context.rect(x, y, width, height);
      context.clip();
      context.globalAlpha = scene.opacity;
      context.drawImage(overlay.canvas, x + left * width, y + top * height, wide * width, high * height);
      context.restore();
    }
    annotate(context, this, scene, words);
  }
}

/** Pixels off the screen, made anew only where their key changes. */
class Bitmap {
  constructor() {
    this.canvas = document.createElement("canvas");
    this.context = this.canvas.getContext("2d");
    this.key = null;
  }

  draw(width, height, key, fill) {
    if (this.key === key) return;
    if (!this.image || this.image.width !== width || this.image.height !== height) {
      Object.assign(this.canvas, { width, height });
      this.image = this.context.createImageData(width, height);
      this.pixels = new Uint32Array(this.image.data.buffer);
    }
    fill(this.pixels);
    this.context.putImageData(this.image, 0, 0);
    this.key = key;
  }
}
