// Where the page is: the part of the address behind `#`, so that the server has one address to
// serve and every view, with its filters, can be shared.
import { signal } from "@preact/signals";

export interface Place {
  path: string[];
  query: URLSearchParams;
}

function read(): Place {
  const [path = "", query = ""] = location.hash.replace(/^#\/?/, "").split("?", 2);
  return { path: path.split("/").filter(Boolean).map(decoded), query: new URLSearchParams(query) };
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

export const place = signal<Place>(read());
addEventListener("hashchange", () => (place.value = read()));

type Query = URLSearchParams | Record<string, string>;

export function href(path: string[], query: Query = {}): string {
  const text = new URLSearchParams(query).toString();
  return "#/" + path.map(encodeURIComponent).join("/") + (text ? "?" + text : "");
}

export function go(path: string[], query: Query = {}): void {
  location.hash = href(path, query);
}

/** Changes filters of the view in place: no further entry in the history, no loss of focus. */
export function refine(changes: Record<string, string | null>): void {
  history.replaceState(null, "", href(place.value.path, changed(changes)));
  place.value = read();
}

/** The query of this view with changes; an empty value removes its name. */
export function changed(changes: Record<string, string | null>): URLSearchParams {
  const query = new URLSearchParams(place.value.query);
  for (const [name, value] of Object.entries(changes)) {
    if (value) query.set(name, value);
    else query.delete(name);
  }
  return query;
}
