// Episodes side by side: a group, or the same task at two steps. What is the same is folded away.

import { get, link } from "../api.js";
import { messageView, textsOf, turnView } from "../conversation.js";
import { count, counted, h, notice, number } from "../dom.js";
import { outcomeMark } from "../status.js";
import { phaseName } from "./run.js";

const MOST = 16;

export async function comparePage(run, parameters) {
  const task = parameters.get("task") ?? "";
  const steps = parameters.getAll("step");
  const phases = parameters.getAll("phase");
  const lists = await Promise.all(steps.map((step, at) => get("episodes", { run, step,
    phase: phases[at] ?? "train", task_id: task, sort: "repeat_index", order: "asc",
    limit: MOST })));
  const rows = lists.flatMap((list) => list.rows);
  const episodes = await Promise.all(rows.map(async (row) => ({ row,
    data: await get("episode", { run, step: row.step, episode: row.episode_id }) })));
  return new ComparePage(run, task, steps, episodes);
}

class ComparePage {
  constructor(run, task, steps, episodes) {
    this.run = run;
    this.title = `${task} side by side`;
    this.trail = [[run, link(["run", run])],
      ...steps.map((step) => [`Step ${step}`, link(["run", run, "episodes"], { step })]),
      ["Side by side", ""]];
    const query = episodes.find((each) => each.data.task)?.data.task.main_query;
    const { shared, length } = sharedPart(run, episodes);
    this.content = h("div", {},
      h("h1", { class: "long" }, query || task),
      h("p", { class: "muted" }, `task ${task} · `,
        steps.length > 1 ? `steps ${steps.join(" and ")}` : `step ${steps[0]}`,
        ` · ${counted(episodes.length, "episode")}`),
      steps.filter((step) => !episodes.some((each) => String(each.row.step) === step)).map((step) =>
        notice("", `Step ${step} has no such episode of this task.`)),
      shared.length ? h("details", {},
        h("summary", {}, `The first ${length} messages are the same in all; below is what differs`),
        h("ol", { class: "turns" }, shared)) : null,
      h("div", { class: "side-by-side scroll", tabindex: "0", role: "region",
        "aria-label": "Episodes side by side" },
      episodes.map((each) => this.#column(each, length, steps.length > 1))));
  }

  #column({ row, data }, length, withStep) {
    const where = { run: this.run, step: row.step, episode: row.episode_id };
    const several = data.tree.agents.length > 1;
    return h("article", { class: "column" },
      h("h2", {}, h("a", { href: link(["run", this.run, "episode", row.step, row.episode_id]) },
        withStep ? `Step ${row.step}, attempt ${row.repeat_index}` : `Attempt ${row.repeat_index}`)),
      h("p", {}, outcomeMark(row), ` reward ${number(row.reward)} · `,
        `${counted(row.num_calls, "call")} · ${count(row.sampled)} sampled`),
      row.cause ? notice("bad", row.cause) : null,
      data.calls.length ? this.#differs(withoutFirst(data.calls, length), where, several)
        : data.missing.map((text) => notice("", text)),
      row.phase === "train" ? null : h("p", { class: "muted" }, phaseName(row.phase)));
  }

  #differs(calls, where, several) {
    if (!calls.length) return h("p", { class: "muted" }, "Nothing beyond what is the same in all.");
    return h("ol", { class: "turns" }, calls.map((call) => turnView(call, where, { several })));
  }
}

/** What all episodes begin with, as views, and of how many messages that is. */
function sharedPart(run, episodes) {
  const withCalls = episodes.filter((each) => each.data.calls.length);
  if (withCalls.length < 2) return { shared: [], length: 0 };
  const texts = withCalls.map((each) => each.data.calls.flatMap(textsOf));
  let length = 0;
  while (texts.every((each) => length < each.length && each[length] === texts[0][length])) length++;
  const { row, data } = withCalls[0];
  const where = { run, step: row.step, episode: row.episode_id };
  const views = [];
  let left = length;
  for (const call of data.calls) {
    if (left <= 0) break;
    const here = [...call.messages, call.response].slice(0, left);
    left -= here.length;
    views.push(h("li", { class: "turn" }, here.map((message) => messageView(message, where))));
  }
  return { shared: views, length };
}

/** The calls without their first `length` messages; calls of which nothing is left are left out. */
function withoutFirst(calls, length) {
  let left = length;
  const kept = [];
  for (const call of calls) {
    const size = call.messages.length + 1;
    if (left >= size) {
      left -= size;
      continue;
    }
    kept.push({ ...call, messages: call.messages.slice(left) });
    left = 0;
  }
  return kept;
}
