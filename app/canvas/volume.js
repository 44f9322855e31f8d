/**
 * The voxels, as they arrive. One request brings them slice by slice, the slice to show first and then its neighbours,
 * ever further away: so the first picture stands long before the rest is here.
 */

const KINDS = { int16: Int16Array, float32: Float32Array, rgb: Uint8Array };

/** Slice numbers in the order in which they are sent: first, first + 1, first - 1, first + 2, ... */
export function sendingOrder(first, count) {
  const order = [first];
  for (let step = 1; order.length < count; step++) {
    if (first + step < count) order.push(first + step);
    if (first - step >= 0) order.push(first - step);
  }
  return order;
}

export class Volume {
  /** @param description What Python says of it: url, kind, shape, affine, slope, intercept, unit, first. */
  constructor(description) {
    Object.assign(this, description);
    const [x, y, z] = this.shape;
    this.channels = this.kind === "rgb" ? 3 : 1;
    this.raw = new KINDS[this.kind](x * y * z * this.channels);
    this.arrived = new Uint8Array(z);
    this.count = 0;
  }

  /** Share of the slices that are here, 0 to 1. */
  get progress() {
    return this.count / this.shape[2];
  }

  /** What a voxel holds in the volume's unit (colour: three numbers); null where nothing is, or not yet. */
  value(voxel) {
    const [x, y, z] = voxel;
    if (voxel.some((v, axis) => v < 0 || v >= this.shape[axis]) || !this.arrived[z]) return null;
    const at = ((z * this.shape[1] + y) * this.shape[0] + x) * this.channels;
    const stored = Array.from(this.raw.subarray(at, at + this.channels));
    const found = stored.map((value) => value * this.slope + this.intercept);
    return this.channels === 3 ? found : found[0];
  }

  /** Fetch every slice; `onSlices` is told after each portion that arrived. */
  async load(onSlices, signal) {
    const answer = await fetch(this.url, { signal, cache: "no-store", credentials: "same-origin" });
    if (!answer.ok) throw new Error(String(answer.status));
    const bytes = new Uint8Array(this.raw.buffer);
    const size = bytes.length / this.shape[2];
    const order = sendingOrder(this.first, this.shape[2]);
    const reader = answer.body.getReader();
    for (let filled = 0; ; ) {
      const { done, value } = await reader.read();
      if (done) break;
      const before = this.count;
      for (let taken = 0; taken < value.length; ) {
        if (this.count >= order.length) throw new Error("too long");
        const room = Math.min(size - filled, value.length - taken);
        bytes.set(value.subarray(taken, taken + room), order[this.count] * size + filled);
        taken += room;
        filled = (filled + room) % size;
        if (filled === 0) this.arrived[order[this.count++]] = 1;
      }
      if (this.count > before) onSlices();
    }
    if (this.count < this.shape[2]) throw new Error("too short");
  }
}

/** The heat map: a coarse grid on the volume's own axes; a cell covers `steps` voxels and begins at voxel 0. */
export class Heat {
  constructor(description) {
    Object.assign(this, description);
    this.cells = null;
  }

  async load(signal) {
    const answer = await fetch(this.url, { signal, cache: "no-store", credentials: "same-origin" });
    if (!answer.ok) throw new Error(String(answer.status));
    this.cells = new Uint8Array(await answer.arrayBuffer());
  }

  /** The voxel [x, y] in the hottest cell of slice z; null where the map is dark or not here yet. */
  hottest(z) {
    const [columns, rows, planes] = this.shape;
    const [wide, high, thick] = this.steps;
    const plane = Math.min(planes - 1, Math.floor(z / thick)) * rows * columns;
    const cells = this.cells?.subarray(plane, plane + rows * columns) ?? [];
    const most = cells.reduce((a, b) => Math.max(a, b), 0);
    if (most === 0) return null;
    const at = cells.indexOf(most);
    return [(at % columns + 0.5) * wide - 0.5, (Math.floor(at / columns) + 0.5) * high - 0.5];
  }
}
