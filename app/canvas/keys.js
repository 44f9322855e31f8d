/** The keyboard: every action of the canvas by a key. The help lists the same table. */

/** Rows of the help: the keys, and the sentence that says what they do. */
export const HELP = [
  ["↑ ↓", "key_slice"], ["Page ↑ ↓", "key_ten"], ["Home End", "key_ends"], ["N  Shift N", "key_peak"],
  ["1 2 3", "key_plane"], ["4", "key_planes"], ["C", "key_compare"], ["W", "key_window"], ["I", "key_invert"],
  ["M", "key_map"], ["[ ]", "key_opacity"], [", .", "key_threshold"], ["+ − 0", "key_zoom"], ["X", "key_crosshair"],
  ["R", "key_convention"], ["P", "key_point"], ["Esc", "key_escape"], ["?", "key_help"],
];

/** Do what a key asks for on a pane; false where it asks for nothing. */
export function press(event, pane, scene, actions) {
  if (event.ctrlKey || event.metaKey || event.altKey) return false;
  const name = pane.plane.name;
  const last = scene.volume.shape[pane.plane.across] - 1;
  const middle = [pane.width / 2, pane.height / 2];
  const by = (field, change) => { scene[field] = Math.round(100 * Math.max(0, Math.min(1, scene[field] + change))) / 100; };
  const only = (plane) => !scene.flat && Object.assign(scene, { layout: "one", plane });
  const react = {
    ArrowUp: () => scene.step(name, 1), ArrowRight: () => scene.step(name, 1),
    ArrowDown: () => scene.step(name, -1), ArrowLeft: () => scene.step(name, -1),
    PageUp: () => scene.step(name, 10), PageDown: () => scene.step(name, -10),
    Home: () => scene.moveTo(name, 0), End: () => scene.moveTo(name, last),
    n: () => scene.toPeak(1), N: () => scene.toPeak(-1),
    1: () => only("axial"), 2: () => only("coronal"), 3: () => only("sagittal"),
    4: () => { if (!scene.flat) scene.layout = "planes"; },
    c: () => { scene.layout = scene.layout !== "compare" ? "compare" : scene.flat ? "one" : "planes"; },
    w: () => scene.nextPreset(),
    i: () => { scene.window = { ...scene.window, inverted: !scene.window.inverted }; },
    m: () => { scene.heatShown = !scene.heatShown; },
    "[": () => by("opacity", -0.1), "]": () => by("opacity", 0.1),
    ",": () => by("threshold", -0.05), ".": () => by("threshold", 0.05),
    "+": () => pane.zoomBy(1.25, ...middle), "=": () => pane.zoomBy(1.25, ...middle),
    "-": () => pane.zoomBy(0.8, ...middle), 0: () => Object.assign(pane.view, { zoom: 1, x: 0, y: 0 }),
    x: () => { scene.crosshair = !scene.crosshair; },
    r: () => { if (scene.volume.hasFrame) scene.neurological = !scene.neurological; },
    p: () => actions.mark(),
    "?": () => actions.help(), h: () => actions.help(),
    Escape: () => { scene.ruler = null; actions.closeHelp(); },
  }[event.key.length === 1 && event.key !== "N" ? event.key.toLowerCase() : event.key];
  if (!react) return false;
  react();
  return true;
}
