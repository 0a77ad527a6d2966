// All runs of a folder: what became of them, curves of several on the same axes, settings that differ.

import { get, link, remember } from "../api.js";
import { Chart } from "../charts.js";
import { h, notice, number, percent, put, section, table, when } from "../dom.js";
import { panelsOf } from "../panels.js";
import { statusMark } from "../status.js";
import { smoothField } from "../smooth.js";

const MOST_COMPARED = 8;
const FIRST_CURVES = 12;

export async function runsPage(parameters) {
  const first = await get("runs");
  if (first.is_one_run && first.runs.length === 1 && !parameters.has("runs")) {
    const target = link(["run", first.runs[0].name]);
    history.replaceState(null, "", target);
    const { runPage } = await import("./run.js");
    return runPage(first.runs[0].name, new URLSearchParams());
  }
  const page = new RunsPage(first, parameters);
  await page.loadChosen();
  return page;
}

class RunsPage {
  constructor(data, parameters) {
    this.title = "Runs";
    this.trail = [["Runs", link([])]];
    this.data = data;
    const names = data.runs.map((run) => run.name);
    const asked = parameters.getAll("runs").filter((name) => names.includes(name));
    this.chosen = new Set(asked.length ? asked : newest(data.runs, 3));
    this.smooth = Number(parameters.get("smooth") || 0);
    this.loaded = new Map();
    this.charts = [];
    this.list = h("div");
    this.curves = h("div", { class: "charts" });
    this.moreTitle = h("summary");
    this.moreBox = h("div", { class: "charts" });
    this.moreCurves = h("details", { class: "more", ontoggle: () => this.#showCurves() },
      this.moreTitle, this.moreBox);
    this.settings = h("div");
    this.content = h("div", {},
      h("h1", {}, "Runs"),
      h("p", { class: "muted" }, data.place),
      data.runs.length ? null : notice("", "There is no run here yet. Training makes one: ",
        h("code", {}, "ajet --conf x.yaml")),
      this.list,
      section("Curves", smoothField(this.smooth, (value) => this.#setSmooth(value)), this.curves,
        this.moreCurves),
      section("Settings that differ", this.settings));
  }

  start() {
    this.#showList();
    this.#showCurves();
    this.#showSettings();
  }

  close() {
    this.charts.forEach((chart) => chart.close());
  }

  async news(changed) {
    this.data = await get("runs");
    for (const name of changed) this.loaded.delete(name);
    await this.loadChosen();
    this.#showList();
    this.#updateCurves();
  }

  async loadChosen() {
    const wanted = [...this.chosen].filter((name) => !this.loaded.has(name));
    await Promise.all(wanted.map(async (name) => {
      const [metrics, detail] = await Promise.all([get("metrics", { run: name }),
        get("run", { run: name })]);
      this.loaded.set(name, { metrics, settings: detail.settings });
    }));
  }

  #showList() {
    const focused = this.list.contains(document.activeElement) && document.activeElement.value;
    const change = (metrics, name, show) => {
      const values = metrics[name];
      return values ? h("span", {}, show(values[0]), h("span", { class: "muted" }, " → "),
        h("b", {}, show(values[1]))) : "–";
    };
    const columns = [
      { title: "Run", isHead: true, class: "name", cell: (run) => [
        h("input", { type: "checkbox", value: run.name, "aria-label": "compare " + run.name,
          checked: this.chosen.has(run.name), onchange: (event) => this.#choose(event.target) }),
        this.#swatch(run.name),
        h("a", { href: link(["run", run.name]) }, run.name)] },
      { title: "State", cell: (run) => statusMark(run.status) },
      { title: "Step", numeric: true, cell: (run) => run.last_step === null ? "–"
        : run.last_step + (run.total_steps ? " / " + run.total_steps : "") },
      { title: "Reward", numeric: true, cell: (run) => change(run.metrics, "reward/mean", number) },
      { title: "Success", numeric: true,
        cell: (run) => change(run.metrics, "episode/success_rate", percent) },
      { title: "Validation", numeric: true,
        cell: (run) => change(run.metrics, "eval/success_rate", percent) },
      { title: "Backbone", cell: (run) => run.backbone || "–" },
      { title: "Model", cell: (run) => run.model || "–" },
      { title: "Started", cell: (run) => when(run.started_at) },
    ];
    put(this.list, table("Runs; tick those to compare", columns, this.data.runs));
    if (focused) {
      [...this.list.querySelectorAll("input")].find((each) => each.value === focused)?.focus();
    }
  }

  #swatch(name) {
    const at = [...this.chosen].indexOf(name);
    return h("span", { class: at < 0 ? "swatch none" : `swatch series-${at}`,
      "aria-hidden": "true" });
  }

  async #choose(box) {
    if (box.checked && this.chosen.size >= MOST_COMPARED) box.checked = false;
    else if (box.checked) this.chosen.add(box.value);
    else this.chosen.delete(box.value);
    this.#remember();
    await this.loadChosen();
    this.#showList();
    this.#showCurves();
    this.#showSettings();
  }

  #setSmooth(value) {
    this.smooth = value;
    this.#remember();
    this.#updateCurves();
  }

  #remember() {
    remember([], { runs: [...this.chosen], smooth: this.smooth || null });
  }

  #panels() {
    const names = new Set();
    for (const name of this.chosen) {
      Object.keys(this.loaded.get(name)?.metrics.columns ?? {}).forEach((each) => names.add(each));
    }
    // One chart a metric: colours are the runs here.
    return panelsOf([...names]).found.flatMap(({ panel, names: here }) =>
      here.map((name) => ({ panel: { ...panel, stacked: false, title: name }, name })));
  }

  #series(name) {
    return [...this.chosen].map((run, at) => {
      const metrics = this.loaded.get(run)?.metrics;
      const values = metrics?.columns[name];
      return values ? { label: run, steps: metrics.steps, values, colour: at } : null;
    }).filter(Boolean);
  }

  #range() {
    const steps = [...this.chosen].flatMap((run) => this.loaded.get(run)?.metrics.steps ?? []);
    if (!steps.length) return null;
    const low = steps.reduce((a, b) => Math.min(a, b));
    const high = steps.reduce((a, b) => Math.max(a, b));
    return low === high ? [low - 1, high + 1] : [low, high];
  }

  #showCurves() {
    this.close();
    const range = this.#range();
    const all = this.#panels();
    this.drawn = this.moreCurves.open ? all : all.slice(0, FIRST_CURVES);
    this.charts = this.drawn.map(({ panel, name }) =>
      new Chart(panel, this.#series(name), { smooth: this.smooth, sync: "runs", range }));
    const figures = this.charts.map((chart) => chart.figure);
    put(this.curves, figures.length ? figures.slice(0, FIRST_CURVES)
      : notice("", "Tick a run that has metrics."));
    this.moreCurves.hidden = all.length <= FIRST_CURVES;
    put(this.moreTitle, `More metrics (${all.length - FIRST_CURVES})`);
    put(this.moreBox, figures.slice(FIRST_CURVES));
  }

  #updateCurves() {
    const all = this.#panels().map(({ name }) => name);
    const now = (this.moreCurves.open ? all : all.slice(0, FIRST_CURVES)).join("\n");
    if (now !== this.drawn.map(({ name }) => name).join("\n")) {
      this.#showCurves();
      return;
    }
    this.charts.forEach((chart, at) => chart.set(this.#series(this.drawn[at].name),
      { smooth: this.smooth, range: this.#range() }));
  }

  #showSettings() {
    const runs = [...this.chosen].filter((name) => this.loaded.has(name));
    if (runs.length < 2) {
      put(this.settings, notice("", "Tick two runs or more."));
      return;
    }
    const keys = new Set(runs.flatMap((run) => Object.keys(this.loaded.get(run).settings)));
    const value = (run, key) => {
      const found = this.loaded.get(run).settings[key];
      return found === undefined ? "(not set)" : typeof found === "string" ? found
        : JSON.stringify(found);
    };
    const differing = [...keys].filter((key) =>
      new Set(runs.map((run) => value(run, key))).size > 1).sort();
    if (!differing.length) {
      put(this.settings, notice("", "All settings are the same."));
      return;
    }
    put(this.settings, table("Settings that differ", [
      { title: "Setting", isHead: true, cell: (key) => h("code", {}, key) },
      ...runs.map((run) => ({ title: run, class: "wrap", cell: (key) => value(run, key) })),
    ], differing));
  }
}

function newest(runs, howMany) {
  const withMetrics = runs.filter((run) => run.last_step !== null);
  return [...withMetrics].sort((a, b) => String(b.started_at).localeCompare(String(a.started_at)))
    .slice(0, howMany).map((run) => run.name);
}
