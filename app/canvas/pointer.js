/** Mouse, pen and touch on the panes. */

import { toVoxel } from "./geometry.js";

/** CSS pixels of a finger's way that make one slice. */
const PIXELS_PER_SLICE = 8;

/** Listen on a pane; `changed` is called after every change. Everything ends with `signal`. */
export function listen(pane, scene, changed, signal) {
  const { canvas } = pane;
  const touches = new Map();
  let drag = null;
  let wheel = 0;

  const on = (type, react, options = {}) => canvas.addEventListener(type, react, { signal, ...options });

  on("wheel", (event) => {
    event.preventDefault();
    if (event.ctrlKey || scene.flat) {
      pane.zoomBy(Math.exp(-event.deltaY / 400), event.offsetX, event.offsetY);
    } else {
      // A mouse's notch is 100 or 120 pixels, a trackpad sends many small ones.
      wheel += Math.abs(event.deltaY) >= 50 ? Math.sign(event.deltaY) * 40 : event.deltaY;
      const slices = Math.trunc(wheel / 40);
      wheel -= slices * 40;
      scene.step(pane.plane.name, slices);
    }
    changed();
  }, { passive: false });

  on("pointerdown", (event) => {
    canvas.focus({ preventScroll: true });
    canvas.setPointerCapture(event.pointerId);
    if (event.pointerType === "touch") touches.set(event.pointerId, [event.offsetX, event.offsetY]);
    drag = begin(event);
    drag.move(event);
    changed();
  });

  on("pointermove", (event) => {
    if (touches.size === 2 && touches.has(event.pointerId)) pinch(event);
    else if (drag) drag.move(event);
    scene.cursor = under(event);
    changed();
  });

  for (const type of ["pointerup", "pointercancel"]) {
    on(type, (event) => {
      touches.delete(event.pointerId);
      if (type === "pointerup") drag?.end?.(event);
      drag = null;
      changed();
    });
  }

  on("pointerleave", () => {
    scene.cursor = null;
    changed();
  });
  on("dblclick", () => {
    if (scene.flat) return;
    const single = scene.layout !== "planes";
    Object.assign(scene, single ? { layout: "planes" } : { layout: "one", plane: pane.plane.name });
    changed();
  });
  on("contextmenu", (event) => event.preventDefault());

  function under(event) {
    const point = pane.toPoint(event.offsetX, event.offsetY).map(Math.round);
    return toVoxel(pane.plane, scene.volume.shape, point, scene.index(pane.plane.name));
  }

  /** What a drag from here does: `move` at every step, `end` when it is let go. */
  function begin(event) {
    const tool = toolOf(event);
    const [startX, startY] = [event.offsetX, event.offsetY];
    let [lastX, lastY] = [startX, startY];
    if (tool === "window") {
      const start = scene.window;
      return { move: (e) => scene.dragWindow(start, e.offsetX - startX, e.offsetY - startY) };
    }
    if (tool === "measure") {
      const from = pane.toPoint(startX, startY);
      const index = scene.index(pane.plane.name);
      return {
        move: (e) => { scene.ruler = { pane: pane.name, index, from, to: pane.toPoint(e.offsetX, e.offsetY) }; },
        end: (e) => { if (Math.hypot(e.offsetX - startX, e.offsetY - startY) < 3) scene.ruler = null; },
      };
    }
    if (tool === "scroll") {
      const start = scene.index(pane.plane.name);
      return {
        move: (e) => scene.moveTo(pane.plane.name, start + Math.round((startY - e.offsetY) / PIXELS_PER_SLICE)),
        end: (e) => { if (Math.hypot(e.offsetX - startX, e.offsetY - startY) < 6) scene.place(under(e)); },
      };
    }
    if (tool === "pan") {
      return {
        move: (e) => {
          pane.panBy(e.offsetX - lastX, e.offsetY - lastY);
          [lastX, lastY] = [e.offsetX, e.offsetY];
        },
      };
    }
    return { move: (e) => scene.place(under(e)) };
  }

  function toolOf(event) {
    if (event.button === 2) return "window";
    if (event.button === 1 || event.ctrlKey || event.altKey) return "pan";
    if (event.shiftKey) return "measure";
    if (scene.tool !== "navigate") return scene.tool;
    if (scene.flat) return event.pointerType === "touch" ? "window" : "pan";
    return event.pointerType === "touch" ? "scroll" : "navigate";
  }

  /** Two fingers: their distance zooms, their middle pans. */
  function pinch(event) {
    drag = null;
    const state = () => {
      const [a, b] = [...touches.values()];
      return { x: (a[0] + b[0]) / 2, y: (a[1] + b[1]) / 2, apart: Math.hypot(a[0] - b[0], a[1] - b[1]) };
    };
    const before = state();
    touches.set(event.pointerId, [event.offsetX, event.offsetY]);
    const after = state();
    pane.panBy(after.x - before.x, after.y - before.y);
    if (before.apart > 0) pane.zoomBy(after.apart / before.apart, after.x, after.y);
  }
}
