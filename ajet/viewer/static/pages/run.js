// One run: how it stands, its curves, its steps, its failures, its settings.

import { get, link, remember } from "../api.js";
import { Chart } from "../charts.js";
import { count, duration, h, notice, number, percent, put, section, table, when } from "../dom.js";
import { labelOf, panelsOf } from "../panels.js";
import { smoothField } from "../smooth.js";
import { statusMark } from "../status.js";

const STEPS_SHOWN = 15;
const LONG_QUIET_S = 60;

export async function runPage(name, parameters) {
  const [detail, metrics] = await Promise.all([get("run", { run: name }),
    get("metrics", { run: name })]);
  return new RunPage(name, detail, metrics, parameters);
}

class RunPage {
  constructor(name, detail, metrics, parameters) {
    Object.assign(this, { name, detail, metrics, title: name });
    this.trail = [[name, link(["run", name])]];
    this.smooth = Number(parameters.get("smooth") || 0);
    this.showsAllSteps = false;
    this.charts = [];
    this.more = [];
    this.head = h("div");
    this.curves = h("div", { class: "charts" });
    this.moreCurves = h("details", { class: "more", ontoggle: () => this.#showMore() });
    this.steps = h("div");
    this.failures = h("div");
    this.settings = h("div");
    this.how = h("div");
    this.content = h("div", {}, this.head,
      section("Curves", smoothField(this.smooth, (value) => this.#setSmooth(value)),
        this.curves, this.moreCurves),
      section("Steps", this.steps),
      section("Failures by cause", this.failures),
      section("How it was run", this.how),
      section("Settings", this.settings));
  }

  start() {
    this.#showTexts();
    this.#showCurves();
    this.#showSettings();
  }

  close() {
    [...this.charts, ...this.more].forEach((chart) => chart.close());
  }

  async news(changed) {
    if (changed.includes(this.name)) await this.#reload();
    else await this.tick();
  }

  /** While a run is quiet, how long it has been is news; so is an index that is being made. */
  async tick() {
    const { index, status } = this.detail;
    this.ticks = (this.ticks || 0) + 1;
    const isBehind = index.done < index.total && index.done !== this.lastDone;
    this.lastDone = index.done;
    if (isBehind || (status === "running" && this.ticks % 5 === 0)) {
      this.detail = await get("run", { run: this.name });
      this.#showTexts();
    }
  }

  async #reload() {
    const [detail, metrics] = await Promise.all([get("run", { run: this.name }),
      get("metrics", { run: this.name })]);
    Object.assign(this, { detail, metrics });
    this.#showTexts();
    this.#updateCurves();
  }

  #showTexts() {
    this.#showHead();
    this.#showSteps();
    this.#showFailures();
    this.#showHow();
  }

  #last(name) {
    const values = this.metrics.columns[name] ?? [];
    for (let at = values.length - 1; at >= 0; at--) if (values[at] !== null) return values[at];
    return null;
  }

  #showHead() {
    const { detail, metrics } = this;
    const total = detail.settings["ajet.trainer_common.total_training_steps"];
    const step = metrics.steps.length ? metrics.steps.at(-1) : null;
    const facts = [
      ["Step", step === null ? "–" : total ? `${step} of ${total}` : step],
      ["Reward", number(this.#last("reward/mean"))],
      ["Success", percent(this.#last("episode/success_rate"))],
      ["Validation, sampled", percent(this.#last("eval/success_rate"))],
      ["Validation, greedy", percent(this.#last("eval/greedy_success_rate"))],
      ["Backbone", detail.settings["ajet.backbone"] ?? "–"],
      ["Model", lastPart(detail.settings["ajet.model.path"])],
      ["Started", when(detail.processes[0]?.started_at)],
    ];
    put(this.head,
      h("div", { class: "title" }, h("h1", {}, this.name), statusMark(detail.status)),
      detail.status.startsWith("failed") ? notice("bad", detail.status) : null,
      h("dl", { class: "facts" }, facts.map(([name, value]) =>
        h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
      this.#waiting(),
      detail.index.done < detail.index.total
        ? notice("", `Reading episodes: ${percent(detail.index.done / detail.index.total)}`) : null,
      detail.missing.length ? h("div", { class: "notice" },
        h("p", {}, "Not everything can be shown:"),
        h("ul", {}, detail.missing.map((text) => h("li", {}, text)))) : null,
      h("p", { class: "links" },
        h("a", { href: link(["run", this.name, "episodes"]) }, "All episodes"),
        h("a", { href: link(["run", this.name, "episodes"], { failed: "yes" }) }, "Failed episodes"),
        h("a", { href: link([], { runs: [this.name] }) }, "Compare with other runs")));
  }

  #waiting() {
    const { waiting, status, quiet_s: quiet } = this.detail;
    if (waiting) {
      const text = typeof waiting === "string" ? waiting : null;
      return h("div", { class: "notice" }, h("p", {}, "Waiting for: ", text),
        text ? null : h("pre", { class: "json" }, JSON.stringify(waiting, null, 1)));
    }
    if (status !== "running" || quiet === null) return null;
    return notice("", quiet > LONG_QUIET_S
      ? `Nothing was written for ${duration(quiet)}; the run has not said what it waits for.`
      : `Last wrote ${duration(quiet)} ago.`);
  }

  #panelSeries(names) {
    return names.map((name, at) => ({ label: labelOf(name, names), colour: at,
      steps: this.metrics.steps, values: this.metrics.columns[name] ?? [] }));
  }

  #setSmooth(value) {
    this.smooth = value;
    remember(["run", this.name], { smooth: value || null });
    this.#updateCurves();
  }

  #showCurves() {
    this.charts.forEach((chart) => chart.close());
    const { found, left } = panelsOf(Object.keys(this.metrics.columns));
    this.drawn = found;
    this.left = left;
    this.charts = found.map(({ panel, names }) =>
      new Chart(panel, this.#panelSeries(names), { smooth: this.smooth, sync: "run" }));
    put(this.curves, this.charts.length ? this.charts.map((chart) => chart.figure)
      : notice("", "No metrics yet."));
    put(this.moreCurves, left.length ? h("summary", {}, `More metrics (${left.length})`) : null);
    this.moreCurves.hidden = left.length === 0;
    this.#showMore();
  }

  #showMore() {
    this.more.forEach((chart) => chart.close());
    this.moreCurves.querySelector(".charts")?.remove();
    this.more = !this.moreCurves.open ? [] : this.left.map((name) =>
      new Chart({ title: name, fromZero: true }, this.#panelSeries([name]),
        { smooth: this.smooth, sync: "run" }));
    if (this.more.length) {
      this.moreCurves.append(h("div", { class: "charts" }, this.more.map((each) => each.figure)));
    }
  }

  #updateCurves() {
    const { found, left } = panelsOf(Object.keys(this.metrics.columns));
    const same = JSON.stringify([found.map((each) => each.names), left]) ===
      JSON.stringify([this.drawn.map((each) => each.names), this.left]);
    if (!same) {
      this.#showCurves();
      return;
    }
    this.charts.forEach((chart, at) =>
      chart.set(this.#panelSeries(this.drawn[at].names), { smooth: this.smooth }));
    this.more.forEach((chart, at) =>
      chart.set(this.#panelSeries([this.left[at]]), { smooth: this.smooth }));
  }

  #showSteps() {
    const rows = [...this.detail.steps].reverse();
    const shown = this.showsAllSteps ? rows : rows.slice(0, STEPS_SHOWN);
    const target = (row) => link(["run", this.name, "episodes"],
      { step: row.step, phase: row.phase });
    put(this.steps, rows.length ? table("Steps", [
      { title: "Step", isHead: true, cell: (row) =>
        h("a", { href: target(row) }, `${row.step}`) },
      { title: "Phase", cell: (row) => phaseName(row.phase) },
      { title: "Episodes", numeric: true, cell: (row) => count(row.count) },
      { title: "Reward", numeric: true, cell: (row) => number(row.reward_mean) },
      { title: "Success", numeric: true, cell: (row) => percent(row.success_rate) },
      { title: "Failed", numeric: true, cell: (row) => count(row.failed) },
    ], shown) : notice("", "No episodes yet."),
    rows.length > shown.length ? h("button", { type: "button", onclick: () => {
      this.showsAllSteps = true;
      this.#showSteps();
    } }, `Show all ${rows.length}`) : null);
  }

  #showFailures() {
    const { causes } = this.detail;
    put(this.failures, causes.length ? table("Failures by cause", [
      { title: "Kind", isHead: true, cell: (row) => h("a", {
        href: link(["run", this.name, "episodes"], { outcome: row.outcome }) },
        row.outcome.replaceAll("_", " ")) },
      { title: "Cause", class: "wrap", cell: (row) =>
        h("span", { class: "cause" }, row.cause ?? "") },
      { title: "Episodes", numeric: true, cell: (row) => count(row.count) },
      { title: "Last at step", numeric: true, cell: (row) => row.last_step },
    ], causes) : notice("", this.detail.steps.length ? "No episode failed." : "No episodes yet."));
  }

  #showHow() {
    const entries = this.detail.processes;
    put(this.how, entries.length ? entries.map((entry, at) => h("div", { class: "process" },
      h("p", {}, at ? "Resumed " : "Started ", when(entry.started_at),
        entry.ended_at ? `, ended ${when(entry.ended_at)}` : "", ` (${entry.outcome}) on `,
        `${entry.host}, Python ${entry.python}`,
        entry.git_revision ? [", revision ", h("code", {}, entry.git_revision.slice(0, 12))] : ""),
      h("pre", { class: "command" }, entry.command.join(" ")),
      h("p", { class: "muted" }, Object.entries(entry.versions)
        .map(([name, version]) => `${name} ${version}`).join(", "))))
      : notice("", "run.json does not say."));
  }

  #showSettings() {
    const rows = Object.entries(this.detail.settings);
    put(this.settings, rows.length ? h("details", {},
      h("summary", {}, `All settings (${rows.length})`),
      table("Settings", [
        { title: "Setting", isHead: true, cell: ([key]) => h("code", {}, key) },
        { title: "Value", class: "wrap", cell: ([, value]) =>
          typeof value === "string" ? value : JSON.stringify(value) },
      ], rows)) : notice("", "config.yaml is not there."));
  }
}

export function phaseName(phase) {
  return { train: "training", eval: "evaluation, sampled", eval_greedy: "evaluation, greedy" }[phase]
    ?? phase;
}

function lastPart(path) {
  return typeof path === "string" ? path.replace(/\/+$/, "").split("/").at(-1) : "–";
}
