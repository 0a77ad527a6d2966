// Light, dark, or as the system says.

const NAMES = { auto: "Theme: system", light: "Theme: light", dark: "Theme: dark" };
const listeners = new Set();
let theme = read();

function read() {
  try {
    const kept = localStorage.getItem("ajet-theme");
    return kept in NAMES ? kept : "auto";
  } catch {
    return "auto"; // storage is switched off
  }
}

export function applyTheme() {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  const button = document.getElementById("theme");
  button.textContent = NAMES[theme];
  for (const listener of listeners) listener();
}

export function nextTheme() {
  const names = Object.keys(NAMES);
  theme = names[(names.indexOf(theme) + 1) % names.length];
  try {
    localStorage.setItem("ajet-theme", theme);
  } catch {
    // storage is switched off: it holds until the page is closed
  }
  applyTheme();
}

/** Called whenever colours change; returns what ends that. */
export function onTheme(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const listener of listeners) listener();
});

/** A colour of the style sheet, for what is drawn on a canvas. */
export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
}
