// A sample token by token: coloured, with its loss mask, each one's numbers on hover and focus.

import { get } from "./api.js";
import { count, h, notice, number, percent, plain, put, shown } from "./dom.js";

const COLOURS = {
  logprob: "logprob",
  difference: "probability difference to the trainer",
  advantage: "advantage",
  none: "nothing",
};
const STEPS = 6;

export class TokensView {
  /** `onState({sample, token, colour})` puts what is shown into the address. */
  constructor(where, samples, calls, { sample, token, colour }, onState) {
    Object.assign(this, { where, samples, onState });
    this.callOf = new Map(calls.map((call) => [call.index, call]));
    this.sample = Math.min(sample, samples.length - 1);
    this.token = token;
    this.colour = colour in COLOURS ? colour : "logprob";
    this.facts = h("div", { class: "token-facts", role: "status", "aria-live": "polite" });
    this.box = h("div", { class: "tokens", role: "listbox", tabindex: "0",
      "aria-label": "Tokens", onkeydown: (event) => this.#onKey(event),
      onpointerover: (event) => this.#onHover(event), onclick: (event) => this.#onClick(event),
      onpointerleave: () => this.#showFacts(this.token) });
    this.legend = h("div", { class: "token-legend" });
    this.pager = h("nav", { class: "pages", "aria-label": "Parts of the sample" });
    this.controls = h("div", { class: "filters" });
    this.content = h("div", {}, this.controls, this.legend, this.facts, this.box, this.pager);
  }

  async start() {
    if (this.samples.length) await this.#load(this.token ?? 0);
  }

  /** To the first token that a call sampled. */
  async toCall(index) {
    for (const [number, sample] of this.samples.entries()) {
      const span = sample.spans.find((each) =>
        this.callOf.get(index)?.call_id === each.call_id);
      if (span) {
        this.sample = number;
        await this.#load(span.start, true);
        this.box.scrollIntoView({ block: "center" });
        this.box.focus();
        return;
      }
    }
  }

  async #load(token, selects = this.token !== null) {
    const start = Math.floor(token / 2000) * 2000;
    // Answers may arrive in another order than they were asked for: only the last one counts.
    const load = this.lastLoad = (this.lastLoad ?? 0) + 1;
    const data = await get("tokens", { ...this.where, sample: this.sample, start });
    if (load !== this.lastLoad) return;
    this.data = data;
    this.token = selects ? Math.min(token, this.data.length - 1) : null;
    this.#showControls();
    this.#showTokens();
    this.#showPager();
    this.#select(this.token, selects);
  }

  #showControls() {
    const choice = (name, label, value, choices, onchange) => h("p", {},
      h("label", { for: "t-" + name }, label),
      h("select", { id: "t-" + name, onchange }, choices.map(([key, text, off]) =>
        h("option", { value: key, selected: key === value, disabled: off }, text))));
    const summary = this.samples[this.sample];
    const off = { difference: !summary.has_trainer_logprobs, advantage: !summary.has_advantages };
    put(this.controls,
      choice("sample", "Sample", String(this.sample), this.samples.map((each, at) => [String(at),
        `${at + 1}: ${count(each.length)} tokens, ${count(each.trained)} trained` +
        (each.agents.length ? ` (${plain(each.agents.join(", "))})` : "")]), (event) => {
        this.sample = Number(event.target.value);
        this.token = null;
        this.#load(0);
        this.#remember();
      }),
      choice("colour", "Colour", this.colour, Object.entries(COLOURS).map(([key, text]) =>
        [key, text + (off[key] ? " (not recorded by this run)" : ""), off[key]]), (event) => {
        this.colour = event.target.value;
        this.#showTokens();
        this.#select(this.token, false);
        this.#remember();
      }));
  }

  #showTokens() {
    const { columns, texts, start } = this.data;
    this.spans = columns.ids.map((id, at) => {
      const text = texts ? texts[at] : String(id);
      const isTrained = columns.loss_mask[at];
      const span = h("span", { role: "option", id: "token-" + (start + at),
        class: "token " + (isTrained ? "trained " + this.#bucket(at) : "given"),
        "aria-selected": "false", "data-at": start + at }, visible(text),
      texts ? null : " ");
      return span;
    });
    put(this.box, this.spans);
    this.box.classList.toggle("as-ids", !texts);
    this.#showLegend(texts);
  }

  #bucket(at) {
    const { columns } = this.data;
    const level = (share) => Math.max(0, Math.min(STEPS - 1, Math.floor(share * STEPS)));
    if (this.colour === "logprob" && columns.logprobs) {
      return "low-" + level(-columns.logprobs[at] / 5); // e^-5: one in 150
    }
    if (this.colour === "difference" && columns.trainer_logprobs) {
      const difference = Math.abs(Math.exp(columns.trainer_logprobs[at]) -
        Math.exp(columns.logprobs[at]));
      return "gap-" + level(Math.sqrt(difference));
    }
    if (this.colour === "advantage" && columns.advantages) {
      const most = this.samples[this.sample].max_advantage || 1;
      const value = columns.advantages[at];
      return value === 0 ? "" : (value > 0 ? "up-" : "down-") + level(Math.abs(value) / most);
    }
    return "";
  }

  #showLegend(texts) {
    const scale = {
      logprob: ["certain", "low", "logprob −5 or less"],
      difference: ["same", "gap", "probability differs by 1"],
    }[this.colour];
    const swatches = (kind) => [...Array(STEPS).keys()].map((at) =>
      h("span", { class: `swatch wide ${kind}-${at}`, "aria-hidden": "true" }));
    const most = number(this.samples[this.sample].max_advantage ?? 0);
    put(this.legend,
      scale ? h("span", {}, scale[0], " ", swatches(scale[1]), " ", scale[2]) : null,
      this.colour === "advantage" ? h("span", {}, `−${most} `, swatches("down").reverse(),
        swatches("up"), ` +${most}`) : null,
      h("span", {}, h("span", { class: "token trained" }, "underlined"), " has loss"),
      h("span", {}, h("span", { class: "token given" }, "grey"), " was given, no loss"),
      texts ? null : notice("", "No tokenizer in the run's folder: tokens are shown as ids."));
  }

  #showPager() {
    const { start, length, columns } = this.data;
    const end = start + columns.ids.length;
    if (start === 0 && end >= length) {
      put(this.pager);
      return;
    }
    put(this.pager,
      h("button", { type: "button", disabled: start === 0,
        onclick: () => this.#load(start - 2000) }, "Before"),
      h("span", {}, `tokens ${count(start)} to ${count(end - 1)} of ${count(length)}`),
      h("button", { type: "button", disabled: end >= length, onclick: () => this.#load(end) },
        "Next"));
  }

  #select(at, focuses = true) {
    this.box.querySelector(".chosen")?.classList.remove("chosen");
    this.box.querySelector("[aria-selected=true]")?.setAttribute("aria-selected", "false");
    this.#showFacts(at);
    const span = at === null ? null : this.spans[at - this.data.start];
    if (!span) {
      this.box.removeAttribute("aria-activedescendant");
      return;
    }
    span.classList.add("chosen");
    span.setAttribute("aria-selected", "true");
    this.box.setAttribute("aria-activedescendant", span.id);
    if (focuses) span.scrollIntoView({ block: "nearest" });
  }

  #showFacts(at) {
    if (at === null || at < this.data.start || at >= this.data.start + this.spans.length) {
      put(this.facts, h("span", { class: "muted" },
        "Point at a token, or move with the arrow keys, to see its numbers."));
      return;
    }
    const { columns, texts, start } = this.data;
    const value = (name) => columns[name]?.[at - start];
    const call = this.callOf.get(value("call_index"));
    const logprob = value("logprobs");
    const trainer = value("trainer_logprobs");
    const has = value("loss_mask");
    const facts = [
      ["token", at], ["id", value("ids")],
      ["text", texts ? h("code", {}, shown(JSON.stringify(texts[at - start]).slice(1, -1)
        .replace(/\\"/g, '"').slice(0, 200))) : "–"],
      ["loss", has ? "yes" : "no"],
    ];
    if (has) {
      facts.push(["logprob", exact(logprob)], ["probability", percent(Math.exp(logprob))],
        ["advantage", exact(value("advantages"))], ["version", value("policy_versions")],
        ["temperature", number(value("temperature"))],
        ["call", call ? `${call.index} (${call.agent})` : value("call_index")]);
      if (trainer !== undefined) facts.push(["trainer's logprob", exact(trainer)]);
    }
    put(this.facts, h("dl", {}, facts.map(([name, each]) =>
      h("div", { "data-fact": name }, h("dt", {}, name), h("dd", {}, each ?? "–")))));
  }

  #at(event) {
    const span = event.target.closest?.("[data-at]");
    return span ? Number(span.getAttribute("data-at")) : null;
  }

  #onHover(event) {
    const at = this.#at(event);
    if (at !== null) this.#showFacts(at);
  }

  #onClick(event) {
    const at = this.#at(event);
    if (at === null) return;
    this.token = at;
    this.#select(at, false);
    this.#remember();
  }

  async #onKey(event) {
    const last = this.data.length - 1;
    const now = this.token ?? -1;
    const to = { ArrowRight: now + 1, ArrowLeft: now - 1, ArrowDown: now + 20, ArrowUp: now - 20,
      Home: 0, End: last }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const next = Math.max(0, Math.min(last, to));
    const { start } = this.data;
    if (next < start || next >= start + this.spans.length) await this.#load(next, true);
    else {
      this.token = next;
      this.#select(next);
    }
    this.#remember();
  }

  #remember() {
    this.onState({ sample: this.sample || null, token: this.token,
      colour: this.colour === "logprob" ? null : this.colour });
  }
}

function exact(value) {
  return value === null || value === undefined ? "–" : String(value);
}

/** A token's text with its line feeds seen. */
function visible(text) {
  const pieces = text.split(/([\n\t])/);
  return pieces.filter(Boolean).map((piece) => {
    if (piece === "\n") return [h("span", { class: "escape" }, "\\n"), document.createTextNode("\n")];
    if (piece === "\t") return h("span", { class: "escape" }, "\\t");
    return shown(piece);
  });
}
