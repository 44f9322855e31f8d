/**
 * Where voxels lie: in a pane's picture and in the patient. Pure functions, no DOM.
 *
 * A voxel is [x, y, z] of the volume as it is sent: x runs as near as possible to the patient's Left, y to Posterior,
 * z to Superior. The affine (4x4, rows) leads from there to RAS+ millimetres. A picture's point is [column, row],
 * counted from its upper left corner.
 */

/** Plane -> the axis across it, and axis and sign of its columns and rows: the radiological convention. */
export const PLANES = {
  axial: { name: "axial", across: 2, columns: [0, 1], rows: [1, 1] },
  coronal: { name: "coronal", across: 1, columns: [0, 1], rows: [2, -1] },
  sagittal: { name: "sagittal", across: 0, columns: [1, 1], rows: [2, -1] },
};

/** Letters towards the negative and the positive end of each RAS+ axis. */
const LETTERS = ["LR", "PA", "IS"];

/** Sine of 20 degrees: an edge that is turned further shows a second letter (RA: right and anterior). */
const OBLIQUE = 0.34;

/** The plane as the convention shows it: neurological has the patient's left on the left. */
export function conventional(plane, neurological) {
  const [axis, sign] = plane.columns;
  return neurological && axis === 0 ? { ...plane, columns: [axis, -sign] } : plane;
}

/** Number of columns and rows of a plane's picture. */
export function pictureShape(plane, shape) {
  return [shape[plane.columns[0]], shape[plane.rows[0]]];
}

/** Picture point [column, row] of a voxel (fractions allowed). */
export function toPicture(plane, shape, voxel) {
  return [plane.columns, plane.rows].map(([axis, sign]) => (sign > 0 ? voxel[axis] : shape[axis] - 1 - voxel[axis]));
}

/** Voxel of a picture point on the plane's slice `index`. */
export function toVoxel(plane, shape, point, index) {
  const voxel = [0, 0, 0];
  voxel[plane.across] = index;
  [plane.columns, plane.rows].forEach(([axis, sign], n) => {
    voxel[axis] = sign > 0 ? point[n] : shape[axis] - 1 - point[n];
  });
  return voxel;
}

/** Millimetres in the patient (Right, Anterior, Superior) of a voxel. */
export function toPatient(affine, voxel) {
  return [0, 1, 2].map((row) => voxel.reduce((sum, v, axis) => sum + affine[row][axis] * v, affine[row][3]));
}

/** Distance in millimetres between two voxels. */
export function distance(affine, a, b) {
  const [from, to] = [toPatient(affine, a), toPatient(affine, b)];
  return Math.hypot(...from.map((value, axis) => to[axis] - value));
}

/** Millimetres between the centres of neighbouring voxels along each axis. */
export function spacing(affine) {
  return [0, 1, 2].map((axis) => Math.hypot(affine[0][axis], affine[1][axis], affine[2][axis]));
}

/** What lies at the edges of the picture, for example {left: "R", right: "L", top: "A", bottom: "P"}. */
export function edgeLetters(affine, plane) {
  const along = ([axis, sign]) => [0, 1, 2].map((row) => sign * affine[row][axis]);
  const [right, down] = [along(plane.columns), along(plane.rows)];
  return { left: letters(right, -1), right: letters(right, 1), top: letters(down, -1), bottom: letters(down, 1) };
}

function letters(direction, sign) {
  const length = Math.hypot(...direction);
  return direction
    .map((value, axis) => ({ part: Math.abs(value) / length, letter: LETTERS[axis][sign * value > 0 ? 1 : 0] }))
    .sort((a, b) => b.part - a.part)
    .filter(({ part }, n) => n === 0 || part > OBLIQUE)
    .map(({ letter }) => letter)
    .join("");
}

export function clamp(value, low, high) {
  return Math.max(low, Math.min(high, value));
}
