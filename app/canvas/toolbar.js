/** Buttons and sliders around the panes, the status line, the keyboard help. All words come from Python. */

import { HELP } from "./keys.js";
import { TOOLS } from "./scene.js";

/** Paths of the icons, drawn on 20 by 20. */
const ICONS = {
  navigate: "M10 2v6M10 12v6M2 10h6M12 10h6",
  window: "M10 3a7 7 0 1 0 0 14zM10 3a7 7 0 0 1 0 14",
  pan: "M10 2v16M2 10h16M10 2l-2 2M10 2l2 2M10 18l-2-2M10 18l2-2M2 10l2-2M2 10l2 2M18 10l-2-2M18 10l-2 2",
  measure: "M3 14L14 3l3 3L6 17zM7 10l2 2M10 7l2 2",
  planes: "M3 3h8v14H3zM13 3h4v6h-4zM13 11h4v6h-4z",
  one: "M3 3h14v14H3z",
  compare: "M3 3h6v14H3zM11 3h6v14h-6z",
  mark: "M10 6a4 4 0 1 0 0 8 4 4 0 0 0 0-8M10 1v4M10 15v4M1 10h4M15 10h4",
  previous: "M12 4l-6 6 6 6", next: "M8 4l6 6-6 6",
  help: "M7 7a3 3 0 1 1 4 3c-1 .5-1 1-1 2M10 15v.5",
};

/** An element with attributes and children; functions become listeners. */
export function make(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else if (value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 20 20");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

export class Toolbar {
  /** @param changed Called after every change. @param actions `mark`, `help`. */
  constructor(scene, words, changed, actions) {
    this.scene = scene;
    this.pressed = []; // [button, () => whether it is on]
    const act = (react) => () => { react(); changed(); };
    const press = (label, content, react, isOn = null) => {
      const button = make("button", { type: "button", title: label, "aria-label": label, click: act(react) }, content);
      if (isOn) this.pressed.push([button, isOn]);
      return button;
    };
    const group = (label, ...buttons) => make("div", { class: "group", role: "group", "aria-label": label }, ...buttons);

    const presets = scene.windows.map((window) =>
      press(window.label, window.label, () => scene.preset(window.name), () => scene.window.name === window.name));
    const tools = TOOLS.map((tool) =>
      press(words[`tool_${tool}`], icon(tool), () => { scene.tool = tool; }, () => scene.tool === tool));
    const layouts = ["planes", "one", "compare"].filter((layout) => !scene.flat || layout !== "planes").map((layout) =>
      press(words[`layout_${layout}`], icon(layout), () => { scene.layout = layout; }, () => scene.layout === layout));
    const convention = scene.volume.hasFrame
      ? press(words.convention_help, "", () => { scene.neurological = !scene.neurological; })
      : null;
    this.describeConvention = () => {
      if (convention) convention.textContent = words[scene.neurological ? "neurological" : "radiological"];
    };
    this.top = make("div", { class: "bar" },
      make("div", { class: "group presets", role: "group", "aria-label": words.window }, ...presets),
      make("div", { class: "right" },
        group(words.tools, ...tools), group(words.layout, ...layouts),
        group(words.more, ...(convention ? [convention] : []), press(words.mark, icon("mark"), actions.mark),
          press(words.help, icon("help"), actions.help))));

    const slide = (name, label) => {
      const input = make("input", {
        type: "range", min: 0, max: 1, step: 0.05, "aria-label": label,
        input: () => { scene[name] = Number(input.value); scene.heatShown = true; changed(); },
      });
      this[name] = input;
      return make("label", {}, label, input);
    };
    this.map = make("div", { class: "bar map", role: "group", "aria-label": words.map },
      press(words.map_help, words.map, () => { scene.heatShown = !scene.heatShown; }, () => scene.heatShown),
      slide("opacity", words.opacity), slide("threshold", words.threshold));
    this.steps = group(words.peaks, press(words.previous_peak, icon("previous"), () => scene.toPeak(-1)),
      make("span", {}, words.peaks), press(words.next_peak, icon("next"), () => scene.toPeak(1)));
    this.map.append(this.steps);
  }

  /** Show the scene's state in the buttons and sliders. */
  update() {
    for (const [button, isOn] of this.pressed) button.setAttribute("aria-pressed", String(isOn()));
    this.describeConvention();
    this.map.hidden = !this.scene.heat && !this.scene.curve;
    this.steps.hidden = !this.scene.peaks.length;
    this.opacity.value = this.scene.opacity;
    this.threshold.value = this.scene.threshold;
  }
}

/** The keyboard help: a dialog over the panes. */
export function makeHelp(words) {
  const rows = HELP.map(([keys, sentence]) => [make("dt", {}, keys), make("dd", {}, words[sentence])]).flat();
  const dialog = make("dialog", { class: "help", "aria-label": words.help },
    make("h2", {}, words.help), make("dl", {}, ...rows), make("p", {}, words.mouse),
    make("p", {}, words.touch));
  dialog.append(make("button", { type: "button", click: () => dialog.close() }, words.close));
  return dialog;
}
