// Building blocks. Text from a run only ever becomes a text node: nothing is parsed as HTML.

const SVG = "http://www.w3.org/2000/svg";

/** An element. `on…` attributes are listeners, `text` is its text, false and null are left out. */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  append(element, children);
  return element;
}

function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : shown(String(child)));
  }
}

/** Replace what an element holds. */
export function put(element, ...children) {
  element.replaceChildren();
  append(element, children);
  return element;
}

// Control characters, marks that change the direction of text or have no width, lone surrogates.
const HIDDEN = new RegExp(
  "[\\u0000-\\u0008\\u000b-\\u001f\\u007f-\\u009f\\u00ad\\u061c\\u180e\\u200b\\u200e\\u200f" +
    "\\u2028-\\u202e\\u2060-\\u2069\\ufeff\\ufff9-\\ufffb\\u{e0000}-\\u{e007f}]|\\p{Cs}",
  "gu",
);

/** `\x1b`, `\u202e`. */
export function escapeOf(character) {
  const code = character.codePointAt(0);
  if (code === 13) return "\\r";
  if (code < 0x100) return "\\x" + code.toString(16).padStart(2, "0");
  return code < 0x10000 ? "\\u" + code.toString(16).padStart(4, "0") : `\\u{${code.toString(16)}}`;
}

/** A text as nodes: what could not be seen, or would act on what is around it, as an escape. */
export function shown(text) {
  const found = new DocumentFragment();
  let end = 0;
  for (const match of text.matchAll(HIDDEN)) {
    if (match.index > end) found.append(text.slice(end, match.index));
    const mark = document.createElement("span");
    mark.className = "escape";
    mark.textContent = escapeOf(match[0]);
    found.append(mark);
    end = match.index + match[0].length;
  }
  found.append(text.slice(end));
  return found;
}

/** The same as one string, for attributes and titles. */
export function plain(text) {
  return String(text).replace(HIDDEN, escapeOf);
}

const whole = new Intl.NumberFormat("en");

export function count(value) {
  return value === null || value === undefined ? "–" : whole.format(value);
}

/** `1 episode`, `2 episodes`. */
export function counted(value, noun) {
  return `${count(value)} ${noun}${value === 1 ? "" : "s"}`;
}

/** The first characters of a text, with no character cut in two. */
export function firstPart(text, length) {
  const cut = text.slice(0, length);
  return /[\ud800-\udbff]$/.test(cut) ? cut.slice(0, -1) : cut;
}

/** A number in few characters. */
export function number(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  const size = Math.abs(value);
  if (value === 0 || (size >= 1e-3 && size < 1e5)) {
    return Number.isInteger(value) ? whole.format(value) : String(+value.toPrecision(4));
  }
  return value.toExponential(2);
}

export function percent(value) {
  return typeof value === "number" ? (100 * value).toFixed(1) + "%" : number(value);
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 10) return seconds.toFixed(1) + " s";
  if (seconds < 90) return Math.round(seconds) + " s";
  const minutes = Math.round(seconds / 60);
  if (minutes < 90) return minutes + " min";
  const hours = seconds / 3600;
  return hours < 48 ? hours.toFixed(1) + " h" : (hours / 24).toFixed(1) + " days";
}

export function when(iso) {
  const time = iso ? new Date(iso) : null;
  if (!time || Number.isNaN(time.getTime())) return "–";
  return time.toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
}

/** A table. Columns: {title, cell(row), numeric, sort}. */
export function table(caption, columns, rows, rowAttributes = () => ({})) {
  const head = columns.map((column) =>
    h("th", { scope: "col", class: column.numeric ? "num" : null, "aria-sort": column.sorted },
      column.title));
  const body = rows.map((row) =>
    h("tr", rowAttributes(row), columns.map((column, at) =>
      h(at === 0 && column.isHead ? "th" : "td",
        { class: [column.numeric ? "num" : "", column.class || ""].join(" ").trim() || null,
          scope: at === 0 && column.isHead ? "row" : null },
        column.cell(row)))));
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", {}, h("caption", { class: "unseen" }, caption),
      h("thead", {}, h("tr", {}, head)), h("tbody", {}, body)));
}

/** A section with a heading. */
export function section(title, ...children) {
  const id = "s-" + title.toLowerCase().replace(/[^a-z0-9]+/g, "-");
  return h("section", { "aria-labelledby": id, id: id + "-section" },
    h("h2", { id }, title), children);
}

export function notice(kind, ...children) {
  return h("p", { class: "notice " + kind }, children);
}
