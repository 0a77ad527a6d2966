// Curves over steps, drawn by uPlot, with a legend, a table for readers, and the same x axis.

import uPlot from "./vendor/uplot/uPlot.esm.js";
import { h, number, percent, put, table } from "./dom.js";
import { colour, onTheme } from "./theme.js";

const HEIGHT = 190;
const FEW_POINTS = 60;
export const NUM_COLOURS = 8;

/** Exponential moving average, corrected at the start; gaps stay gaps. */
export function smoothed(values, weight) {
  if (!weight) return values;
  let sum = 0;
  let norm = 0;
  return values.map((value) => {
    if (value === null || value === undefined) return null;
    sum = weight * sum + (1 - weight) * value;
    norm = weight * norm + (1 - weight);
    return sum / norm;
  });
}

/** The steps that have a value; `nan` and `inf` become null, which is a gap, and are in `odd`. */
function withoutHoles(steps, values, isLog) {
  const byStep = new Map();
  const odd = new Map();
  steps.forEach((step, at) => {
    const value = values[at];
    const isNumber = typeof value === "number";
    if (value === null || value === undefined || (isNumber && isLog && value <= 0)) return;
    // A resumed run may have written a step twice: the last one counts.
    byStep.set(step, isNumber ? value : null);
    odd.delete(step);
    if (!isNumber) odd.set(step, String(value));
  });
  const order = [...byStep.keys()].sort((a, b) => a - b);
  return { steps: order, values: order.map((step) => byStep.get(step)), odd };
}

/**
 * A figure with one chart.
 *
 * panel: {title, unit: "share" | "", scale: "log" | "", stacked}
 * series: [{label, steps, values, colour: 0…7}]
 */
export class Chart {
  constructor(panel, series, { smooth = 0, sync = null, range = null } = {}) {
    this.panel = panel;
    this.options = { smooth, sync, range };
    this.legend = h("ul", { class: "legend" });
    this.place = h("div", { class: "plot", role: "img" });
    this.values = h("div", { class: "values" });
    this.button = h("button", { type: "button", class: "quiet small", "aria-pressed": "false",
      "aria-label": "Values of " + panel.title + " as a table", onclick: () => this.#toggle() }, "table");
    this.figure = h("figure", { class: "chart" },
      h("figcaption", {}, h("span", { class: "chart-title" }, panel.title), this.button),
      this.place, this.legend, this.values);
    this.observer = new ResizeObserver(() => this.#resize());
    this.observer.observe(this.place);
    this.stopTheme = onTheme(() => this.#draw());
    this.set(series);
  }

  set(series, options = {}) {
    Object.assign(this.options, options);
    this.series = series.map((each) => {
      const found = withoutHoles(each.steps, each.values, this.panel.scale === "log");
      return { ...each, ...found };
    });
    this.#draw();
    if (this.button.getAttribute("aria-pressed") === "true") this.#showTable();
  }

  close() {
    this.observer.disconnect();
    this.stopTheme();
    this.plot?.destroy();
  }

  #show(each, at) {
    const value = each.values[at] ?? each.odd.get(each.steps[at]);
    return this.panel.unit === "share" ? percent(value) : number(value);
  }

  #draw() {
    const width = this.place.clientWidth;
    if (!width) return;
    this.plot?.destroy();
    const { data, bands } = this.#data();
    this.plot = new uPlot({
      width, height: HEIGHT, bands,
      legend: { show: false },
      padding: [8, 12, 0, 0],
      cursor: { points: { size: 6 }, drag: { x: true, y: false },
        sync: this.options.sync ? { key: this.options.sync } : undefined },
      scales: { x: { time: false, range: this.options.range ? () => this.options.range : stepRange },
        y: { distr: this.panel.scale === "log" ? 3 : 1, range: this.#yRange() } },
      axes: [this.#axis({ label: "step", size: 24, values: (u, ticks) => ticks.map((t) =>
        Number.isInteger(t) ? number(t) : "") }),
        this.#axis({ size: 58, values: (u, ticks) => ticks.map((t) => this.#tick(t)) })],
      series: [{}, ...this.#lines()],
      hooks: { setCursor: [(plot) => this.#showLegend(plot.cursor.idx, data)] },
    }, data, this.place);
    this.#showLegend(null, data);
    this.place.setAttribute("aria-label", this.#inWords());
  }

  #data() {
    if (!this.series.length) return { data: [[]], bands: [] };
    const raw = this.series.map((each) => [each.steps, each.values]);
    const smooth = this.options.smooth && !this.panel.stacked
      ? this.series.map((each) => [each.steps, smoothed(each.values, this.options.smooth)]) : [];
    const data = uPlot.join([...smooth, ...raw]);
    if (!this.panel.stacked) return { data, bands: [] };
    const sums = data[0].map(() => 0);
    for (let at = 1; at < data.length; at++) {
      data[at] = data[at].map((value, x) => (sums[x] += value ?? 0));
    }
    const bands = data.slice(2).map((_, at) => ({ series: [at + 2, at + 1] }));
    return { data, bands };
  }

  #lines() {
    const { smooth } = this.options;
    const line = (each, isFaint) => {
      const stroke = colour(`series-${each.colour % NUM_COLOURS}`);
      const isStacked = this.panel.stacked;
      return {
        label: each.label,
        stroke: isFaint ? stroke + "55" : stroke,
        width: isFaint ? 1 : 1.75,
        fill: isStacked ? stroke + "66" : undefined,
        points: { show: !isFaint && each.steps.length <= (isStacked ? 1 : FEW_POINTS), size: 4.5,
          fill: stroke },
      };
    };
    if (smooth && !this.panel.stacked) {
      return [...this.series.map((each) => line(each, false)),
        ...this.series.map((each) => line(each, true))];
    }
    return this.series.map((each) => line(each, false));
  }

  #axis(more) {
    return { stroke: colour("muted"), font: "12px system-ui, sans-serif",
      labelFont: "12px system-ui, sans-serif", labelSize: 15, labelGap: 0, gap: 5,
      grid: { stroke: colour("grid"), width: 1 }, ticks: { show: false }, ...more };
  }

  #tick(value) {
    if (value === null) return "";
    return this.panel.unit === "share" ? Math.round(100 * value) + "%" : short(value);
  }

  #yRange() {
    if (this.panel.unit === "share") return [0, 1];
    if (this.panel.scale === "log") return undefined;
    return (plot, low, high) => {
      if (low === null || high === null) return [0, 1];
      if (this.panel.stacked || (this.panel.fromZero && low >= 0)) return [0, high * 1.08 || 1];
      const room = (high - low) * 0.08 || Math.abs(high) * 0.1 || 1;
      return [low - room, high + room];
    };
  }

  #resize() {
    const width = this.place.clientWidth;
    if (!this.plot) this.#draw();
    else if (width && width !== this.plot.width) this.plot.setSize({ width, height: HEIGHT });
  }

  #showLegend(at, data) {
    const step = at === null || at === undefined ? null : data[0][at];
    put(this.legend, this.series.map((each) => {
      const where = step === null ? each.values.length - 1 : each.steps.indexOf(step);
      return h("li", {},
        h("span", { class: `swatch series-${each.colour % NUM_COLOURS}`, "aria-hidden": "true" }),
        h("span", {}, each.label), " ",
        h("b", {}, where < 0 ? "–" : this.#show(each, where)),
        each.odd.size ? h("span", { class: "warn" },
          ` no number at ${each.odd.size} of ${each.steps.length} steps`) : null);
    }), step !== null ? h("li", { class: "muted" }, "step " + step) : null);
  }

  #inWords() {
    const parts = this.series.filter((each) => each.values.length).map((each) => {
      const last = each.values.length - 1;
      return `${each.label}: ${this.#show(each, 0)} at step ${each.steps[0]}, ` +
        `${this.#show(each, last)} at step ${each.steps[last]}`;
    });
    return `${this.panel.title}. ${parts.join("; ")}`;
  }

  #toggle() {
    const isOpen = this.button.getAttribute("aria-pressed") === "true";
    this.button.setAttribute("aria-pressed", String(!isOpen));
    if (isOpen) put(this.values);
    else this.#showTable();
  }

  #showTable() {
    const steps = [...new Set(this.series.flatMap((each) => each.steps))].sort((a, b) => a - b);
    const columns = [{ title: "step", cell: (step) => step, numeric: true, isHead: true },
      ...this.series.map((each) => ({ title: each.label, numeric: true, cell: (step) => {
        const at = each.steps.indexOf(step);
        return at < 0 ? "" : this.#show(each, at);
      } }))];
    put(this.values, table("Values of " + this.panel.title, columns, steps));
  }
}

function stepRange(plot, low, high) {
  if (low === null || high === null) return [0, 1];
  return low === high ? [low - 1, high + 1] : [low, high];
}

function short(value) {
  const size = Math.abs(value);
  if (size >= 1e12) return value.toExponential(0);
  if (size >= 1e9) return +(value / 1e9).toPrecision(3) + "G";
  if (size >= 1e6) return +(value / 1e6).toPrecision(3) + "M";
  if (size >= 1e4) return +(value / 1e3).toPrecision(3) + "k";
  if (size !== 0 && size < 1e-3) return value.toExponential(0);
  return String(+value.toPrecision(3));
}
