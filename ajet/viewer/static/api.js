// Requests to the server, and links between pages.

export class ApiError extends Error {}

/** The answer of `/api/NAME`. */
export async function get(name, parameters = {}) {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(parameters)) {
    if (value !== null && value !== undefined && value !== "") query.set(key, value);
  }
  let response;
  try {
    response = await fetch(`/api/${name}?${query}`, { headers: { accept: "application/json" } });
  } catch {
    throw new ApiError("The viewer does not answer: has ajet view been ended?");
  }
  if (response.status === 401) {
    throw new ApiError("Open the link that ajet view printed: its token is needed again.");
  }
  const data = await response.json();
  if (!response.ok) throw new ApiError(data.error);
  return data;
}

/** `#/run/NAME/episodes?step=3`: every view has one. */
export function link(parts, parameters = {}) {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(parameters)) {
    for (const each of Array.isArray(value) ? value : [value]) {
      if (each !== null && each !== undefined && each !== "") query.append(key, each);
    }
  }
  const text = query.toString();
  return "#/" + parts.map((part) => encodeURIComponent(part)).join("/") + (text ? "?" + text : "");
}

/** The parts and parameters of the address. */
export function here() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  const parts = path.split("/").filter(Boolean).map((part) => {
    try {
      return decodeURIComponent(part);
    } catch {
      return part;
    }
  });
  return { parts, parameters: new URLSearchParams(query) };
}

/** Put the state of a page into its address, without a new entry in the history. */
export function remember(parts, parameters) {
  history.replaceState(null, "", link(parts, parameters));
}
