// Which page the address names, what is around it, and looking for news.

import { get, here, link } from "./api.js";
import { h, notice, plain, put } from "./dom.js";
import { comparePage } from "./pages/compare.js";
import { episodePage } from "./pages/episode.js";
import { episodesPage } from "./pages/episodes.js";
import { runPage } from "./pages/run.js";
import { runsPage } from "./pages/runs.js";
import { applyTheme, nextTheme } from "./theme.js";

const POLL_MS = 2000;

const main = document.getElementById("main");
const trail = document.getElementById("trail");
const live = document.getElementById("live");
let page = null; // {trail, title, news(stamps), keys}
let turn = 0;
let stamps = {};

const KEYS = [
  ["/", "to the search field"],
  ["[ and ]", "the episode before and the next one of the group; the step before and the next"],
  ["← and →", "from token to token, where a token has the focus (Home, End: first and last)"],
  ["t", "light, dark, or as the system says"],
  ["?", "this list"],
];

async function open() {
  const mine = ++turn;
  const { parts, parameters } = here();
  main.setAttribute("aria-busy", "true");
  page?.close?.();
  let next;
  try {
    next = await pageFor(parts, parameters);
  } catch (error) {
    next = { title: "Not there", trail: [],
      content: h("div", {}, h("h1", {}, "Not there"), notice("bad", error.message)) };
    if (!(error instanceof Error) || error.constructor === TypeError) console.error(error);
  }
  if (mine !== turn) return; // another address was opened meanwhile
  page = next;
  document.title = plain(page.title) + " · AgentJet";
  put(trail, breadcrumbs(page.trail));
  put(main, page.content);
  main.removeAttribute("aria-busy");
  page.start?.();
}

function pageFor(parts, parameters) {
  if (parts.length === 0) return runsPage(parameters);
  if (parts[0] === "run" && parts.length === 2) return runPage(parts[1], parameters);
  if (parts[0] === "run" && parts[2] === "episodes") return episodesPage(parts[1], parameters);
  if (parts[0] === "run" && parts[2] === "episode" && parts.length === 5) {
    return episodePage(parts[1], parts[3], parts[4], parameters);
  }
  if (parts[0] === "run" && parts[2] === "compare") return comparePage(parts[1], parameters);
  throw new Error("There is no such page.");
}

function breadcrumbs(steps) {
  const all = [["AgentJet", link([])], ...steps];
  return h("ol", {}, all.map(([text, target], at) =>
    h("li", {}, at === all.length - 1
      ? h("span", { "aria-current": "page" }, text)
      : h("a", { href: target }, text))));
}

async function poll() {
  if (document.visibilityState === "visible") {
    try {
      const found = await get("stamps");
      const changed = Object.keys(found).filter((name) => stamps[name] !== found[name]);
      const isFirst = Object.keys(stamps).length === 0;
      stamps = found;
      put(live);
      live.classList.remove("off");
      if (!isFirst && changed.length) await page?.news?.(changed);
      else await page?.tick?.();
    } catch (error) {
      put(live, "not connected");
      live.title = error.message;
      live.classList.add("off");
    }
  }
  setTimeout(poll, POLL_MS);
}

function showKeys() {
  const dialog = document.getElementById("keys");
  put(dialog,
    h("h2", { id: "keys-title" }, "Keys"),
    h("dl", {}, KEYS.map(([key, what]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, what)])),
    h("button", { type: "button", onclick: () => dialog.close() }, "Close"));
  dialog.showModal();
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, select, textarea, dialog")) return;
  if (event.key === "?") showKeys();
  else if (event.key === "t") nextTheme();
  else if (event.key === "/") {
    const field = main.querySelector("input[type=search]");
    if (!field) return;
    field.focus();
  } else if (page?.keys?.[event.key]) page.keys[event.key]();
  else return;
  event.preventDefault();
}

applyTheme();
document.getElementById("theme").addEventListener("click", nextTheme);
document.getElementById("help").addEventListener("click", showKeys);
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
document.addEventListener("keydown", onKey);
addEventListener("hashchange", open);
await open();
poll();
