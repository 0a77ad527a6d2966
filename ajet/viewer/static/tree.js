// The token tree of an episode: a row a timeline, from left to right in tokens.

import { count, h, plain, svg } from "./dom.js";

const ROW = 34;
const BAR = 12;
const LEFT = 4;
const WIDTH = 1000;

/** The drawing, and the same in words for those who do not see it. */
export function treeView(tree, onCall) {
  const scale = (WIDTH - 2 * LEFT) / Math.max(tree.length, 1);
  const x = (token) => LEFT + token * scale;
  const height = tree.rows.length * ROW + 30;
  const colourOf = (agent) => "series-" + (tree.agents.indexOf(agent) % 8);
  const drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${height}`, class: "tree",
    role: "group", "aria-label": "Token tree", preserveAspectRatio: "xMinYMin meet" },
  axis(tree, x, height), tree.rows.map((row) => rowView(row, x, colourOf, onCall)));
  return h("div", {},
    h("ul", { class: "legend" },
      h("li", {}, h("span", { class: "swatch prompt", "aria-hidden": "true" }), "given"),
      tree.agents.map((agent) => h("li", {},
        h("span", { class: "swatch " + colourOf(agent), "aria-hidden": "true" }),
        "sampled by ", agent)),
      tree.rows.some((row) => row.num_shared) ? h("li", {}, h("span",
        { class: "swatch shared", "aria-hidden": "true" }), "same tokens as an earlier timeline")
        : null),
    h("div", { class: "scroll tree-scroll", tabindex: "0", role: "region",
      "aria-label": "Token tree, drawn" }, drawing),
    h("ol", { class: "timelines" }, tree.rows.map((row) => h("li", {}, inWords(row)))));
}

function axis(tree, x, height) {
  const step = niceStep(tree.length / 6);
  const ticks = [];
  for (let token = 0; token <= tree.length; token += step) ticks.push(token);
  return svg("g", { class: "tree-axis", "aria-hidden": "true" }, ticks.map((token) => [
    svg("line", { x1: x(token), x2: x(token), y1: 0, y2: height - 22 }),
    svg("text", { x: x(token), y: height - 6,
      "text-anchor": token === 0 ? "start" : x(token) > WIDTH - 30 ? "end" : "middle" },
    count(token) + (token === 0 ? " tokens" : ""))]));
}

function rowView(row, x, colourOf, onCall) {
  const y = row.row * ROW + 10;
  const origin = row.fork_of ?? row.shares_with;
  const start = row.fork_of === null ? 0 : row.num_shared;
  return svg("g", {},
    origin === null ? null : svg("path", { class: "tree-link", d:
      `M${x(row.num_shared)},${origin * ROW + 10 + BAR / 2} V${y + BAR / 2}` }),
    row.shares_with === null ? null : svg("rect", { class: "tree-shared", x: x(0), y: y + 3,
      width: Math.max(x(row.num_shared) - x(0), 1), height: BAR - 6 }),
    row.segments.map((segment) => segmentView(segment, Math.max(start,
      row.shares_with === null ? 0 : row.num_shared), x, y, colourOf, onCall)));
}

function segmentView(segment, from, x, y, colourOf, onCall) {
  const words = `call ${segment.call} of ${plain(segment.agent)}: ` +
    `${count(segment.sampled_from - segment.start)} tokens given, ` +
    `${count(segment.end - segment.sampled_from)} sampled` +
    (segment.trained ? "" : ", not trained");
  const open = () => onCall(segment.call);
  const given = Math.max(segment.start, Math.min(from, segment.sampled_from));
  return svg("g", { class: "tree-call", tabindex: "0", role: "button", "aria-label": words,
    onclick: open, onkeydown: (event) => {
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        open();
      }
    } },
  svg("title", {}, words),
  svg("rect", { class: "tree-prompt", x: x(given), y,
    width: Math.max(x(segment.sampled_from) - x(given), 0.5), height: BAR }),
  svg("rect", { class: `tree-sampled ${colourOf(segment.agent)}` +
    (segment.trained ? "" : " untrained"), x: x(segment.sampled_from), y,
  width: Math.max(x(segment.end) - x(segment.sampled_from), 1.5), height: BAR }));
}

function inWords(row) {
  const calls = row.segments.map((segment) => segment.call).join(", ");
  const what = `${row.segments.length === 1 ? "call" : "calls"} ${calls}, ` +
    `${count(row.segments.at(-1).end)} tokens`;
  if (row.fork_of !== null) {
    return `${what}: leaves timeline ${row.fork_of + 1} after ${count(row.num_shared)} tokens ` +
      "(two calls continue the same one)";
  }
  const shares = row.shares_with === null ? ""
    : `; its first ${count(row.num_shared)} tokens are those of timeline ${row.shares_with + 1}`;
  return what + (row.reason_text ? `: ${row.reason_text}` : "") + shares;
}

function niceStep(rough) {
  const power = 10 ** Math.floor(Math.log10(Math.max(rough, 1)));
  return [1, 2, 5, 10].map((each) => each * power).find((each) => each >= rough) || 1;
}
