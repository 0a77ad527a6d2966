// How much curves are smoothed.

import { h } from "./dom.js";

export function smoothField(value, onChange) {
  const shown = h("output", {}, value.toFixed(2));
  const field = h("input", { type: "range", min: "0", max: "0.95", step: "0.05", id: "smooth",
    value: String(value), oninput: () => {
      shown.textContent = Number(field.value).toFixed(2);
      onChange(Number(field.value));
    } });
  return h("p", { class: "field" }, h("label", { for: "smooth" }, "Smoothing"), field, shown);
}
