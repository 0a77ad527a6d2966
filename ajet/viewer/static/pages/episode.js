// One episode: its outcome, its group, its conversation, its token tree, its tokens.

import { get, link, remember } from "../api.js";
import { foldedText, turnView } from "../conversation.js";
import { count, duration, h, notice, number, section } from "../dom.js";
import { outcomeMark } from "../status.js";
import { TokensView } from "../tokens.js";
import { treeView } from "../tree.js";
import { phaseName } from "./run.js";

export async function episodePage(name, step, episode, parameters) {
  const where = { run: name, step, episode };
  const data = await get("episode", where);
  return new EpisodePage(where, data, parameters);
}

class EpisodePage {
  constructor(where, data, parameters) {
    Object.assign(this, { where, data });
    this.parts = ["run", where.run, "episode", String(where.step), where.episode];
    this.title = `Step ${where.step}, ${data.task_id}`;
    this.trail = [[where.run, link(["run", where.run])],
      [`Step ${where.step}`, link(["run", where.run, "episodes"], { step: where.step,
        phase: data.phase })],
      [`attempt ${data.log.repeat_index ?? "?"}`, ""]];
    this.tokens = data.samples.length ? new TokensView(where, data.samples, data.calls, {
      sample: Number(parameters.get("sample") || 0),
      token: parameters.has("token") ? Number(parameters.get("token")) : null,
      colour: parameters.get("colour") || "logprob",
    }, (state) => remember(this.parts, state)) : null;
    this.keys = { "[": () => this.#neighbour(-1), "]": () => this.#neighbour(1) };
    const several = data.tree.agents.length > 1;
    const toCall = (call) => document.getElementById("call-" + call)?.scrollIntoView(
      { block: "start" });
    this.content = h("div", {}, this.#head(), this.#group(),
      data.calls.length ? section("Conversation", h("ol", { class: "turns" },
        data.calls.map((call) => turnView(call, where, { several,
          onTokens: this.tokens ? (index) => this.tokens.toCall(index) : null })))) : null,
      data.calls.length ? section("Token tree", treeView(data.tree, toCall)) : null,
      this.tokens ? section("Tokens", this.tokens.content) : null,
      this.#records());
  }

  start() {
    this.tokens?.start();
  }

  #head() {
    const { data, where } = this;
    const { log } = data;
    const facts = [
      ["Reward", number(data.reward ?? log.reward)],
      ["Rewarded per", data.reward_per ?? "–"],
      ["Calls", count(log.num_calls ?? data.calls.length)],
      ["Tokens sampled", count(log.sampled)],
      ["Tokens trained", count(log.trained)],
      ["Dropped", count(log.dropped)],
      ["Time", duration(log.duration_s)],
      ["Agents", data.tree.agents.join(", ") || (log.agents ?? []).join(", ") || "–"],
    ];
    const row = { outcome: log.outcome ?? data.failure ?? "ok",
      is_success: log.is_success ?? data.is_success };
    return h("div", {},
      h("div", { class: "title" },
        h("h1", { class: "long" }, data.task?.main_query || data.task_id || where.episode), outcomeMark(row)),
      h("p", { class: "muted" }, `${phaseName(data.phase)}, step ${where.step}, task `,
        data.task_id, ` · episode ${where.episode}`,
        data.is_discarded ? " · its group was replaced by dynamic sampling" : ""),
      h("dl", { class: "facts" }, facts.map(([name, value]) =>
        h("div", {}, h("dt", {}, name), h("dd", {}, value)))),
      data.missing.map((text) => notice("", text)),
      data.has_traceback ? this.#failure() : null);
  }

  #failure() {
    const { log, cause } = this.data;
    const trace = h("details", { ontoggle: async () => {
      if (trace.querySelector("div")) return;
      const found = await get("traceback", this.where);
      trace.append(h("div", { class: "said code" }, found.traceback || found.cause || "none"));
    } }, h("summary", {}, "Traceback"));
    return h("div", { class: "notice bad" }, h("p", {}, cause ?? log.cause ?? "no cause recorded"),
      trace);
  }

  #group() {
    const { data, where } = this;
    const others = data.task_steps.filter((row) =>
      row.step !== Number(where.step) || row.phase !== data.phase);
    return h("nav", { class: "group", "aria-label": "Group" },
      h("p", {}, h("span", { class: "muted" }, "Attempts and their rewards: "), data.group_episodes.map((each) =>
        h("a", { href: link(["run", where.run, "episode", where.step, each.episode_id]),
          "aria-current": each.episode_id === where.episode ? "page" : null,
          class: "chip " + (each.outcome !== "ok" ? "bad" : each.is_success ? "good" : "plain") },
        `${each.repeat_index}: ${each.outcome === "ok" ? number(each.reward) : "failed"}`))),
      h("p", { class: "links" },
        data.group_episodes.length > 1 ? h("a", { href: link(["run", where.run, "compare"],
          { step: where.step, phase: data.phase, task: data.task_id }) }, "Group side by side") : null,
        others.length ? [h("label", { for: "other-step" }, "Same task at "),
          h("select", { id: "other-step", onchange: (event) => {
            const [step, phase] = event.target.value.split(" ");
            location.hash = link(["run", where.run, "compare"], { step: [where.step, step],
              phase: [data.phase, phase], task: data.task_id });
          } }, h("option", { value: "" }, "another step …"),
          others.map((row) => h("option", { value: `${row.step} ${row.phase}` },
            `step ${row.step}, ${phaseName(row.phase)}: ${number(row.reward_mean)}`)))] : null));
  }

  #records() {
    const { data } = this;
    const entries = [];
    const output = data.output ?? {};
    for (const [key, value] of Object.entries(output.metadata ?? {})) entries.push([key, value]);
    const isReason = ([key]) => /judge|reason|rubric|verdict|score|feedback|critique/i.test(key);
    const reasons = entries.filter(isReason);
    const shownEntry = ([key, value]) => h("div", {}, h("dt", {}, key), h("dd", {},
      foldedText(asText(value))));
    const task = data.task ? Object.entries(data.task).filter(([, value]) =>
      value && JSON.stringify(value) !== "{}" && JSON.stringify(value) !== "[]") : [];
    return [
      reasons.length ? section("Judge", h("dl", { class: "records" }, reasons.map(shownEntry))) : null,
      section("Records",
        h("h3", {}, "What the workflow returned"),
        h("dl", { class: "records" },
          [["reward", output.reward ?? null], ["is_success", output.is_success ?? null],
            ...entries.filter((each) => !isReason(each)),
            ...Object.entries(output.log_metrics ?? {})].map(shownEntry)),
        h("h3", {}, "The task"),
        h("dl", { class: "records" }, task.map(shownEntry)),
        data.not_stored.length ? notice("", "Not stored, since JSON cannot hold it: ",
          data.not_stored.join(", ")) : null)];
  }

  #neighbour(by) {
    const ids = this.data.group_episodes.map((each) => each.episode_id);
    const next = ids[ids.indexOf(this.where.episode) + by];
    if (next) location.hash = link(["run", this.where.run, "episode", this.where.step, next]);
  }
}

function asText(value) {
  return typeof value === "string" ? value : JSON.stringify(value, null, 1) ?? "null";
}
