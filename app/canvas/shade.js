/** From numbers to colours: the window as a lookup table, the heat map's palette. */

import { clamp } from "./geometry.js";

/** Matplotlib's inferno at nine places; between them it is linear. */
const INFERNO = [
  [0, 0, 4], [31, 12, 72], [85, 15, 109], [136, 34, 106], [186, 54, 85],
  [227, 89, 51], [249, 140, 10], [249, 201, 50], [252, 255, 164],
];

const OPAQUE = 0xff000000;

/** Palette entry for each heat 0..255: [red, green, blue]. */
export const PALETTE = Array.from({ length: 256 }, (_, heat) => {
  const place = (heat / 255) * (INFERNO.length - 1);
  const low = Math.min(Math.floor(place), INFERNO.length - 2);
  return INFERNO[low].map((value, channel) => Math.round(value + (place - low) * (INFERNO[low + 1][channel] - value)));
});

/** Stored numbers -> pixels, for one window; remade only when the window changes. */
export class Shade {
  constructor(volume) {
    this.volume = volume;
    this.key = "";
    this.table = new Uint32Array(65536);
  }

  /** The table for a window in the volume's unit. `index = stored * scale + offset` leads into it. */
  set(window) {
    const key = `${window.low} ${window.high} ${window.inverted}`;
    if (key === this.key) return;
    this.key = key;
    const { kind, slope, intercept } = this.volume;
    const width = Math.max(window.high - window.low, 1e-9);
    // int16 and colour look their stored number up; float32 is first brought to the window's own 65536 steps.
    this.scale = kind === "float32" ? 65535 / width : 1;
    this.offset = { int16: 32768, float32: (-window.low * 65535) / width, rgb: 0 }[kind];
    for (let n = 0; n < 65536; n++) {
      const share = kind === "float32" ? n / 65535 : ((n - this.offset) * slope + intercept - window.low) / width;
      const grey = Math.round(255 * clamp(window.inverted ? 1 - share : share, 0, 1));
      this.table[n] = OPAQUE | (grey << 16) | (grey << 8) | grey;
    }
  }
}
