/** What is written over a picture: letters, captions, crosshair, scale bar, ruler. */

import { distance, edgeLetters, spacing, toPicture, toVoxel } from "./geometry.js";
import { fill } from "./words.js";

/** Colour of letters and captions: not grey, so that nobody takes them for anatomy. */
const INK = "#96c8e6";
const CROSS = "rgba(76, 194, 255, .75)";
const MARK = "#57d9a3";
const RULER = "#ffd166";
const SCALE_BARS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000];

/** Write everything over one pane's picture. Sizes are in CSS pixels, `ratio` device pixels each. */
export function annotate(context, pane, scene, words) {
  const { width, height, ratio } = pane;
  context.save();
  context.scale(ratio, ratio);
  const size = width < 260 ? 12 : 13;
  context.font = `500 ${size}px system-ui, "DejaVu Sans", sans-serif`;
  context.lineWidth = 1;
  if (scene.crosshair) drawCrosshair(context, pane, scene);
  if (scene.mark) drawMark(context, pane, scene);
  if (scene.ruler?.pane === pane.name) drawRuler(context, pane, scene, words);
  drawCaptions(context, pane, scene, words, size);
  if (scene.volume.hasFrame) {
    const { left, right, top, bottom } = edgeLetters(scene.volume.affine, pane.plane);
    context.font = `600 ${size + 3}px system-ui, "DejaVu Sans", sans-serif`;
    write(context, left, 6, height / 2, "left", "middle");
    write(context, right, width - 6, height / 2, "right", "middle");
    write(context, top, width / 2, 5, "center", "top");
    write(context, bottom, width / 2, height - 5, "center", "bottom");
  }
  context.restore();
}

function drawCaptions(context, pane, scene, words, size) {
  const { width, height, plane } = pane;
  if (!scene.flat) {
    const number = scene.index(plane.name) + 1;
    const caption = fill(words.slice, { plane: words[plane.name], number, count: scene.volume.shape[plane.across] });
    const text = scene.volume.hasFrame ? caption : caption.replace(words[plane.name], "").trim();
    const narrow = context.measureText(text).width > width / 2 - 20; // it would run into the letter at the top
    (narrow ? text.split(" ") : [text]).forEach((line, n) => write(context, line, 7, 6 + n * (size + 3), "left", "top"));
    if (pane.name === "plain") write(context, words.without_map, 7, 10 + size, "left", "top");
  }
  const { low, high } = scene.window;
  const digits = high - low < 20 ? 2 : 0;
  write(context, `W ${(high - low).toFixed(digits)}  L ${((high + low) / 2).toFixed(digits)}`, 7, height - 6, "left", "bottom");
  const voxel = spacing(scene.volume.affine)[plane.columns[0]];
  const perUnit = pane.box.width / pane.columns / voxel;
  const length = SCALE_BARS.findLast((bar) => bar * perUnit <= width / 4);
  if (!length) return;
  const [end, y] = [width - 9, height - 9];
  strokeTwice(context, INK, () => {
    context.moveTo(end - length * perUnit, y - 4);
    context.lineTo(end - length * perUnit, y);
    context.lineTo(end, y);
    context.lineTo(end, y - 4);
  });
  write(context, `${length} ${scene.volume.lengthUnit}`, end, y - 6, "right", "bottom");
}

function drawCrosshair(context, pane, scene) {
  const [x, y] = pane.toScreen(toPicture(pane.plane, scene.volume.shape, scene.position));
  const gap = 12;
  strokeTwice(context, CROSS, () => {
    for (const [from, to] of [[0, x - gap], [x + gap, pane.width]]) {
      if (to > from) { context.moveTo(from, y); context.lineTo(to, y); }
    }
    for (const [from, to] of [[0, y - gap], [y + gap, pane.height]]) {
      if (to > from) { context.moveTo(x, from); context.lineTo(x, to); }
    }
  }, 0.25);
}

function drawMark(context, pane, scene) {
  if (scene.mark[pane.plane.across] !== scene.index(pane.plane.name)) return;
  const [x, y] = pane.toScreen(toPicture(pane.plane, scene.volume.shape, scene.mark));
  strokeTwice(context, MARK, () => { context.moveTo(x + 9, y); context.arc(x, y, 9, 0, 2 * Math.PI); });
}

function drawRuler(context, pane, scene, words) {
  const { from, to, index } = scene.ruler;
  if (index !== scene.index(pane.plane.name)) return;
  const [a, b] = [from, to].map((point) => pane.toScreen(point));
  strokeTwice(context, RULER, () => { context.moveTo(...a); context.lineTo(...b); });
  const [start, end] = [from, to].map((point) => toVoxel(pane.plane, scene.volume.shape, point, index));
  const length = distance(scene.volume.affine, start, end);
  const text = fill(words.length, { length: length.toFixed(1), unit: scene.volume.lengthUnit });
  write(context, text, (a[0] + b[0]) / 2 + 8, (a[1] + b[1]) / 2 - 8, "left", "bottom", RULER);
}

/** A line that is legible on white and on black. */
function strokeTwice(context, colour, path, shadow = 0.7) {
  for (const [style, width] of [[`rgba(0, 0, 0, ${shadow})`, 3], [colour, 1.2]]) {
    context.beginPath();
    path();
    context.strokeStyle = style;
    context.lineWidth = width;
    context.stroke();
  }
}

function write(context, text, x, y, align, baseline, colour = INK) {
  context.textAlign = align;
  context.textBaseline = baseline;
  context.lineJoin = "round";
  context.lineWidth = 4;
  context.strokeStyle = "rgba(0, 0, 0, .9)";
  context.strokeText(text, x, y);
  context.fillStyle = colour;
  context.fillText(text, x, y);
}
