// What tells whether the installation is well, from what it says of itself.
import { get, headersFor, Problem } from "../api";
import { age, span } from "../time";
import { isFresh } from "../plans/freshness";
import type { Provider } from "../plans/model";
import { count, spoken } from "../ui/parts";

export interface Readiness {
  status: string;
  waiting_for: string | null;
  failing_tasks: string[];
  out_of_date_partitions: number;
  [sign: string]: unknown;
}

/** An answer of 503 is an answer here. */
export async function readiness(signal: AbortSignal): Promise<Readiness> {
  try {
    const response = await fetch("/readyz", { signal, cache: "no-store", headers: headersFor("/readyz") });
    return (await response.json()) as Readiness;
  } catch (error) {
    if (signal.aborted) throw error;
    throw new Problem(0, "no answer", "This process does not answer, or not with its readiness.");
  }
}

export interface Trouble {
  severity: "bad" | "warn";
  what: string;
  since?: string | null;
  /** A page of the repository. */
  runbook?: string;
}

/** What an installation says of itself to operators. */
export interface Status {
  engine: string;
  version: string;
  instances: { name: string; roles: string[] }[];
  projections: { name: string; live: string; lag_events: number; lag_s: number | null; last_progress_at: string | null; parked: number }[] | null;
  rebuilds: { id: string; projection: string; state: string; progress: { share: number } | null }[] | null;
  problems: { severity: "page" | "ticket"; what: string; since: string | null; runbook: string }[];
}

export async function status(signal: AbortSignal): Promise<Status | "forbidden"> {
  try {
    return await get<Status>("/v1/admin/status", signal);
  } catch (error) {
    if (error instanceof Problem && [401, 403].includes(error.status)) return "forbidden";
    throw error;
  }
}

export const told = (status: Status): Trouble[] =>
  status.problems.map((one) => ({ ...one, severity: one.severity === "page" ? "bad" : "warn" }));

const FIXED = ["status", "waiting_for", "failing_tasks", "out_of_date_partitions"];
const GOOD = ["followed", "folded", "possible"];

/** Signs beside the fixed ones, such as whether the change feed is followed. */
export const signs = (ready: Readiness): [string, string][] =>
  Object.entries(ready)
    .filter(([name]) => !FIXED.includes(name))
    .map(([name, value]) => [name, String(value)]);

export const isGood = (sign: string): boolean => GOOD.includes(sign);

export function troubles(ready: Readiness | null, providers: Provider[], now: number): Trouble[] {
  const found: Trouble[] = [];
  if (ready?.waiting_for) found.push({ severity: "bad", what: `It is not ready: ${ready.waiting_for}.` });
  for (const task of ready?.failing_tasks ?? []) found.push({ severity: "bad", what: `Task "${task}" fails and is tried again.` });
  for (const [name, value] of ready ? signs(ready) : []) {
    if (!isGood(value)) found.push({ severity: "bad", what: `${spoken(name)}: ${value}.` });
  }
  if (ready && ready.out_of_date_partitions > 0) {
    found.push({ severity: "warn", what: `${ready.out_of_date_partitions} cached partitions are out of date and being loaded again.` });
  }
  for (const one of providers) {
    if (one.paused) {
      found.push({ severity: "warn", what: `Provider ${one.name} is not fetched: ${one.paused.by} paused it.` });
      continue;
    }
    if (one.breaker && one.breaker !== "closed") {
      found.push({ severity: "bad", what: `Provider ${one.name}: the breaker is ${one.breaker} after ${one.consecutive_failures} failures in a row.` });
    }
    if (!isFresh(one, now)) {
      const known = one.last_success_at ? `its plans are ${age(one.last_success_at, now)} old` : "it was never fetched whole";
      found.push({ severity: "warn", what: `Provider ${one.name}: ${known}; the objective is ${span(one.freshness.objective_s ?? 0)}.` });
    }
    const quarantined = one.last_body?.quarantined ?? 0;
    if (quarantined > 0) {
      found.push({ severity: "warn", what: `Provider ${one.name}: its last body had ${count(quarantined, "quarantined plan")}.` });
    }
  }
  return found;
}
