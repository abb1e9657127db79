import { age, span } from "../time";
import type { Provider } from "./model";

/** How old what is shown is, provider by provider. */
export function Freshness({ providers, now }: { providers: Provider[]; now: number }) {
  if (providers.length === 0) return null;
  return (
    <ul class="freshness" aria-label="Age of the data">
      {providers.map((one) => (
        <li key={one.name} class={isFresh(one, now) ? "" : "warn"}>
          <strong>{one.name}</strong> {said(one, now)}
        </li>
      ))}
    </ul>
  );
}

export function isFresh(one: Provider, now: number): boolean {
  if (one.freshness.objective_s === null) return true;
  if (!one.last_success_at) return false;
  return (now - Date.parse(one.last_success_at)) / 1000 <= one.freshness.objective_s;
}

function said(one: Provider, now: number): string {
  if (!one.last_success_at) return "was never fetched whole: none of its plans are known yet";
  const was = `as of ${age(one.last_success_at, now)} ago`;
  return isFresh(one, now) ? was : `${was}: older than the ${span(one.freshness.objective_s ?? 0)} it should be at most`;
}
