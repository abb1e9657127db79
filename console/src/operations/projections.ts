// Projections and their rebuilds as the API gives them.
export interface Partition {
  topic: string;
  partition: number;
  position: number;
  end: number;
  lag_events: number;
  lag_s: number | null;
  last_progress_at: string | null;
}

export interface Version {
  version: string;
  state: string;
  partitions: Partition[];
  parked: number;
  down: { category?: string; since?: string; detail?: string; topic?: string; partition?: number; offset?: number } | null;
}

export interface Projection {
  name: string;
  live: string;
  serving: string | null;
  versions: Version[];
}

export interface Progress {
  share: number;
  events_left: number;
  events_per_s: number | null;
  ready_in_s: number | null;
}

export interface Difference {
  table: string;
  partition: string;
  key: string;
  column: string;
  live: unknown;
  rebuilt: unknown;
}

export interface Rebuild {
  id: string;
  projection: string;
  version: number;
  generation: number;
  state: string;
  paused_in: string | null;
  dry_run: boolean;
  activate: "auto" | "manual";
  events_per_s: number;
  requested_at: string;
  requested_by: string;
  reason: string;
  updated_at: string;
  failure: { category: string; detail: string } | null;
  dropped: boolean;
  live_generation: number;
  kept_generation: number | null;
  different_rows: number | null;
  differences: Difference[] | null;
  certificate: Record<string, unknown> | null;
  progress: Progress | null;
  serving: boolean;
}

export const behind = (version: Version): number => version.partitions.reduce((sum, one) => sum + one.lag_events, 0);

/** When any of its partitions moved last. */
export function moved(version: Version): string | null {
  const times = version.partitions.map((one) => one.last_progress_at).filter((time) => time !== null);
  return times.sort().at(-1) ?? null;
}

export const isUnderWay = (one: Rebuild): boolean =>
  ["hydrating", "lagging", "verifying", "paused"].includes(one.state) || (one.state === "ready" && !one.dropped);

/** Whether it changes without anybody doing anything. */
export const isMoving = (one: Rebuild): boolean => ["hydrating", "lagging", "verifying"].includes(one.state);

export const STATES: Record<string, string> = {
  hydrating: "reads the log from its start",
  lagging: "follows the log, behind the live tables",
  verifying: "is compared with the live tables",
  ready: "verified; nothing but the switch is missing",
  active: "its tables are live",
  rolled_back: "was live, and was rolled back",
  failed: "failed",
  cancelled: "was cancelled",
  paused: "stands still",
};

export const stateOf = (one: Rebuild): string =>
  one.state === "ready" && one.dry_run ? "verified; a dry run, its tables are dropped" : (STATES[one.state] ?? one.state);

export const kindOf = (one: Rebuild): string => {
  if (one.state === "failed") return "bad";
  if (one.state === "active" || one.state === "ready") return one.different_rows ? "warn" : "good";
  return one.state === "paused" ? "warn" : "";
};

export interface Step {
  verb: string;
  label: string;
  kind?: "main" | "danger";
  follows: string;
}

const ACTIVATE: Step = {
  verb: "activate",
  label: "Activate",
  kind: "main",
  follows: "Reads are answered from the rebuilt tables. Those before them stay, and are kept up to date for a rollback.",
};
const ROLL_BACK: Step = {
  verb: "rollback",
  label: "Roll back",
  kind: "danger",
  follows: "Reads are answered from the tables before it again. The rebuilt ones stay, and can be activated once more.",
};
const CANCEL: Step = { verb: "cancel", label: "Cancel", kind: "danger", follows: "The rebuild ends here, and its tables are dropped." };
const PAUSE: Step = { verb: "pause", label: "Pause", follows: "It stands still where it is until somebody resumes it." };
const RESUME: Step = { verb: "resume", label: "Resume", follows: "It goes on where it stands." };
const DROP: Step = {
  verb: "drop",
  label: "Drop",
  kind: "danger",
  follows: "The tables that are kept beside the live ones are removed. Nobody can switch to them after that.",
};

/** What can be done to a rebuild in its state; whether it is allowed, the server says. */
export function stepsOf(one: Rebuild): Step[] {
  switch (one.state) {
    case "hydrating":
    case "lagging":
    case "verifying":
      return [PAUSE, CANCEL];
    case "paused":
      return [RESUME, CANCEL];
    case "ready":
      if (one.dropped) return [];
      return one.dry_run ? [DROP] : [ACTIVATE, DROP];
    case "active":
      if (one.dropped || one.kept_generation === null) return [];
      return [ROLL_BACK, DROP];
    case "rolled_back":
      return one.dropped ? [] : [ACTIVATE, DROP];
  }
  return [];
}
