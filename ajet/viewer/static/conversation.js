// Calls as turns: what was added to the history, and what the model answered.

import { get } from "./api.js";
import { count, firstPart, h, number, put, shown } from "./dom.js";

/** One call of an episode. `where` names run, step and episode. */
export function turnView(call, where, { several, onTokens = null } = {}) {
  const isNew = call.new_timeline && call.new_timeline !== "first_call";
  return h("li", { class: "turn", id: "call-" + call.index },
    isNew ? h("p", { class: "note" }, "A new timeline begins here: ", call.reason_text) : null,
    call.messages.map((message) => messageView(message, where)),
    messageView(call.response, where, true),
    h("p", { class: "call-facts" },
      several ? h("span", {}, h("span", { class: "muted" }, "agent "), call.agent) : null,
      fact("call", call.index), fact("timeline", call.timeline + 1),
      fact("prompt", count(call.prompt_length)), fact("sampled", count(call.completion_length)),
      fact("mean logprob", number(call.mean_logprob)),
      call.reward === null ? null : fact("reward", number(call.reward)),
      call.advantage === null ? null : fact("advantage", number(call.advantage)),
      call.versions ? fact("version", [...new Set(call.versions)].join(" to ")) : null,
      ["stop", "tool_calls", ""].includes(call.finish_reason) ? null : h("span", { class: "warn" },
        call.finish_reason === "length" ? "cut off: no tokens left" : call.finish_reason),
      call.trained ? null : h("span", { class: "warn" }, "not trained"),
      onTokens && call.trained ? h("button", { type: "button", class: "quiet small",
        "aria-label": `tokens of call ${call.index}`, onclick: () => onTokens(call.index) }, "tokens") : null));
}

function fact(name, value) {
  return h("span", {}, h("span", { class: "muted" }, name + " "), String(value));
}

/** A message: who, and its parts. */
export function messageView(message, where, isAnswer = false) {
  const role = message.role || (isAnswer ? "assistant" : "?");
  const known = ["system", "user", "assistant", "tool"].includes(role) ? role : "other";
  return h("div", { class: `message ${known}${isAnswer ? " answer" : ""}` },
    h("p", { class: "role" }, role,
      message.name && message.name !== role ? ` · ${message.name}` : "",
      isAnswer ? h("span", { class: "unseen" }, ", sampled by the model") : ""),
    message.parts.length ? message.parts.map((part) => partView(part, where))
      : h("p", { class: "muted" }, "(empty)"));
}

function partView(part, where) {
  if (part.kind === "tool_call") {
    return h("div", { class: "part tool-call" },
      h("p", { class: "part-name" }, "calls ", h("code", {}, part.name || "?")),
      longText(part, where, "code"));
  }
  if (part.kind === "text") return longText(part, where, "");
  return h("div", { class: "part" }, h("p", { class: "part-name" }, part.kind),
    longText(part, where, part.kind === "thinking" ? "thinking" : "code"));
}

/** A text that may go on: more of it is asked for only when wanted. */
export function longText(part, where, kind) {
  const body = h("div", { class: "said " + kind, dir: "auto" }, shown(part.text));
  // The server counts characters; the length of a string here is in UTF-16 units.
  let have = [...part.text].length;
  if (have >= part.total) return body;
  const label = () => `Show more (${count(part.total - have)} characters)`;
  const button = h("button", { type: "button", class: "small" }, label());
  button.addEventListener("click", async () => {
    button.disabled = true;
    const { text } = await get("text", { ...where, at: part.at.join(","), start: have });
    have += [...text].length;
    body.append(shown(text));
    button.disabled = false;
    if (have >= part.total || !text) button.remove();
    else put(button, label());
  });
  return h("div", {}, body, button);
}

/** The texts of a call's messages and answer, to compare calls of two episodes. */
export function textsOf(call) {
  return [...call.messages, call.response].map((message) => JSON.stringify(
    [message.role, message.parts.map((part) => [part.kind, part.name, part.text, part.total])]));
}

const FOLD = 4000;

/** A text that is here as a whole, shown in pieces. */
export function foldedText(text) {
  const first = firstPart(text, FOLD);
  const body = h("div", { class: "said code", dir: "auto" }, shown(first));
  if (text.length <= FOLD) return body;
  const button = h("button", { type: "button", class: "small", onclick: () => {
    body.append(shown(text.slice(first.length)));
    button.remove();
  } }, `Show more (${count(text.length - first.length)} characters)`);
  return h("div", {}, body, button);
}
