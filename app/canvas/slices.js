/** Cuts a plane out of the voxels or of the heat map, as pixels. The inner loops: measured, keep them plain. */

import { pictureShape } from "./geometry.js";
import { PALETTE } from "./shade.js";

/** Where the picture's first pixel lies in an array [z, y, x], and how far the next column and the next row are. */
function strides(plane, shape, index) {
  const along = [1, shape[0], shape[0] * shape[1]];
  let start = index * along[plane.across];
  const steps = [plane.columns, plane.rows].map(([axis, sign]) => {
    if (sign < 0) start += (shape[axis] - 1) * along[axis];
    return sign * along[axis];
  });
  return [start, ...steps];
}

/** Fill `pixels` (Uint32, row by row) with slice `index` of the plane; black where nothing has arrived yet. */
export function cutVoxels(volume, shade, plane, index, pixels) {
  const [columns, rows] = pictureShape(plane, volume.shape);
  const [start, right, down] = strides(plane, volume.shape, index);
  const fill = { int16: fillInt16, float32: fillFloat32, rgb: fillColour }[volume.kind];
  const [rowAxis, rowSign] = plane.rows;
  for (let row = 0; row < rows; row++) {
    const z = rowAxis === 2 ? (rowSign > 0 ? row : rows - 1 - row) : index;
    const out = row * columns;
    if (volume.arrived[z]) fill(volume.raw, shade, start + row * down, right, pixels, out, out + columns);
    else pixels.fill(0xff000000, out, out + columns);
  }
}

function fillInt16(raw, shade, at, step, pixels, from, to) {
  const table = shade.table;
  for (let out = from; out < to; out++, at += step) pixels[out] = table[raw[at] + 32768];
}

function fillFloat32(raw, shade, at, step, pixels, from, to) {
  const { table, scale, offset } = shade;
  for (let out = from; out < to; out++, at += step) {
    const index = raw[at] * scale + offset;
    pixels[out] = table[index < 0 ? 0 : index > 65535 ? 65535 : index | 0];
  }
}

function fillColour(raw, shade, at, step, pixels, from, to) {
  const table = shade.table;
  for (let out = from; out < to; out++, at += step) {
    const [red, green, blue] = [table[raw[3 * at]], table[raw[3 * at + 1]], table[raw[3 * at + 2]]];
    pixels[out] = (0xff000000 | (blue & 0xff0000) | (green & 0xff00) | (red & 0xff)) >>> 0;
  }
}

/** Cells of the heat map that the plane cuts: [columns, rows] of the coarse picture. */
export function heatShape(heat, plane) {
  return pictureShape(plane, heat.shape);
}

/** Fill `pixels` with the heat map at slice `index`, linear between its cells; clear below the threshold (0..1). */
export function cutHeat(heat, plane, index, threshold, pixels) {
  const [columns, rows] = heatShape(heat, plane);
  const last = heat.shape[plane.across] - 1;
  const place = Math.max(0, Math.min(last, (index + 0.5) / heat.steps[plane.across] - 0.5));
  const low = Math.floor(place);
  const part = place - low;
  const [start, right, down] = strides(plane, heat.shape, low);
  const [next] = strides(plane, heat.shape, Math.min(low + 1, last));
  for (let row = 0, out = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++, out++) {
      const at = row * down + column * right;
      const warmth = Math.round(heat.cells[start + at] * (1 - part) + heat.cells[next + at] * part);
      const [red, green, blue] = PALETTE[warmth];
      pixels[out] = warmth <= threshold * 255 ? 0 : ((warmth << 24) | (blue << 16) | (green << 8) | red) >>> 0;
    }
  }
}

/** Where the coarse picture lies over the fine one, in shares of its width and height: [left, top, width, height]. */
export function heatBox(heat, volume, plane) {
  const [x, y] = [plane.columns, plane.rows].map(([axis, sign]) => {
    const share = (heat.shape[axis] * heat.steps[axis]) / volume.shape[axis];
    return [sign > 0 ? 0 : 1 - share, share];
  });
  return [x[0], y[0], x[1], y[1]];
}
