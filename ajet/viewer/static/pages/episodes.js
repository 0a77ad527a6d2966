// The episodes of a step, or of a whole run: filtered, sorted, searched.

import { get, link, remember } from "../api.js";
import { count, counted, duration, h, notice, number, percent, put, table } from "../dom.js";
import { outcomeMark } from "../status.js";
import { phaseName } from "./run.js";

const FIELDS = ["step", "phase", "task_id", "success", "failed", "outcome", "agent", "min_reward",
  "max_reward", "min_length", "max_length", "text", "sort", "order", "offset"];
const LIMIT = 50;
const TYPING_MS = 300;

export async function episodesPage(name, parameters) {
  const state = Object.fromEntries(FIELDS.map((field) => [field, parameters.get(field) ?? ""]));
  const detail = await get("run", { run: name });
  const page = new EpisodesPage(name, detail, state);
  await page.load();
  return page;
}

class EpisodesPage {
  constructor(name, detail, state) {
    Object.assign(this, { name, detail, state });
    this.title = `Episodes of ${name}`;
    this.trail = [[name, link(["run", name])], ["Episodes", ""]];
    this.results = h("div", { "aria-live": "off" });
    this.summary = h("p", { class: "muted", role: "status" });
    this.form = h("form", { class: "filters", role: "search",
      onsubmit: (event) => event.preventDefault() });
    this.keys = { "[": () => this.#moveStep(-1), "]": () => this.#moveStep(1) };
    this.#showForm();
    this.content = h("div", {}, h("h1", {}, "Episodes"), this.form, this.summary, this.results);
  }

  start() {
    this.#show();
  }

  async load() {
    const turn = (this.turn = (this.turn || 0) + 1);
    const found = await get("episodes", { run: this.name, limit: LIMIT, ...this.state });
    if (turn === this.turn) this.data = found;
  }

  async news(changed) {
    if (!changed.includes(this.name) || this.isTyping) return;
    this.detail = await get("run", { run: this.name });
    await this.#reload();
  }

  async tick() {
    const { index } = this.data;
    if (index.done < index.total && index.done !== this.lastDone) await this.#reload();
    this.lastDone = this.data.index.done;
  }

  async #reload() {
    try {
      await this.load();
      this.#show();
    } catch (error) {
      put(this.summary, error.message);
    }
  }

  async #set(changes) {
    Object.assign(this.state, { offset: "" }, changes);
    const given = Object.fromEntries(Object.entries(this.state).filter(([, value]) => value));
    remember(["run", this.name, "episodes"], given);
    await this.#reload();
  }

  #showForm() {
    const { steps, agents, outcomes } = this.detail;
    const numbers = [...new Set(steps.map((row) => row.step))].sort((a, b) => b - a);
    const phases = [...new Set(steps.map((row) => row.phase))];
    const kinds = [...new Set(outcomes.map((row) => row.outcome))];
    put(this.form,
      this.#search(),
      this.#select("step", "Step", numbers.map((step) => [step, String(step)])),
      this.#select("phase", "Phase", phases.map((phase) => [phase, phaseName(phase)])),
      this.#select("success", "Success", [["yes", "yes"], ["no", "no"], ["unknown", "no verdict"]]),
      this.#select("outcome", "Outcome", kinds.map((kind) => [kind, kind.replaceAll("_", " ")])),
      this.#select("failed", "Failed", [["yes", "yes"], ["no", "no"]]),
      agents.length > 1 ? this.#select("agent", "Agent", agents.map((each) => [each, each])) : null,
      this.#typed("task_id", "Task", "text"),
      this.#range("reward", "Reward", "any"),
      this.#range("length", "Tokens", "1"),
      h("button", { type: "button", class: "quiet", onclick: () => this.#clear() }, "Clear"));
  }

  #search() {
    const field = h("input", { type: "search", id: "f-text", value: this.state.text,
      placeholder: "words of a conversation, task, id, cause", autocomplete: "off",
      oninput: () => this.#later({ text: field.value }) });
    return h("p", { class: "search" }, h("label", { for: "f-text" }, "Search"), field);
  }

  #select(name, label, choices) {
    const field = h("select", { id: "f-" + name,
      onchange: () => this.#set({ [name]: field.value }) },
      h("option", { value: "" }, "all"),
      choices.map(([value, text]) => h("option", { value: String(value),
        selected: String(value) === this.state[name] }, text)));
    return h("p", {}, h("label", { for: "f-" + name }, label), field);
  }

  #typed(name, label, type) {
    const field = h("input", { type, id: "f-" + name, value: this.state[name], autocomplete: "off",
      oninput: () => this.#later({ [name]: field.value }) });
    return h("p", {}, h("label", { for: "f-" + name }, label), field);
  }

  #range(name, label, step) {
    const field = (end, words) => h("input", { type: "number", step, value: this.state[end],
      "aria-label": `${label}, ${words}`, placeholder: words,
      oninput: (event) => this.#later({ [end]: event.target.value }) });
    return h("p", { role: "group", "aria-label": label }, h("span", { class: "label" }, label),
      h("span", { class: "pair" }, field("min_" + name, "from"), field("max_" + name, "to")));
  }

  #later(changes) {
    this.isTyping = true;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.isTyping = false;
      this.#set(changes);
    }, TYPING_MS);
  }

  close() {
    clearTimeout(this.timer);
  }

  #clear() {
    const empty = Object.fromEntries(FIELDS.map((field) => [field, ""]));
    this.#set(empty);
    this.#showForm();
  }

  #moveStep(by) {
    const steps = [...new Set(this.detail.steps.map((row) => row.step))].sort((a, b) => a - b);
    const at = steps.indexOf(Number(this.state.step || NaN));
    const next = steps[at < 0 ? steps.length - 1 : at + by];
    if (next === undefined) return;
    this.#set({ step: String(next) });
    this.#showForm();
  }

  #show() {
    const { data, state } = this;
    const shared = [counted(data.total, "episode"), `reward ${number(data.reward_mean)}`,
      `success ${percent(data.success_rate)}`, `${count(data.failed)} failed`];
    put(this.summary, data.total ? shared.join(" · ") : "No episode fits.",
      data.index.done < data.index.total
        ? ` · reading episodes: ${percent(data.index.done / data.index.total)}` : "",
      data.not_searched.length
        ? ` · not searched: ${counted(data.not_searched.length, "step")}; choose a step to search it` : "");
    const groups = new Set(data.rows.map((row) => row.task_id));
    put(this.results,
      data.rows.length ? table("Episodes", this.#columns(groups.size > 1 || !state.task_id),
        data.rows) : null,
      this.#pages());
  }

  #columns(withTask) {
    const target = (row) => link(["run", this.name, "episode", row.step, row.episode_id]);
    const withQuery = this.data.rows.some((row) => row.query);
    const withCause = this.data.rows.some((row) => row.cause);
    const several = this.detail.agents.length > 1;
    const phases = new Set(this.data.rows.map((row) => row.phase));
    return [
      { ...this.#sorted("step", "Step"), isHead: true, numeric: true,
        cell: (row) => h("a", { href: target(row),
          "aria-label": `step ${row.step}, attempt ${row.repeat_index}, task ${row.task_id}` },
        `${row.step} · ${row.repeat_index ?? ""}`) },
      { ...this.#sorted("is_success", "Outcome"), cell: (row) => outcomeMark(row) },
      { ...this.#sorted("reward", "Reward"), numeric: true, cell: (row) => number(row.reward) },
      phases.size < 2 ? null : { title: "Phase", cell: (row) => phaseName(row.phase) },
      withTask ? { ...this.#sorted("task_id", "Task"), class: "task", cell: (row) => [
        h("a", { href: link(["run", this.name, "compare"],
          { step: row.step, phase: row.phase, task: row.task_id }),
        title: "the episodes of this group side by side" }, row.task_id),
        row.query ? h("span", { class: "query" }, row.query) : null] }
        : withQuery ? { title: "Asks", class: "wrap", cell: (row) =>
          h("span", { class: "query" }, row.query ?? "") } : null,
      { ...this.#sorted("num_calls", "Calls"), numeric: true, cell: (row) => count(row.num_calls) },
      { ...this.#sorted("sampled", "Sampled"), numeric: true, cell: (row) => count(row.sampled) },
      { ...this.#sorted("length", "Tokens"), numeric: true, cell: (row) => count(row.length) },
      several ? { title: "Agents", cell: (row) => row.agents.join(", ") } : null,
      { ...this.#sorted("duration_s", "Time"), numeric: true,
        cell: (row) => duration(row.duration_s) },
      withCause ? { title: "Cause", class: "wrap", cell: (row) =>
        h("span", { class: "cause" }, row.cause ?? "") } : null,
    ].filter(Boolean);
  }

  #sorted(key, title) {
    const isThis = (this.state.sort || "step") === key;
    const descending = (this.state.order || "desc") === "desc";
    return {
      sorted: isThis ? (descending ? "descending" : "ascending") : "none",
      title: h("button", { type: "button", class: "sort", onclick: () => this.#set({ sort: key,
        order: isThis && descending ? "asc" : "desc" }) },
      title, h("span", { "aria-hidden": "true" }, isThis ? (descending ? " ↓" : " ↑") : "")),
    };
  }

  #pages() {
    const { offset, limit, total } = this.data;
    if (total <= limit) return null;
    const go = (to) => () => this.#set({ offset: String(to) });
    return h("nav", { class: "pages", "aria-label": "Pages" },
      h("button", { type: "button", disabled: offset === 0,
        onclick: go(Math.max(0, offset - limit)) }, "Before"),
      h("span", {}, `${count(offset + 1)} to ${count(Math.min(total, offset + limit))} of `,
        count(total)),
      h("button", { type: "button", disabled: offset + limit >= total,
        onclick: go(offset + limit) }, "Next"));
  }
}
