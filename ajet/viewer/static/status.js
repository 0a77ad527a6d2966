// How a run stands, as a word with a mark.

import { h } from "./dom.js";

export function statusMark(status) {
  const kind = status.startsWith("running") ? "running" : status === "finished" ? "good"
    : status.startsWith("failed") || status === "killed" ? "bad" : "neutral";
  const short = status.startsWith("failed") ? "failed" : status;
  return h("span", { class: "mark " + kind, title: status }, short);
}

/** Reward and success of an episode, in one mark. */
export function outcomeMark(row) {
  if (row.outcome && row.outcome !== "ok") {
    return h("span", { class: "mark bad" }, row.outcome.replaceAll("_", " "));
  }
  if (row.is_success === null || row.is_success === undefined) {
    return h("span", { class: "mark neutral" }, "no verdict");
  }
  return row.is_success ? h("span", { class: "mark good" }, "success")
    : h("span", { class: "mark plain" }, "no success");
}
